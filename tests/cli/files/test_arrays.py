"""`.npy` and `.npz` files that announce what is not there, or hold what is never read."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from affinet.cli.files import arrays
from affinet.cli.files.matrix_files import read_matrix, read_vector
from affinet.errors import DataError
from tests.cli.hostile_files import npy, npz, saved

INDEX = {"data": saved([1.0, 2.0]), "indices": saved([0, 1]), "indptr": saved([0, 1, 2]), "shape": saved([2, 3])}
PLACES = {"format": saved(b"coo"), "data": saved([1.0, 2.0]), "row": saved([0, 1]), "col": saved([0, 2])}


def refusal(tmp_path: Path, name: str, content: bytes) -> str:
    """What the error says; it comes before the memory that the file asks for is taken."""
    (tmp_path / name).write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        read_matrix(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            npy("(1000000, 1000000)"),
            "announces what is not there: shape (1000000, 1000000) of float64 takes 8,000,000,00",
        ),
        (npy("(4611686018427387904, 4)"), "takes 147,573,952,589,676,412,928 bytes, and 100 follow"),
        (npy("(-1, 13)"), "its header announces shape (-1, 13)"),
        (npy(f"({'1, ' * 40})"), "its header announces shape (1, 1, 1"),
        (npy("(12,)"), "takes 96 bytes, and 100 follow"),
        (npy("(25,)", "'|O'"), "it holds pickled objects, which are never read"),
        (npy("(1,)", "'<U25'"), "holds text, not numbers"),
        (npy("(1,)", "[('a', '<f8'), ('b', '|O')]"), "A.npy"),
        (npy("(" * 60 + ")" * 60), "A.npy is not a readable .npy file"),
        (npy("(" * 9000 + ")" * 9000), "its header is of version (1, 0) and 18,"),
        (b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little"), "its header is of version (2, 0) and 4,294,967,295"),
        (b"\x93NUMPY\x09\x00" + bytes(50), "A.npy is not a readable .npy file"),
        (b"\x93NUMPY", "A.npy is not a readable .npy file"),
    ],
)
def test_npy(tmp_path: Path, content: bytes, told: str) -> None:
    assert told in refusal(tmp_path, "A.npy", content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npz(A=npy("(1000000, 1000000)")), "announces what is not there"),
        (npz(A=npy("(2, 2)", content=bytes(32)), B=saved(1.0)), "holds 2 arrays (A, B); name one of them"),
        (npz(zipfile.ZIP_LZMA, A=saved([1.0])), "is packed in a way that NumPy does not use"),
        (npz(A=saved([1.0]))[:-30], "it is not a zip archive"),
        (npz(format=saved(b"csr"), **INDEX | {"indices": saved([0, 900])}), "indices must be < 3"),
        (npz(format=saved(b"csr"), **INDEX | {"indices": saved([0, -1])}), "indices must be >= 0"),
        (npz(format=saved(b"csr"), **INDEX | {"indptr": saved([0, 2, 1])}), "A.npz is not a readable .npz file"),
        (npz(format=saved(b"csr"), **INDEX | {"indptr": saved([0.0, 1.0, 2.0])}), "are not whole numbers of two axes"),
        (npz(format=saved(b"csr"), **INDEX | {"shape": saved([2, 3, 4])}), "are not whole numbers of two axes"),
        (npz(format=saved(b"csr"), shape=saved([2, 3])), "a sparse matrix of format csr lacks its 'data'"),
        (
            npz(format=saved(b"dok"), shape=saved([2, 3])),
            "its sparse format is 'dok'; read are csr, csc, bsr, coo, dia",
        ),
        (npz(shape=saved([2**40, 3]), **PLACES), "announces 1,099,511,627,776 rows, and at most 33,554,432 are read"),
        (npz(shape=saved([-2, 3]), **PLACES), "A.npz is not a readable .npz file"),
        (npz(shape=saved([2, 3]), **PLACES | {"row": saved([0, 7])}), "A.npz is not a readable .npz file"),
    ],
)
def test_npz(tmp_path: Path, content: bytes, told: str) -> None:
    assert told in refusal(tmp_path, "A.npz", content)


def test_a_bomb_is_not_unfolded(tmp_path: Path) -> None:
    """A few kilobytes that say 64 MB of zeros, over a limit of 32 MB; then an announced size that lies about it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("affinet.system.unfolding.MOST_UNFOLDED", 2**25)
        told = refusal(tmp_path, "A.npz", npz(A=npy("(8388608,)", content=bytes(2**26))))
    assert "it holds 8,388,608 numbers, which take 67,108,864 bytes, and at most 33,554,432 are unfolded from" in told
    lying = bytearray(npz(A=npy("(4096, 4096)", "'<f4'", bytes(2**26))))
    size = lying.rindex(b"PK\x01\x02") + 24
    lying[size : size + 4] = (200).to_bytes(4, "little")
    assert "A.npz is not a readable .npz file" in refusal(tmp_path, "A.npz", bytes(lying))


def test_whole_numbers_that_grow_eightfold_count_as_what_they_become(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("affinet.system.unfolding.MOST_UNFOLDED", 2**20)
        assert "2,000,000 numbers, which take 16,000,000 bytes" in refusal(
            tmp_path, "A.npz", npz(A=saved(np.zeros(2_000_000, np.int8)))
        )


def test_more_members_than_anyone_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST_MEMBERS", 2)
    assert "it holds 3 members, and at most 2 are read" in refusal(tmp_path, "A.npz", npz(a=b"", b=b"", c=b""))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "A.npz", "w") as archive:
        archive.writestr("A.npy", saved([1.0]))
        archive.writestr("A.npy", saved([2.0]))
    with pytest.raises(DataError, match="two of its members have one name"):
        read_matrix(tmp_path / "A.npz")


def test_a_member_whose_bytes_are_not_what_they_were(tmp_path: Path) -> None:
    content = bytearray(npz(zipfile.ZIP_STORED, A=saved([1.0, 2.0])))
    content[content.index(b"\x93NUMPY") + 130] ^= 1
    assert "Bad CRC-32" in refusal(tmp_path, "A.npz", bytes(content))


def test_a_right_hand_side_that_stores_next_to_nothing(tmp_path: Path) -> None:
    shape = saved([1, 2**40])
    (tmp_path / "b.npz").write_bytes(npz(shape=shape, **PLACES | {"row": saved([0, 0])}))
    with pytest.raises(DataError, match="announces 1,099,511,627,776 numbers and stores 2; write them all"):
        read_vector(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.arange(6, dtype=">i2").reshape(2, 3), np.float16([2])]
)
def test_what_numpy_writes_is_read_as_numpy_reads_it(tmp_path: Path, array: np.ndarray) -> None:
    for order in ("C", "F"):
        np.save(tmp_path / "A.npy", np.asarray(array, order=order))
        np.testing.assert_array_equal(read_matrix(tmp_path / "A.npy"), np.atleast_2d(np.load(tmp_path / "A.npy")))
