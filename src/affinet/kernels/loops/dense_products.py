"""Multiplies large dense rows with vectors, with the same bits on any number of threads.

The rows are read from memory once, by the threads of torch: threads of another library would contend with them.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

import numpy as np

from affinet.kernels.loops.jit import compiled, summing
from affinet.kernels.loops.openmp import share_out

TOGETHER = 4
"""Rows that are read at the same time, so that their vector is read from the cache less often."""
SPAN = 8192
"""Entries whose sums stay in a core's own cache while all rows are read. With fewer, each row is read in parts so short
that memory does not stream."""

CACHED = 2**19
"""Numbers of all rows that stay in a cache between two uses: 4 MB. With fewer, each row is read in parts too short."""


@compiled
def times(rows: np.ndarray, x: np.ndarray, products: np.ndarray, threads: int) -> None:  # pragma: no cover - compiled
    """`products = rows @ x`, for rows (m, n)."""
    groups = (len(rows) + TOGETHER - 1) // TOGETHER
    if threads > 1:
        share_out(some_times, (rows, x, products), groups, threads)
    else:
        some_times(rows, x, products, 0, groups)


@compiled
def combined(rows: np.ndarray, u: np.ndarray, sums: np.ndarray, threads: int) -> None:  # pragma: no cover
    """`sums = rows.T @ u`, for rows (m, n)."""
    spans = (rows.shape[1] + SPAN - 1) // SPAN
    if threads > 1:
        share_out(some_combined, (rows, u, sums), spans, threads)
    else:
        some_combined(rows, u, sums, 0, spans)


@compiled
def descend(
    rows: np.ndarray, u: np.ndarray, x: np.ndarray, parts: np.ndarray, threads: int
) -> None:  # pragma: no cover
    """`x −= rows.T @ u` in place, for rows (m, n); `parts` (spans, m) receives the products of the rows with it."""
    if threads > 1:
        share_out(some_descend, (rows, u, x, parts), len(parts), threads)
    else:
        some_descend(rows, u, x, parts, 0, len(parts))


def count_of_spans(rows: np.ndarray) -> int:
    """The number of spans in which `descend` reads rows (m, n): few enough entries each to stay in a cache."""
    return max(1, rows.size // CACHED)


@compiled
def some_times(
    rows: np.ndarray, x: np.ndarray, products: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover
    """Groups `first..last` of the rows."""
    m = len(rows)
    for group in range(first, last):
        row = group * TOGETHER
        if row + TOGETHER <= m:
            a, b, c, d = four_times(rows[row], rows[row + 1], rows[row + 2], rows[row + 3], x)
            products[row], products[row + 1], products[row + 2], products[row + 3] = a, b, c, d
        else:
            for single in range(row, m):
                products[single] = one_times(rows[single], x)


@summing
def four_times(
    one: np.ndarray, two: np.ndarray, three: np.ndarray, four: np.ndarray, x: np.ndarray
) -> tuple[float, float, float, float]:  # pragma: no cover
    """The products of four rows with a vector."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for k in range(len(x)):
        entry = x[k]
        a += one[k] * entry
        b += two[k] * entry
        c += three[k] * entry
        d += four[k] * entry
    return a, b, c, d


@summing
def one_times(row: np.ndarray, x: np.ndarray) -> float:  # pragma: no cover
    """The product of a row with a vector."""
    total = 0.0
    for k in range(len(x)):
        total += row[k] * x[k]
    return total


@compiled
def some_combined(rows: np.ndarray, u: np.ndarray, sums: np.ndarray, first: int, last: int) -> None:  # pragma: no cover
    """Spans `first..last` of the entries."""
    n = rows.shape[1]
    for span in range(first, last):
        start, end = span * SPAN, min((span + 1) * SPAN, n)
        part = sums[start:end]
        for k in range(len(part)):
            part[k] = 0.0
        add_rows(part, rows[:, start:end], u, 1.0)


@compiled
def add_rows(sums: np.ndarray, rows: np.ndarray, u: np.ndarray, sign: float) -> None:  # pragma: no cover
    """Add the rows, each times its number and a sign."""
    m, row = len(rows), 0
    while row + TOGETHER <= m:
        one, two, three, four = rows[row], rows[row + 1], rows[row + 2], rows[row + 3]
        add_four(sums, one, two, three, four, sign * u[row], sign * u[row + 1], sign * u[row + 2], sign * u[row + 3])
        row += TOGETHER
    while row < m:
        add_one(sums, rows[row], sign * u[row])
        row += 1


@compiled
def add_four(
    sums: np.ndarray,
    one: np.ndarray,
    two: np.ndarray,
    three: np.ndarray,
    four: np.ndarray,
    a: float,
    b: float,
    c: float,
    d: float,
) -> None:  # pragma: no cover
    """Add four rows, each times its number."""
    for k in range(len(sums)):
        sums[k] += (a * one[k] + b * two[k]) + (c * three[k] + d * four[k])


@compiled
def add_one(sums: np.ndarray, row: np.ndarray, a: float) -> None:  # pragma: no cover
    """Add a row times a number."""
    for k in range(len(sums)):
        sums[k] += a * row[k]


@compiled
def some_descend(
    rows: np.ndarray, u: np.ndarray, x: np.ndarray, parts: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover
    """Spans `first..last` of the entries."""
    n = rows.shape[1]
    for span in range(first, last):
        start, end = n * span // len(parts), n * (span + 1) // len(parts)
        columns, place = rows[:, start:end], x[start:end]
        add_rows(place, columns, u, -1.0)
        some_times(columns, place, parts[span], 0, (len(rows) + TOGETHER - 1) // TOGETHER)
