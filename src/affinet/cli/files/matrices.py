"""Matrices and vectors from files of every common format; nothing is ever unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from affinet.cli.files.arrays import read_npy, read_npz
from affinet.cli.files.market import read_mtx
from affinet.cli.files.matlab import read_mat
from affinet.cli.words import counted, did_you_mean, listed, one_paragraph
from affinet.errors import DataError
from affinet.system.files import MISSING, unreadable

Loader = Callable[[Path, str | None], Any]

MOST_ROWS = 2**25
"""Of a sparse matrix, each an equation: a row that holds nothing takes memory too."""


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
    if found.ndim > 1 and max(found.shape) != prod(found.shape):
        raise DataError(f"{path} holds an array of shape {found.shape}; a right-hand side is one row or one column.")
    if prod(found.shape) > max(MOST_ROWS, found.size):
        raise DataError(f"{path} announces {prod(found.shape):,} numbers and stores {found.size:,}; write them all.")
    dense = found.toarray() if scipy.sparse.issparse(found) else found
    return np.asarray(dense, dtype=np.float64).reshape(-1)


def _read(path: Path, variable: str | None) -> Any:
    suffix = path.suffix.lower()
    loader = _LOADERS.get(suffix)
    if loader is None:
        raise DataError(f"{path} has no format that affinet reads; it reads {listed(list(_LOADERS))} files.")
    if variable is not None and suffix not in (".npz", ".mat"):
        raise DataError(f"{path} holds one unnamed array, so {variable!r} cannot be looked up in it; name no variable.")
    if reason := unreadable(path):
        if reason == MISSING:
            raise DataError(f"there is no file {path}. Paths in a job are relative to the folder of the job file.")
        raise DataError(f"{path} {reason}. Name a {suffix} file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return _finite_numbers(path, loader(path, variable))
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  parsers of malformed files raise nearly anything
        raise DataError(f"{path} is not a readable {path.suffix} file: {one_paragraph(error)}.") from None


def _read_csv(path: Path, variable: str | None) -> Any:
    del variable
    try:
        return np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float64, encoding="utf-8-sig")
    except ValueError as error:
        wrong = _wrong_line(path) or f": {one_paragraph(error)}"
        way_out = "Write one row of numbers a line, separated by commas, without a header."
        raise DataError(f"{path}{wrong}. {way_out}") from None


def _wrong_line(path: Path) -> str:
    """The first line that is no row of numbers as those before it, counted from one; empty where each is."""
    width = 0
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            cells = line.partition("#")[0].rstrip("\r\n").split(",")
            if cells == [""]:
                continue
            bad = next((cell for cell in cells if not _is_number(cell)), None)
            if bad is not None:
                return f", line {number:,}: {bad.strip()[:40]!r} is no number"
            if width and len(cells) != width:
                return f", line {number:,}: it has {counted(len(cells), 'number')}, and the line before has {width:,}"
            width = len(cells)
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


_LOADERS: dict[str, Loader] = {
    ".npy": lambda path, _: read_npy(path),
    ".npz": lambda path, variable: read_npz(path, partial(_chosen, path, variable)),
    ".mtx": lambda path, _: read_mtx(path),
    ".csv": _read_csv,
    ".mat": lambda path, variable: read_mat(path, partial(_chosen, path, variable)),
}


def _chosen(path: Path, variable: str | None, names: list[str]) -> str:
    if variable is not None and variable not in names:
        raise DataError(f"{path} holds no {variable!r}.{did_you_mean(variable, names)} It holds: {listed(names)}.")
    if variable is None and len(names) != 1:
        way_out = "name one of them with 'variable' (or 'rhs_variable')" if names else "save an array in it"
        raise DataError(f"{path} holds {len(names)} arrays ({listed(names)}); {way_out}.")
    return variable if variable is not None else names[0]


def _finite_numbers(path: Path, found: Any) -> Any:
    if found.dtype.kind not in "biuf":
        kinds = {"c": "complex numbers", "O": "objects, not numbers", "U": "text, not numbers"}
        kind = kinds.get(found.dtype.kind, f"values of type {found.dtype}, not numbers")
        raise DataError(f"{path} holds {kind}; affinet takes real numbers.")
    if scipy.sparse.issparse(found):
        found = _with_right_indices(found)
        values = found.data = np.asarray(found.data, np.float64)
    else:
        values = found = np.asarray(found, np.float64)
    if not np.isfinite(values).all():
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(f"{path} holds {count} NaN or infinite of {values.size} numbers; all must be finite.")
    return found


def _with_right_indices(matrix: Any) -> Any:
    """The matrix, its rows and columns listed; scipy's fast paths trust indices, and a file can lie."""
    if matrix.format in ("csr", "csc", "bsr"):
        # scipy looks at no order where the last start is 0, and at differences of 32 bits, which can wrap round.
        if (matrix.indptr[1:] < matrix.indptr[:-1]).any():
            raise ValueError("the starts of its rows or columns fall where they must rise")
        matrix.check_format(full_check=True)
    rows, columns = matrix.shape
    if rows > MOST_ROWS:
        raise ValueError(f"it announces {rows:,} rows, and at most {MOST_ROWS:,} are read; leave out those of zeros")
    found = scipy.sparse.coo_array(matrix)
    for indices, most in zip((found.row, found.col), (rows, columns), strict=True):
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < most:
            raise ValueError(f"an index lies outside of its shape {matrix.shape}")
    return found
