"""Read Matrix Market files: compare the sizes in the header with the length of the file, then let NumPy read numbers.

scipy's reader is faster and trusts the header: it writes outside its memory where a symmetric array is not square.
Source: Boisvert, Pozo, Remington, The Matrix Market Exchange Formats, NIST IR 5935 (1996).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import scipy.sparse

from affinet.system.unfolding import refusal_of_size

Array = np.ndarray[Any, np.dtype[Any]]

LONGEST_LINE = 2**16
_BANNER = re.compile(
    r"%%MatrixMarket\s+matrix\s+(array|coordinate)\s+(real|double|integer|unsigned-integer|pattern|complex)"
    r"\s+(general|symmetric|skew-symmetric|hermitian)\s*",
    re.IGNORECASE | re.ASCII,
)
_SIZES = re.compile(r"\s*(\d{1,18})\s+(\d{1,18})(?:\s+(\d{1,18}))?\s*", re.ASCII)


@dataclass(frozen=True)
class _Header:
    """The content of the lines before the numbers; `lines` is how many lines of numbers follow."""

    sparse: bool
    pattern: bool
    symmetry: str
    rows: int
    columns: int
    lines: int

    @property
    def sign(self) -> float:
        """The factor of an entry at its mirrored place; 0 where the matrix is not mirrored."""
        return {"general": 0.0, "skew-symmetric": -1.0}.get(self.symmetry, 1.0)


def read_mtx(path: Path) -> Any:
    """A dense array, or a scipy.sparse one whose indices are valid. Raises ValueError."""
    size = path.stat().st_size
    with path.open(encoding="latin-1", newline="\n") as file:
        header = _header(file, size)
        numbers = np.zeros((0, 3))
        if header.lines:
            numbers = np.loadtxt(file, dtype=np.float64, comments="%", ndmin=2, max_rows=header.lines + 1)
    return _sparse(header, numbers) if header.sparse else _dense(header, numbers)


def _header(file: TextIO, size: int) -> _Header:
    banner_line = file.readline(LONGEST_LINE)
    banner = _BANNER.fullmatch(banner_line)
    if banner is None:
        raise ValueError("its first line is not that of a Matrix Market file of a matrix")
    layout, field, symmetry = (word.lower() for word in banner.groups())
    bytes_read, line = len(banner_line), "%"
    while line.startswith("%") or (line and not line.strip()):
        line = file.readline(LONGEST_LINE)
        bytes_read += len(line)
    sizes, sparse = _SIZES.fullmatch(line), layout == "coordinate"
    if sizes is None or (sizes[3] is not None) != sparse:
        raise ValueError(f"{line[:60]!r} is not a line of sizes")
    if field == "complex":
        raise ValueError("it holds complex numbers; affinet takes real numbers")
    rows, columns, stored = (int(number or 0) for number in sizes.groups())
    if symmetry != "general" and rows != columns:
        raise ValueError(f"it is {symmetry} and has the shape ({rows:,}, {columns:,})")
    triangle = rows * (rows - 1) // 2 if symmetry == "skew-symmetric" else rows * (rows + 1) // 2
    lines = stored if sparse else rows * columns if symmetry == "general" else triangle
    shortest_line = 4 if sparse else 2  # "1 1" or "1", and the end of the line
    if lines * shortest_line > size - bytes_read + 1:
        raise ValueError(f"its sizes announce {lines:,} numbers, and {size - bytes_read:,} bytes follow")
    if reason := refusal_of_size(size, 2 * stored if sparse else rows * columns, 8):
        raise ValueError(f"it holds {reason}")
    return _Header(sparse, field == "pattern", symmetry, rows, columns, lines)


def _dense(header: _Header, numbers: Array) -> Array:
    """The matrix from its columns; a symmetric one stores them from the diagonal down, a skew one from below it."""
    if numbers.size != header.lines or header.pattern:
        raise ValueError(f"its sizes announce {header.lines:,} numbers, and {numbers.size:,} follow")
    if header.symmetry == "general":
        return numbers.reshape(header.rows, header.columns, order="F")
    values, start = numbers.reshape(-1), 0
    matrix = np.zeros((header.rows, header.rows))
    for column in range(header.rows):
        first_row = column + (header.symmetry == "skew-symmetric")
        column_values = values[start : start + header.rows - first_row]
        matrix[column, first_row:] = header.sign * column_values
        matrix[first_row:, column] = column_values
        start += len(column_values)
    return matrix


def _sparse(header: _Header, numbers: Array) -> Any:
    """The matrix from lines of a row and a column, counted from 1, and a value, which is 1 in a pattern."""
    width = 2 if header.pattern else 3
    if header.lines and numbers.shape != (header.lines, width):
        raise ValueError(f"its sizes announce {header.lines:,} lines of {width} numbers, and not {numbers.shape}")
    shape = (header.rows, header.columns)
    places = numbers[:, :2]
    if not ((places >= 1) & (places <= shape) & (places == np.floor(places))).all():
        raise ValueError(f"a row or a column is not between 1 and {shape}")
    rows, columns = places.astype(np.int64).T - 1
    values = np.ones(len(rows)) if header.pattern else numbers[:, 2]
    if header.sign:
        off_diagonal = rows != columns
        rows, columns = np.append(rows, columns[off_diagonal]), np.append(columns, rows[off_diagonal])
        values = np.append(values, header.sign * values[off_diagonal])
    return scipy.sparse.coo_array((values, (rows, columns)), shape=shape)
