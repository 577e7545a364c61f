"""Projects onto equations of every row and sums of the columns of a matrix, in two passes over each of its arrays."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

import numpy as np

from affinet.kernels.loops.jit import compiled, summing
from affinet.kernels.loops.openmp import share_out


@compiled
def measure(
    x: np.ndarray,
    basis: np.ndarray,
    tied: np.ndarray,
    shares: np.ndarray,
    gaps: np.ndarray,
    means: np.ndarray,
    sizes: np.ndarray,
    sums: np.ndarray,
    squares: np.ndarray,
    threads: int,
) -> None:  # pragma: no cover - compiled
    """Add the contributions of x (rows, columns) to `gaps`, x basisᵀ, to the column sums, and to the sums of squares.

    `sums` has one row per block of rows; these are added in one order, independent of the number of threads. `squares`
    has one number per row. `tied` (entries, 2) lists a column and its class, `shares` is ± one over the size of the
    class; `means` (rows, classes) receives the mean of each class, `sizes` the mean of its magnitudes.
    """
    if threads > 1:
        share_out(some_measured, (x, basis, tied, shares, gaps, means, sizes, sums, squares), len(sums), threads)
    else:
        some_measured(x, basis, tied, shares, gaps, means, sizes, sums, squares, 0, len(sums))


@compiled
def settle(
    x: np.ndarray,
    basis: np.ndarray,
    tied: np.ndarray,
    shares: np.ndarray,
    gaps: np.ndarray,
    values: np.ndarray,
    columns: np.ndarray,
    scratch: np.ndarray,
    quiet: float,
    levels: np.ndarray,
    threads: int,
) -> None:  # pragma: no cover
    """`x −= gaps basis + columns`, then entries of classes become ± `values` (rows, classes).

    An entry becomes zero where the result is less than the level of its row plus the fraction `quiet` of the entry.
    `scratch` has one row per block.
    """
    if threads > 1:
        share_out(
            some_settled,
            (x, basis, tied, shares, gaps, values, columns, scratch, quiet, levels),
            len(scratch),
            threads,
        )
    else:
        some_settled(x, basis, tied, shares, gaps, values, columns, scratch, quiet, levels, 0, len(scratch))


@summing
def some_measured(
    x: np.ndarray,
    basis: np.ndarray,
    tied: np.ndarray,
    shares: np.ndarray,
    gaps: np.ndarray,
    means: np.ndarray,
    sizes: np.ndarray,
    sums: np.ndarray,
    squares: np.ndarray,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Blocks `first..last` of the rows. Adding four rows at a time to the sums of the columns rounds less often."""
    blocks, m = len(sums), x.shape[1]
    for block in range(first, last):
        total, row, end = sums[block], len(x) * block // blocks, len(x) * (block + 1) // blocks
        while row + 4 <= end:
            a, b, c, d = x[row], x[row + 1], x[row + 2], x[row + 3]
            for j in range(m):
                total[j] += (np.float64(a[j]) + np.float64(b[j])) + (np.float64(c[j]) + np.float64(d[j]))
            some_gaps(x, basis, tied, shares, gaps, means, sizes, squares, row, row + 4)
            row += 4
        for i in range(row, end):
            for j in range(m):
                total[j] += np.float64(x[i, j])
        some_gaps(x, basis, tied, shares, gaps, means, sizes, squares, row, end)


@summing
def some_gaps(
    x: np.ndarray,
    basis: np.ndarray,
    tied: np.ndarray,
    shares: np.ndarray,
    gaps: np.ndarray,
    means: np.ndarray,
    sizes: np.ndarray,
    squares: np.ndarray,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """The components of rows `first..last` along the basis, their class means, and their sums of squares."""
    for i in range(first, last):
        row, square = x[i], 0.0
        for j in range(len(row)):
            square += np.float64(row[j]) * np.float64(row[j])
        squares[i] += square
        for k in range(len(basis)):
            along, gap = basis[k], 0.0
            for j in range(len(row)):
                gap += np.float64(along[j]) * np.float64(row[j])
            gaps[i, k] += gap
        for entry in range(len(tied)):
            value = np.float64(row[tied[entry, 0]]) * shares[entry]
            means[i, tied[entry, 1]] += value
            sizes[i, tied[entry, 1]] += abs(value)


@summing
def some_settled(
    x: np.ndarray,
    basis: np.ndarray,
    tied: np.ndarray,
    shares: np.ndarray,
    gaps: np.ndarray,
    values: np.ndarray,
    columns: np.ndarray,
    scratch: np.ndarray,
    quiet: float,
    levels: np.ndarray,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Blocks `first..last` of the rows."""
    blocks, m = len(scratch), x.shape[1]
    faint, zero = x.dtype.type(quiet), x.dtype.type(0.0)
    for block in range(first, last):
        share = scratch[block]
        for i in range(len(x) * block // blocks, len(x) * (block + 1) // blocks):
            row = x[i]
            for j in range(m):
                share[j] = columns[j]
            for k in range(len(basis)):
                along, gap = basis[k], gaps[i, k]
                for j in range(m):
                    share[j] += gap * along[j]
            if quiet > 0.0:
                floor = levels[i]
                for j in range(m):
                    left = row[j] - share[j]
                    row[j] = zero if abs(left) < floor + faint * abs(row[j]) else left
            else:
                for j in range(m):
                    row[j] -= share[j]
            for entry in range(len(tied)):
                value = values[i, tied[entry, 1]]
                row[tied[entry, 0]] = value if shares[entry] > 0.0 else -value
