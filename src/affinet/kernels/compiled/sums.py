"""Sums of rows, and of rows and columns, and what every entry takes of the gap."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

import numpy as np

from affinet.kernels.compiled.jit import summing


@summing
def even_sums(x: np.ndarray, totals: np.ndarray, quiet: float, first: int, last: int) -> None:  # pragma: no cover
    """Rows `first..last` of x (rows, entries) sum to `totals` (rows or 1): every entry takes its share of the gap."""
    entries = x.shape[1]
    for row in range(first, last):
        total = 0.0
        for k in range(entries):
            total += np.float64(x[row, k])
        wanted = totals[row] if len(totals) > 1 else totals[0]
        share = x.dtype.type((total - wanted) / entries)
        if quiet > 0.0:
            noise = x.dtype.type(2.0 * quiet * abs(share))
            for k in range(entries):
                left = x[row, k] - share
                x[row, k] = x.dtype.type(0.0) if abs(left) < noise else left
        else:
            for k in range(entries):
                x[row, k] -= share


@summing
def cross_sums(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, first: int, last: int) -> None:  # pragma: no cover
    """Sums of rows `first..last` of x into `rows`, and what these rows add to the sums of its columns."""
    columns[:] = 0.0
    for row in range(first, last):
        total = 0.0
        for k in range(x.shape[1]):
            value = np.float64(x[row, k])
            total += value
            columns[k] += value
        rows[row] = total


@summing
def take_shares(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """`x[i, k] −= rows[i] + columns[k]`, zero where what is left is noise beside the three of them."""
    for row in range(first, last):
        share = rows[row]
        for k in range(x.shape[1]):
            value = np.float64(x[row, k])
            left = value - (share + columns[k])
            noise = quiet * (abs(value) + abs(share) + abs(columns[k]))
            x[row, k] = 0.0 if quiet > 0.0 and abs(left) < noise else left
