"""Matrix Market files whose sizes are not those of what follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from affinet.cli.files.matrix_files import read_matrix
from tests.cli.files.test_arrays import refusal

ARRAY, COORDINATE = "%%MatrixMarket matrix array real general\n", "%%MatrixMarket matrix coordinate real general\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            ARRAY + "1000000000 1000000000\n1\n",
            "its sizes announce 1,000,000,000,000,000,000 numbers, and 2 bytes follow",
        ),
        (COORDINATE + "2 2 1000000000\n1 1 1\n", "its sizes announce 1,000,000,000 numbers, and 6 bytes follow"),
        (COORDINATE + "1000000000 2 1\n1 1 1\n", "it announces 1,000,000,000 rows, and at most 33,554,432 are read"),
        (COORDINATE + "2 2 1\n3 1 1\n", "a row or a column is not between 1 and (2, 2)"),
        (COORDINATE + "2 2 1\n0 1 1\n", "a row or a column is not between 1 and (2, 2)"),
        (COORDINATE + "2 2 1\n1.5 1 1\n", "a row or a column is not between 1 and (2, 2)"),
        (COORDINATE + "2 2 1\nnan 1 1\n", "a row or a column is not between 1 and (2, 2)"),
        (COORDINATE + "2 2 2\n1 1 1.00000\n", "its sizes announce 2 lines of 3 numbers, and not (1, 3)"),
        (COORDINATE + "2 2 1\n1 1 1\n1 2 1\n", "its sizes announce 1 lines of 3 numbers, and not (2, 3)"),
        (ARRAY + "2 2\n1\n2\n3\n4\n5\n", "its sizes announce 4 numbers, and 5 follow"),
        (ARRAY + "2 2\n1\n2\nthree\n4\n", "A.mtx is not a readable .mtx file"),
        (ARRAY.replace("real", "pattern") + "1 1\n1\n", "its sizes announce 1 numbers, and 1 follow"),
        (
            ARRAY.replace("general", "skew-symmetric") + "1 3\n1\n2\n3\n",
            "it is skew-symmetric and has the shape (1, 3)",
        ),
        (COORDINATE + "-2 2 1\n1 1 1\n", "'-2 2 1\\n' is not a line of sizes"),
        (COORDINATE + "2 2\n1 1 1\n", "is not a line of sizes"),
        (ARRAY + "9999999999999999999999 1\n", "is not a line of sizes"),
        (ARRAY, "'' is not a line of sizes"),
        (ARRAY.replace("general", "symmetric") + "100000 100000\n1\n", "its sizes announce 5,000,050,000 numbers"),
        ("%%MatrixMarket vector array real general\n1\n1\n", "its first line is not that of a Matrix Market file"),
        (COORDINATE + "2 2 1\n1 1 1e999\n", "A.mtx"),
        (COORDINATE.replace("real", "complex") + "2 2 1\n1 1 1 1\n", "holds complex numbers"),
    ],
)
def test_hostile_files(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(tmp_path, "A.mtx", text.encode())


@pytest.mark.parametrize("symmetry", ["general", "symmetric", "skew-symmetric"])
def test_every_symmetry_is_read(tmp_path: Path, symmetry: str) -> None:
    body = {"general": "1\n2\n3\n4\n", "symmetric": "1\n2\n4\n", "skew-symmetric": "2\n"}[symmetry]
    path = tmp_path / "A.mtx"
    path.write_text(f"%%MatrixMarket MATRIX array real {symmetry}\n% a comment\n\n2 2\n{body}")
    expected = {"general": [[1, 3], [2, 4]], "symmetric": [[1, 2], [2, 4]], "skew-symmetric": [[0, -2], [2, 0]]}
    np.testing.assert_array_equal(read_matrix(path), expected[symmetry])


@pytest.mark.parametrize("symmetry", ["general", "symmetric", "skew-symmetric"])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("integers", [False, True])
def test_what_scipy_writes_is_read(tmp_path: Path, symmetry: str, sparse: bool, integers: bool) -> None:
    matrix = np.random.default_rng(0).integers(-3, 4, (5, 5)).astype(np.int64 if integers else np.float64)
    matrix = {"general": matrix[:3], "symmetric": matrix + matrix.T, "skew-symmetric": matrix - matrix.T}[symmetry]
    path = tmp_path / "A.mtx"
    scipy.io.mmwrite(path, scipy.sparse.coo_array(matrix) if sparse else matrix, comment="a comment")
    assert symmetry in path.read_text()
    found = read_matrix(path)
    np.testing.assert_array_equal(found.toarray() if sparse else found, matrix)


def test_patterns_other_line_ends_and_nothing_but_zeros(tmp_path: Path) -> None:
    path = tmp_path / "A.mtx"
    path.write_text(COORDINATE.replace("real", "pattern").replace("general", "symmetric") + "3 3 2\n2 1\n3 3\n")
    np.testing.assert_array_equal(read_matrix(path).toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    path.write_bytes(COORDINATE.encode() + b"2 3 1\r\n1 2 0.5\r\n")
    np.testing.assert_array_equal(read_matrix(path).toarray(), [[0, 0.5, 0], [0, 0, 0]])
    path.write_text(COORDINATE + "2 3 0\n")
    np.testing.assert_array_equal(read_matrix(path).toarray(), np.zeros((2, 3)))
