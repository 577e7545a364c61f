"""Matrices and vectors from files of every common format; nothing is ever unpickled."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from affinet.cli.words import did_you_mean, listed, one_paragraph
from affinet.errors import DataError

Loader = Callable[[Path, str | None], Any]


def read_matrix(path: Path, variable: str | None = None) -> Any:
    """The matrix in `path`: a float64 array of two axes, or a scipy.sparse array; a vector is one row.

    `variable` names the array inside a `.npz` or `.mat` file that holds several. Raises DataError, which names the
    file, where it is missing, malformed, of another format, complex, not finite, or not a matrix.
    """
    found = _read(path, variable)
    if scipy.sparse.issparse(found):
        return scipy.sparse.csr_array(found)
    if found.ndim not in (1, 2):
        raise DataError(f"{path} holds an array of shape {found.shape}; a matrix has two axes.")
    return np.atleast_2d(found)


def read_vector(path: Path, variable: str | None = None) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The vector in `path`: float64, one axis; a matrix of one row or one column is read as a vector.

    Raises DataError as `read_matrix` does.
    """
    found = _read(path, variable)
    dense = found.toarray() if scipy.sparse.issparse(found) else found
    if dense.ndim > 1 and max(dense.shape) != dense.size:
        raise DataError(f"{path} holds an array of shape {dense.shape}; a right-hand side is one row or one column.")
    return np.asarray(dense, dtype=np.float64).reshape(-1)


def _read(path: Path, variable: str | None) -> Any:
    loader = _LOADERS.get(path.suffix.lower())
    if loader is None:
        raise DataError(f"{path} has no format that affinet reads; it reads {listed(list(_LOADERS))} files.")
    if variable is not None and path.suffix.lower() not in (".npz", ".mat"):
        raise DataError(f"{path} holds one unnamed array, so {variable!r} cannot be looked up in it; name no variable.")
    if not path.is_file():
        raise DataError(f"there is no file {path}. Paths in a job are relative to the folder of the job file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = loader(path, variable)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  parsers of malformed files raise nearly anything
        raise DataError(f"{path} is not a readable {path.suffix} file: {one_paragraph(error)}.") from None
    return _finite_numbers(path, found)


def _read_npy(path: Path, variable: str | None) -> Any:
    del variable
    with path.open("rb") as file:
        magic = file.read(6)
    if magic != b"\x93NUMPY":
        raise DataError(f"{path} is not a .npy file: it does not begin as one (pickled files are never read).")
    return np.load(path, allow_pickle=False)


def _read_npz(path: Path, variable: str | None) -> Any:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not a .npz file: it is no zip archive (pickled files are never read).")
    with np.load(path, allow_pickle=False) as archive:
        if {"format", "shape"} <= set(archive.files):
            return _checked(scipy.sparse.load_npz(path))
        return archive[_chosen(path, archive.files, variable)]


def _read_mtx(path: Path, variable: str | None) -> Any:
    del variable
    return scipy.io.mmread(path)


def _read_csv(path: Path, variable: str | None) -> Any:
    del variable
    return np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float64, encoding="utf-8-sig")


def _read_mat(path: Path, variable: str | None) -> Any:
    try:
        content: Mapping[str, Any] = scipy.io.loadmat(path, appendmat=False)
    except NotImplementedError:
        way_out = f"In MATLAB, save it again with: save('{path.name}', 'A', '-v7')"
        raise DataError(f"{path} is a MATLAB v7.3 (HDF5) file, and affinet reads up to v7. {way_out}.") from None
    return content[_chosen(path, [name for name in content if not name.startswith("__")], variable)]


_LOADERS: dict[str, Loader] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".mtx": _read_mtx,
    ".csv": _read_csv,
    ".mat": _read_mat,
}


def _chosen(path: Path, names: list[str], variable: str | None) -> str:
    if variable is not None and variable not in names:
        raise DataError(f"{path} holds no {variable!r}.{did_you_mean(variable, names)} It holds: {listed(names)}.")
    if variable is None and len(names) != 1:
        way_out = "name one of them with 'variable' (or 'rhs_variable')" if names else "save an array in it"
        raise DataError(f"{path} holds {len(names)} arrays ({listed(names)}); {way_out}.")
    return variable if variable is not None else names[0]


def _checked(matrix: Any) -> Any:
    """The matrix, after a full check of its indices: scipy's fast paths trust them, and a file can lie."""
    if matrix.format in ("csr", "csc", "bsr"):
        matrix.check_format(full_check=True)
    return matrix


def _finite_numbers(path: Path, found: Any) -> Any:
    if not scipy.sparse.issparse(found):
        found = np.asarray(found)
    if found.dtype.kind not in "biuf":
        kinds = {"c": "complex numbers", "O": "objects, not numbers", "U": "text, not numbers"}
        kind = kinds.get(found.dtype.kind, f"values of type {found.dtype}, not numbers")
        raise DataError(f"{path} holds {kind}; affinet takes real numbers.")
    found = found.astype(np.float64)
    values = found.tocoo().data if scipy.sparse.issparse(found) else found
    if not np.isfinite(values).all():
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(f"{path} holds {count} NaN or infinite of {values.size} numbers; all must be finite.")
    return found
