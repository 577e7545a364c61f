"""Matrix Market files whose sizes are not those of what follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from affinet.cli.matrices import read_matrix
from tests.cli.test_arrays import refusal

ARRAY, COORDINATE = "%%MatrixMarket matrix array real general\n", "%%MatrixMarket matrix coordinate real general\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            ARRAY + "1000000000 1000000000\n1\n",
            "its sizes announce 1,000,000,000,000,000,000 lines, and 2 bytes follow",
        ),
        (COORDINATE + "2 2 1000000000\n1 1 1\n", "its sizes announce 1,000,000,000 lines, and 6 bytes follow"),
        (COORDINATE + "1000000000 2 1\n1 1 1\n", "it announces 1,000,000,000 rows, and at most 33,554,432 are read"),
        (COORDINATE + "2 2 1\n3 1 1\n", "A.mtx is not a readable .mtx file"),
        (COORDINATE + "2 2 1\n0 1 1\n", "A.mtx is not a readable .mtx file"),
        (COORDINATE + "-2 2 1\n1 1 1\n", "b'-2 2 1\\n' are not its sizes"),
        (COORDINATE + "2 2\n1 1 1\n", "are not its sizes"),
        (ARRAY + "9999999999999999999999 1\n", "are not its sizes"),
        (ARRAY, "b'' are not its sizes"),
        (ARRAY.replace("general", "symmetric") + "100000 100000\n1\n", "its sizes announce 4,999,950,000 lines"),
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
