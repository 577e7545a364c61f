"""Check the indices of a sparse matrix from a file: fast code trusts them, and a file may be damaged."""

from __future__ import annotations

from typing import Any

import scipy.sparse

MOST_ROWS = 2**25
"""Most rows of a sparse matrix, each an equation: an empty row takes memory too."""


def with_checked_indices(matrix: Any) -> Any:
    """The matrix in coordinates, every index inside of its shape. Raises ValueError."""
    if matrix.format in ("csr", "csc", "bsr"):
        # scipy does not check the order where the last start is 0, and compares differences of 32 bits, which can wrap.
        if (matrix.indptr[1:] < matrix.indptr[:-1]).any():
            raise ValueError("the starts of its rows or columns decrease")
        matrix.check_format(full_check=True)
    rows, columns = matrix.shape
    if rows > MOST_ROWS:
        raise ValueError(f"it announces {rows:,} rows, and at most {MOST_ROWS:,} are read; leave out rows of zeros")
    coordinates = scipy.sparse.coo_array(matrix)
    for indices, size in zip((coordinates.row, coordinates.col), (rows, columns), strict=True):
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < size:
            raise ValueError(f"an index lies outside of its shape {matrix.shape}")
    return coordinates
