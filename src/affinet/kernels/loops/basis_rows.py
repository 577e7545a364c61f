"""Projects onto many equations over many entries, reading each row of a large basis from memory only once."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import sqrt

import numpy as np

from affinet.kernels.loops.jit import compiled, summing
from affinet.kernels.loops.openmp import share_out

PARTS = 4
"""Parts of the rows, whose shares are added in order, independent of the number of threads."""


@compiled
def wide(
    x: np.ndarray, basis: np.ndarray, target: np.ndarray, quiet: float, threads: int
) -> None:  # pragma: no cover - compiled
    """Move x in place to the nearest point with `basis @ x == target`; basis (r, n) has orthonormal rows, target (r,).

    The shares of all rows are summed separately and subtracted once: subtracting row by row would round x each time.
    With `quiet`, entries that are noise relative to x and its root mean square become zero.
    """
    shares = np.zeros((PARTS, len(x)), x.dtype)
    if threads > 1:
        share_out(some_rows, (basis, target, x, shares), PARTS, threads)
    else:
        some_rows(basis, target, x, shares, 0, PARTS)
    squares = 0.0
    for k in range(len(x)):
        squares += np.float64(x[k]) * np.float64(x[k])
    faint = x.dtype.type(quiet)
    level, zero = x.dtype.type(quiet * sqrt(squares / max(1, len(x)))), x.dtype.type(0.0)
    for k in range(len(x)):
        projected = x[k]
        for part in range(PARTS):
            projected -= shares[part, k]
        x[k] = zero if abs(projected) < level + faint * abs(x[k]) else projected


@summing
def some_rows(
    basis: np.ndarray, target: np.ndarray, x: np.ndarray, shares: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover
    """Parts `first..last` of the rows, two at a time: their gaps, then their shares while they are in the cache."""
    r, n = basis.shape
    for part in range(first, last):
        share, row, end = shares[part], r * part // PARTS, r * (part + 1) // PARTS
        while row < end:
            one, other = basis[row], basis[min(row + 1, end - 1)]
            gap, gap_of_other = -np.float64(target[row]), -np.float64(target[min(row + 1, end - 1)])
            for k in range(n):
                gap += np.float64(one[k]) * np.float64(x[k])
                gap_of_other += np.float64(other[k]) * np.float64(x[k])
            a, b = x.dtype.type(gap), x.dtype.type(gap_of_other if row + 1 < end else 0.0)
            for k in range(n):
                share[k] += a * one[k] + b * other[k]
            row += 2
