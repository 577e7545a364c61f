from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from affinet.cli.files.matrix_files import read_matrix, read_vector
from affinet.errors import DataError

A = np.array([[1.0, 0.0, -2.5], [0.0, 3.0, 0.0]])
SPARSE = scipy.sparse.coo_array(A)


def write(path: Path, name: str, value: Any) -> Path:
    """Write `value` into a file of the kind that `name` says, as its own tools do."""
    file = path / name
    match file.suffix, scipy.sparse.issparse(value):
        case ".npy", False:
            np.save(file, value)
        case ".npz", False:
            np.savez(file, A=value)
        case ".npz", True:
            scipy.sparse.save_npz(file, value)
        case ".mtx", _:
            scipy.io.mmwrite(file, value)
        case ".csv", False:
            np.savetxt(file, value, delimiter=",")
        case ".mat", _:
            scipy.io.savemat(file, {"A": value.tocsc() if scipy.sparse.issparse(value) else value})
    return file


@pytest.mark.parametrize("name", ["A.npy", "A.npz", "A.mtx", "A.csv", "A.mat", "A.NPY"])
def test_a_dense_matrix_is_read_from_each_format(tmp_path: Path, name: str) -> None:
    write(tmp_path, name.lower(), A).rename(tmp_path / name)
    found = read_matrix(tmp_path / name)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, A)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("name", ["A.npz", "A.mtx", "A.mat"])
def test_a_sparse_matrix_stays_sparse(tmp_path: Path, name: str, kind: str) -> None:
    found = read_matrix(write(tmp_path, name, SPARSE.asformat(kind)))
    assert scipy.sparse.issparse(found)
    np.testing.assert_array_equal(found.toarray(), A)


def test_whole_numbers_and_truth_values_are_numbers(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_matrix(write(tmp_path, "A.npy", A.astype(np.int8))), A.astype(np.int8))
    np.testing.assert_array_equal(read_matrix(write(tmp_path, "A.npy", A > 0)), A > 0)


def test_a_vector_is_read_as_one_equation_and_a_column_as_a_right_hand_side(tmp_path: Path) -> None:
    b = np.array([1.0, 2.0, 3.0])
    assert read_matrix(write(tmp_path, "b.npy", b)).shape == (1, 3)
    for name, value in [("b.npy", b), ("b.npy", np.float64(4)), ("b.csv", b), ("b.mat", b), ("b.mtx", b[:, None])]:
        np.testing.assert_array_equal(read_vector(write(tmp_path, name, value)), np.ravel(value))
    np.testing.assert_array_equal(read_vector(write(tmp_path, "b.npz", scipy.sparse.csr_array(b[:, None]))), b)


def test_a_variable_chooses_among_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "A.npz", first=A, second=2 * A)
    scipy.io.savemat(tmp_path / "A.mat", {"first": A, "second": 2 * A})
    for name in ("A.npz", "A.mat"):
        np.testing.assert_array_equal(read_matrix(tmp_path / name, "second"), 2 * A)
        with pytest.raises(DataError, match=r"holds 2 arrays \(first, second\); name one of them with 'variable'"):
            read_matrix(tmp_path / name)
        with pytest.raises(DataError, match=r"holds no 'secnd'. Did you mean 'second'\? It holds: first, second."):
            read_matrix(tmp_path / name, "secnd")
    with pytest.raises(DataError, match="holds one unnamed array, so 'first' cannot be looked up"):
        read_matrix(write(tmp_path, "A.npy", A), "first")


def test_what_is_no_matrix_of_finite_real_numbers_is_refused(tmp_path: Path) -> None:
    refused = [
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\); a matrix has two axes"),
        (A * 1j, "holds complex numbers; affinet takes real numbers"),
        (np.array([["a"]]), "holds text, not numbers"),
        (np.array([[1.0, np.nan], [np.inf, 0.0]]), "holds 2 NaN or infinite of 4 numbers"),
    ]
    for value, message in refused:
        with pytest.raises(DataError, match=message):
            read_matrix(write(tmp_path, "A.npy", value))
    with pytest.raises(DataError, match=r"shape \(2, 3\); a right-hand side is one row or one column"):
        read_vector(write(tmp_path, "A.npy", A))
    with pytest.raises(DataError, match="holds 1 NaN or infinite of 1 numbers"):
        read_matrix(write(tmp_path, "A.npz", scipy.sparse.coo_array(([np.inf], ([0], [1])), shape=(2, 3))))


class Bomb:
    """Leaves a mark if it is ever unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def test_nothing_is_ever_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = np.array([Bomb()], dtype=object)
    np.save("A.npy", bomb, allow_pickle=True)
    np.savez("A.npz", A=bomb)
    for name in ("A.npy", "A.npz"):
        with pytest.raises(DataError, match=f"{name} is not a readable .np. file: it holds pickled objects, which are"):
            read_matrix(tmp_path / name)
    for name in ("raw.npy", "raw.npz"):
        Path(name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(DataError, match="pickled files are never read"):
            read_matrix(tmp_path / name)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("name", ["A.npy", "A.npz", "A.mtx", "A.csv", "A.mat"])
@pytest.mark.parametrize("content", [b"", b"nonsense\n\x00\xff", b"%%MatrixMarket matrix array real general\n2 2\n1\n"])
def test_a_malformed_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}(, line 1:| is not a| holds)"):
        read_matrix(tmp_path / name)


@pytest.mark.parametrize("name", ["A.npy", "A.npz", "A.mat"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, name, np.arange(400.0).reshape(20, 20))
    file.write_bytes(file.read_bytes()[:-700])
    with pytest.raises(DataError, match=rf"{name} is not a"):
        read_matrix(file)


def test_sparse_indices_that_lie_are_found(tmp_path: Path) -> None:
    fields = {"format": b"csr", "shape": [2, 3], "data": [1.0, 2.0], "indices": [0, 900], "indptr": [0, 1, 2]}
    np.savez(tmp_path / "A.npz", **{name: np.array(value) for name, value in fields.items()})
    with pytest.raises(DataError, match=r"A.npz is not a readable .npz file: .*indices must be < 3"):
        read_matrix(tmp_path / "A.npz")


def test_matlab_7_3_is_refused_with_the_way_out(tmp_path: Path) -> None:
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (tmp_path / "A.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(DataError, match=r"MATLAB v7.3 \(HDF5\) file, and affinet reads up to v7. .* '-v7'\)"):
        read_matrix(tmp_path / "A.mat")


def test_missing_files_and_other_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*A.npy. Paths in a job are relative to the folder"):
        read_matrix(tmp_path / "A.npy")
    with pytest.raises(
        DataError, match=r"A.pkl has no format that affinet reads; it reads .npy, .npz, .mtx, .csv, .mat"
    ):
        read_matrix(tmp_path / "A.pkl")


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "A.npy")
    (tmp_path / "A.mat").mkdir()
    with pytest.raises(DataError, match=r"A.npy is a pipe or a device, not a file. Name a .npy file."):
        read_matrix(tmp_path / "A.npy")
    with pytest.raises(DataError, match=r"A.mat is a folder, not a file. Name a .mat file."):
        read_vector(tmp_path / "A.mat")
    with pytest.raises(DataError, match=r"cannot be read: embedded null byte"):
        read_matrix(tmp_path / "A\0.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "c0,c1\n1,2\n": r"line 1: 'c0' is not a number",
        "# header\n1,2\n\n3,\n": r"line 4: '' is not a number",
        "1,2\n3\n": r"line 2: it has 1 number, and the line before has 2",
        "1;2\n": r"line 1: '1;2' is not a number",
        "1,1_0\n": r"line 1: '1_0' is not a number",
    }.items(),
)
def test_a_table_that_is_no_matrix_is_told_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "A.csv").write_text(text)
    way_out = r"\. Write one row of numbers per line, separated by commas, without a header\."
    with pytest.raises(DataError, match=r"A\.csv, " + said + way_out):
        read_matrix(tmp_path / "A.csv")


@pytest.mark.parametrize("starts", [[0, 2, 0], [0, 2**31 - 1, -(2**31)], [0, -1, 0]])
def test_starts_that_fall_are_refused_before_scipy_writes_beyond_its_memory(tmp_path: Path, starts: list[int]) -> None:
    """With a last start of 0 scipy checks no order, and differences of 32 bits wrap round."""
    np.savez(
        tmp_path / "A.npz",
        format=np.array("csc"),
        shape=np.array([4, 2]),
        data=np.ones(2),
        indices=np.zeros(2, np.int32),
        indptr=np.array(starts, np.int32),
    )
    with pytest.raises(DataError, match=r"decrease|not a readable"):
        read_matrix(tmp_path / "A.npz")
