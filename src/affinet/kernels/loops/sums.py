"""Projects onto given sums of rows, or of rows and columns: every entry takes its share of the gaps."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

import numpy as np

from affinet.kernels.loops.jit import compiled, summing
from affinet.kernels.loops.openmp import share_out

PIECE = 256
"""Numbers that are summed without compensation for rounding."""


@compiled
def even_sums(x: np.ndarray, totals: np.ndarray, quiet: float, threads: int) -> None:  # pragma: no cover - compiled
    """Make rows of x (rows, entries) sum to `totals` (rows or 1): every entry takes its share of the gap."""
    if threads > 1:
        share_out(some_even_sums, (x, totals, quiet), len(x), threads)
    else:
        some_even_sums(x, totals, quiet, 0, len(x))


@compiled
def cross_sums(
    x: np.ndarray, row_totals: np.ndarray, column_totals: np.ndarray, quiet: float, blocks: int, threads: int
) -> None:  # pragma: no cover
    """Make rows and columns of x (n, m) sum to their totals (one each, or one for all): both sums, then both shares.

    With row gaps r of total R and column gaps c every entry loses `r_i/m + c_k/n − R/(n m)`, the product of the two
    projections. Column sums are computed in `blocks` parts and added in order, independent of the number of threads.
    """
    n, m = x.shape
    rows, parts = np.empty(n), np.zeros((blocks, m))
    if threads > 1:
        share_out(some_cross_sums, (x, rows, parts), blocks, threads)
    else:
        some_cross_sums(x, rows, parts, 0, blocks)
    columns, over = np.empty(m), 0.0
    for i in range(n):
        rows[i] = (rows[i] - row_totals[i if len(row_totals) > 1 else 0]) / m
        over += rows[i]
    for k in range(m):
        total = 0.0
        for part in range(blocks):
            total += parts[part, k]
        columns[k] = (total - column_totals[k if len(column_totals) > 1 else 0] - over) / n
    # In the dtype of x: the rounding error of a share is negligible relative to the gap.
    shares = rows.astype(x.dtype), columns.astype(x.dtype)
    if threads > 1:
        share_out(some_shares, (x, *shares, quiet), n, threads)
    else:
        some_shares(x, *shares, quiet, 0, n)


@compiled
def sum_of(x: np.ndarray) -> float:  # pragma: no cover
    """The sum of x in float64, to a few roundings for any length and any range of magnitudes.

    Pieces are summed quickly, and the rounding errors of adding these sums are added last (Neumaier 1974; Higham,
    Accuracy and Stability, 2nd ed., 4.3). Otherwise one large number would round each of a million small numbers.
    """
    total, lost = 0.0, 0.0
    for start in range(0, len(x), PIECE):
        part = quick_sum(x[start : start + PIECE])
        added = total + part
        if abs(total) >= abs(part):
            lost += (total - added) + part
        else:
            lost += (part - added) + total
        total = added
    return total + lost if abs(lost) <= abs(total) else total


@summing
def quick_sum(x: np.ndarray) -> float:  # pragma: no cover
    """The sum of x in float64, in any order."""
    total = 0.0
    for k in range(len(x)):
        total += np.float64(x[k])
    return total


@summing
def some_even_sums(x: np.ndarray, totals: np.ndarray, quiet: float, first: int, last: int) -> None:  # pragma: no cover
    """Rows `first..last`; each is summed and changed while it is in the cache."""
    entries, narrow = x.shape[1], x.itemsize < 8  # float32 is added in float64
    for row in range(first, last):
        total = quick_sum(x[row]) if entries <= PIECE or narrow else sum_of(x[row])
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
def some_cross_sums(
    x: np.ndarray, rows: np.ndarray, parts: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover
    """Sums of the rows in blocks `first..last`, and the contributions of these rows to the sums of the columns.

    Four rows at a time: the sums of the columns are read and written once per four numbers.
    """
    blocks, m = len(parts), x.shape[1]
    for block in range(first, last):
        columns = parts[block]
        row, end = len(x) * block // blocks, len(x) * (block + 1) // blocks
        while row + 4 <= end:
            a, b, c, d = x[row], x[row + 1], x[row + 2], x[row + 3]
            sum_a, sum_b, sum_c, sum_d = 0.0, 0.0, 0.0, 0.0
            for k in range(m):
                one, two, three, four = np.float64(a[k]), np.float64(b[k]), np.float64(c[k]), np.float64(d[k])
                columns[k] += (one + two) + (three + four)
                sum_a += one
                sum_b += two
                sum_c += three
                sum_d += four
            rows[row], rows[row + 1], rows[row + 2], rows[row + 3] = sum_a, sum_b, sum_c, sum_d
            row += 4
        while row < end:
            total = 0.0
            for k in range(m):
                value = np.float64(x[row, k])
                total += value
                columns[k] += value
            rows[row] = total
            row += 1


@summing
def some_shares(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """`x[i, k] −= rows[i] + columns[k]`, zero where the result is noise relative to these three numbers."""
    faint, zero = x.dtype.type(quiet), x.dtype.type(0.0)
    for i in range(first, last):
        row, share = x[i], rows[i]
        if quiet > 0.0:
            for k in range(len(row)):
                value, other = row[k], columns[k]
                left = value - (share + other)
                row[k] = zero if abs(left) < faint * (abs(value) + abs(share) + abs(other)) else left
        else:
            for k in range(len(row)):
                row[k] -= share + columns[k]
