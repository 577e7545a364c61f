"""`.mat` files: what scipy and MATLAB write is read, and what no file says is refused before memory is taken."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from affinet.cli.files.matrix_files import read_matrix
from affinet.system import matlab
from tests.cli.files.test_arrays import refusal
from tests.cli.hostile_files import mat, matrix, part, part_unpadded

A = np.array([[1.0, 0.0, -2.5], [0.0, 3.0, 0.0]])
FOUR = part(9, np.arange(4.0).tobytes())


@pytest.mark.parametrize("kind", ["4", "5", "compressed"])
@pytest.mark.parametrize(
    "value",
    [
        A,
        A.astype(np.int8),
        A.astype(np.float32),
        A > 0,
        np.zeros((0, 3)),
        np.array([[7]], np.uint16),
        scipy.sparse.csc_array(A),
    ],
    ids=["float64", "int8", "float32", "logical", "empty", "in its own tag", "sparse"],
)
def test_what_scipy_writes_is_read_as_scipy_reads_it(tmp_path: Path, kind: str, value: Any) -> None:
    path = tmp_path / "A.mat"
    scipy.io.savemat(path, {"A": value}, format=kind[0] if kind == "4" else "5", do_compression=kind == "compressed")
    found, expected = read_matrix(path), scipy.io.loadmat(path)["A"]
    assert scipy.sparse.issparse(found) == scipy.sparse.issparse(expected)
    dense = [each.toarray() if scipy.sparse.issparse(each) else each for each in (found, expected)]
    np.testing.assert_array_equal(*dense)


@pytest.mark.parametrize("compressed", [False, True])
def test_other_variables_are_known_by_name_alone(tmp_path: Path, compressed: bool) -> None:
    cell = np.array([A, "a"], dtype=object)
    content = {"A": A, "words": "words", "cell": cell, "struct": {"a": A}, "z": A * 1j}
    scipy.io.savemat(tmp_path / "A.mat", content, do_compression=compressed)
    np.testing.assert_array_equal(read_matrix(tmp_path / "A.mat", "A"), A)
    for name, told in [("words", "text"), ("cell", "cells"), ("struct", "structs"), ("z", "complex numbers")]:
        with pytest.raises(matlab.DataError, match=rf"'{name}' holds {told}"):
            read_matrix(tmp_path / "A.mat", name)


def test_the_other_order_of_bytes(tmp_path: Path) -> None:
    flags, dims = struct.pack(">II", 6, 0), struct.pack(">ii", 1, 2)
    parts = [(6, flags), (5, dims), (1, b"A\0\0\0\0\0\0\0"), (9, np.array([1.0, 2.0], ">f8").tobytes())]
    content = b"".join(struct.pack(">II", kind, 1 if kind == 1 else len(data)) + data for kind, data in parts)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    (tmp_path / "A.mat").write_bytes(head + struct.pack(">II", 14, len(content)) + content)
    np.testing.assert_array_equal(read_matrix(tmp_path / "A.mat"), [[1.0, 2.0]])


def nested(depth: int) -> bytes:
    content = matrix(FOUR)
    for _ in range(depth):
        content = matrix(content, cls=1, dims=(1, 1))
    return content


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("element", "told"),
    [
        (matrix(FOUR, dims=(2**31 - 1, 2**31 - 1)), "4,611,686,014,132,420,609 numbers"),
        (matrix(FOUR, dims=(2, 3)), "'A' has shape (2, 3) and 4 numbers"),
        (matrix(FOUR, dims=(-2, -2)), "a variable has shape (-2, -2)"),
        (matrix(FOUR, dims=(4,)), "a variable has shape (4,)"),
        (matrix(part(9, bytes(32), length=2**31)), "a part of kind 9 and 2,147,483,648 bytes, which is not there"),
        (matrix(part(99, bytes(32))), "a part of kind 99"),
        (matrix(part(9, bytes(31))), "a part of 31 bytes, which are not float64 numbers"),
        (matrix(), "ends before one of its parts"),
        (matrix(FOUR, flags=0x0800), "'A' holds complex numbers"),
        (matrix(FOUR, cls=16), "'A' holds objects, not numbers"),
        (part(14, part(6, struct.pack("<II", 17, 0)) + part(1, b"A") * 3), "'A' holds objects, not numbers"),
        (nested(300), "'A' holds cells, not numbers"),
        (part(14, b""), "A.mat is not a readable .mat file"),
        (part(9, bytes(8)), "A.mat is not a readable .mat file"),
        (
            matrix(part(5, b"\0" * 8), part(5, struct.pack("<3i", 0, 1, 9)), FOUR, cls=5),
            "its parts do not fit its shape",
        ),
        (matrix(part(5, struct.pack("<2i", 0, 900)), part(5, struct.pack("<3i", 0, 1, 2)), FOUR, cls=5), "must be < 2"),
        (
            matrix(part(5, struct.pack("<2i", 0, 0)), part(5, struct.pack("<3i", 0, 2, 1)), FOUR, cls=5),
            "A.mat is not a",
        ),
    ],
)
def test_hostile_variables(tmp_path: Path, element: bytes, told: str, compressed: bool) -> None:
    assert told in refusal(tmp_path, "A.mat", mat(element, compressed=compressed))


def test_a_bomb_is_not_unfolded(tmp_path: Path) -> None:
    content = mat(matrix(part(9, bytes(2**26)), dims=(2**23, 1)), compressed=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("affinet.system.unfolding.MOST_UNFOLDED", 2**25)
        assert "and at most 33,554,432 are unfolded from" in refusal(tmp_path, "A.mat", content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (mat(matrix(FOUR))[:-8], "which is not there"),
        (mat(matrix(FOUR)) + b"x", "inside of a variable"),
        (mat(part_unpadded(b"nonsense")), "A.mat is not a readable .mat file"),
        (mat(matrix(FOUR), matrix(FOUR)), "two of its variables have one name"),
        (mat(), "holds 0 arrays"),
        (b"MATLAB".ljust(124) + b"\x00\x03IM", "it is of version 3.0"),
        (b"MATLAB".ljust(124) + b"\x00\x01XX", "it does not begin like one"),
        (struct.pack("<5i", 0, 2**31 - 1, 2**31 - 1, 0, 2) + b"A\0", "announces 2147483647 by 2147483647 numbers"),
        (struct.pack("<5i", 0, -1, -1, 0, 2) + b"A\0" + bytes(8), "announces -1 by -1 numbers"),
        (struct.pack("<5i", 0, 1, 1, 0, 2**30) + b"A\0", "byte 0 is not the start of a variable"),
        (struct.pack("<5i", 90, 1, 1, 0, 2) + b"A\0" + bytes(8), "byte 0 is not the start of a variable"),
        (struct.pack("<5i", 1, 1, 1, 0, 2) + b"A\0" + bytes(8), "'A' holds text"),
        (struct.pack("<5i", 0, 1, 1, 1, 2) + b"A\0" + bytes(16), "'A' holds complex numbers"),
        (struct.pack("<5i", 2, 1, 3, 0, 2) + b"A\0" + bytes(24), "its rows and columns are not counted from 1"),
        (
            struct.pack("<5i", 2, 2, 3, 0, 2) + b"A\0" + np.array([9.0, 2, 9, 2, 1, 0]).tobytes(),
            "A.mat is not a readable",
        ),
    ],
)
def test_hostile_files(tmp_path: Path, content: bytes, told: str) -> None:
    assert told in refusal(tmp_path, "A.mat", content)


@pytest.mark.parametrize(
    "content", [mat(matrix(FOUR), matrix(FOUR, name=b"B")), (struct.pack("<5i", 0, 0, 0, 0, 2) + b"A\0") * 2]
)
def test_more_variables_than_anyone_means(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MOST_VARIABLES", 1)
    assert "it holds more than 1 variables" in refusal(tmp_path, "A.mat", content)


def test_a_compressed_variable_whose_bytes_are_not_what_they_were(tmp_path: Path) -> None:
    content = mat(matrix(FOUR), compressed=True)
    assert "A.mat is not a readable .mat file" in refusal(tmp_path, "A.mat", content[:-1] + bytes([content[-1] ^ 1]))
    packed = zlib.compress(matrix(FOUR))[:-4]
    assert "ends before its checksum" in refusal(tmp_path, "A.mat", mat(part_unpadded(packed)))
