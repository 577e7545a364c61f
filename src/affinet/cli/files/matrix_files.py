"""Read matrices and vectors from files of all common formats; nothing is ever unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from affinet.cli.files.arrays import read_npy, read_npz
from affinet.cli.files.market import read_mtx
from affinet.cli.words import counted, did_you_mean, listed, one_paragraph
from affinet.errors import DataError
from affinet.system.files import MISSING, unreadable
from affinet.system.matlab import read_mat
from affinet.system.sparse_checks import MOST_ROWS, with_checked_indices

Loader = Callable[[Path, str | None], Any]

_ROWS = "Write one row of numbers per line, separated by commas, without a header."


def read_matrix(path: Path, variable: str | None = None) -> Any:
    """The matrix in `path`: a float64 array of two axes, or a scipy.sparse array; a vector is one row.

    `variable` names the array inside a `.npz` or `.mat` file that holds several. Raises DataError, which names the
    file, where it is missing, malformed, of another format, complex, not finite, or not a matrix.
    """
    matrix = _read(path, variable)
    if scipy.sparse.issparse(matrix):
        return scipy.sparse.csr_array(matrix)
    if matrix.ndim not in (1, 2):
        raise DataError(f"{path} holds an array of shape {matrix.shape}; a matrix has two axes.")
    return np.atleast_2d(matrix)


def read_vector(
    path: Path, variable: str | None = None, *, bounds: bool = False
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The vector in `path`: float64, one axis; a matrix of one row or one column is read as a vector.

    With `bounds` its numbers may be infinite. Raises DataError as `read_matrix` does.
    """
    array = _read(path, variable, bounds=bounds)
    if array.ndim > 1 and max(array.shape) != prod(array.shape):
        raise DataError(f"{path} holds an array of shape {array.shape}; a right-hand side is one row or one column.")
    if prod(array.shape) > max(MOST_ROWS, array.size):
        raise DataError(f"{path} announces {prod(array.shape):,} numbers and stores {array.size:,}; write them all.")
    values = array.toarray() if scipy.sparse.issparse(array) else array
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _read(path: Path, variable: str | None, *, bounds: bool = False) -> Any:
    suffix = path.suffix.lower()
    loader = _LOADERS.get(suffix)
    if loader is None:
        raise DataError(f"{path} has no format that affinet reads; it reads {listed(list(_LOADERS))} files.")
    if variable is not None and suffix not in (".npz", ".mat"):
        raise DataError(f"{path} holds one unnamed array, so {variable!r} cannot be looked up in it; name no variable.")
    check_readable(path)
    with refusing_malformed(path), warnings.catch_warnings():
        warnings.simplefilter("error")
        return _checked_numbers(path, loader(path, variable), bounds=bounds)


def check_readable(path: Path) -> None:
    """Raise DataError where there is no file to read."""
    if reason := unreadable(path):
        if reason == MISSING:
            raise DataError(f"there is no file {path}. Paths in a job are relative to the folder of the job file.")
        raise DataError(f"{path} {reason}. Name a {path.suffix.lower()} file.")


@contextmanager
def refusing_malformed(path: Path) -> Iterator[None]:
    """Raise a DataError that names the file for whatever its parser raises inside."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  parsers of malformed files raise nearly anything
        raise DataError(f"{path} is not a readable {path.suffix} file: {one_paragraph(error)}.") from None


def read_lines_of_numbers(path: Path) -> list[tuple[int, np.ndarray[Any, np.dtype[np.float64]]]]:
    """The number of each line of a `.csv` file that is not empty, from 1, and its numbers: lines may differ in length.

    Raises DataError as `read_matrix` does.
    """
    check_readable(path)
    rows = []
    with refusing_malformed(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            cells = _cells(line)
            if mistake := _bad_cell(number, cells):
                raise DataError(f"{path}{mistake}. {_ROWS}")
            if cells:
                rows.append((number, _checked_numbers(path, np.array(cells, np.float64), bounds=False)))
    return rows


def _read_csv(path: Path, variable: str | None) -> Any:
    del variable
    try:
        return np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float64, encoding="utf-8-sig")
    except ValueError as error:
        mistake = _first_malformed_line(path) or f": {one_paragraph(error)}"
        raise DataError(f"{path}{mistake}. {_ROWS}") from None


def _cells(line: str) -> list[str]:
    """The cells of a line, without its comment; none where nothing else is in it."""
    text = line.partition("#")[0].strip()
    return text.split(",") if text else []


def _bad_cell(number: int, cells: list[str]) -> str:
    """What is wrong with a line of this number; an empty text where all cells are numbers."""
    bad_cell = next((cell for cell in cells if not _is_number(cell)), None)
    return "" if bad_cell is None else f", line {number:,}: {bad_cell.strip()[:40]!r} is not a number"


def _first_malformed_line(path: Path) -> str:
    """What is wrong with the first malformed line, with its number; an empty text where no line is malformed."""
    width = 0
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            cells = _cells(line)
            if not cells:
                continue
            if mistake := _bad_cell(number, cells):
                return mistake
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
    ".npz": lambda path, variable: read_npz(path, partial(choose_variable, path, variable)),
    ".mtx": lambda path, _: read_mtx(path),
    ".csv": _read_csv,
    ".mat": lambda path, variable: read_mat(path, partial(choose_variable, path, variable)),
}


def choose_variable(path: Path, variable: str | None, names: list[str]) -> str:
    """The variable to read: the one that is asked for, or the only one. Raises DataError."""
    if variable is not None and variable not in names:
        raise DataError(f"{path} holds no {variable!r}.{did_you_mean(variable, names)} It holds: {listed(names)}.")
    if variable is None and len(names) != 1:
        way_out = "name one of them with 'variable' (or 'rhs_variable')" if names else "save an array in it"
        raise DataError(f"{path} holds {len(names)} arrays ({listed(names)}); {way_out}.")
    return variable if variable is not None else names[0]


def _checked_numbers(path: Path, array: Any, *, bounds: bool) -> Any:
    """The numbers as float64. Raises DataError for other values, for NaN, and for infinities that are not `bounds`."""
    if array.dtype.kind not in "biuf":
        kinds = {"c": "complex numbers", "O": "objects, not numbers", "U": "text, not numbers"}
        kind = kinds.get(array.dtype.kind, f"values of type {array.dtype}, not numbers")
        raise DataError(f"{path} holds {kind}; affinet takes real numbers.")
    if scipy.sparse.issparse(array):
        array = with_checked_indices(array)
        values = array.data = np.asarray(array.data, np.float64)
    else:
        values = array = np.asarray(array, np.float64)
    wrong = np.isnan(values) if bounds else ~np.isfinite(values)
    if wrong.any():
        kind, allowed = ("NaN", "finite or infinite") if bounds else ("NaN or infinite", "finite")
        raise DataError(
            f"{path} holds {np.count_nonzero(wrong)} {kind} of {values.size} numbers; all must be {allowed}."
        )
    return array
