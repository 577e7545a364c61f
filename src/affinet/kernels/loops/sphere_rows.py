"""Follows steps on spheres: the tangent part of a gradient, and the return by scaling, in one pass each.

Cells are the rows or the columns of a matrix. A cell is the work of one thread, with sums in one order, so that results
have the same bits on any number of threads. Cells with numbers that are not finite stay as they are.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import inf, sqrt

import numpy as np

from affinet.kernels.loops.jit import compiled, summing
from affinet.kernels.loops.openmp import share_out

SUMS = 3
"""Numbers of float64 that are summed up for each column."""
SMALL, LARGE = 1e-200, 1e200
"""Sums of squares outside this range may have lost digits to the range of float64."""
STRETCH = 512
"""Entries of a row that are added up in its own dtype, which is twice as fast for float32: by vectors of 64 numbers, so
that a sum grows by eight terms, and has a few roundoffs. Sums of stretches are float64. Only for gradients."""
FAINT, STRONG = 1e-20, 1e20
"""Sums of squares outside this range may have lost digits to the range of float32."""
CLOSE = 2.0**-8
"""Factors so near to 1 change float32 by `w + (factor − 1) w` to its rounding, computed in float32."""


@compiled
def tangent_rows(g: np.ndarray, w: np.ndarray, quiet: float, threads: int) -> None:  # pragma: no cover - compiled
    """Rows of g lose their part along the rows of w, in place; zero where noise of g and of its root mean square."""
    if threads > 1:
        share_out(some_tangent_rows, (g, w, quiet), len(g), threads)
    else:
        some_tangent_rows(g, w, quiet, 0, len(g))


@compiled
def tangent_columns(g: np.ndarray, w: np.ndarray, quiet: float, threads: int) -> None:  # pragma: no cover
    """As `tangent_rows`, for columns."""
    sums = np.zeros((SUMS, g.shape[1]))
    if threads > 1:
        share_out(some_tangent_columns, (g, w, sums, quiet), g.shape[1], threads)
    else:
        some_tangent_columns(g, w, sums, quiet, 0, g.shape[1])


@compiled
def scaled_rows(w: np.ndarray, radius: np.ndarray, within: float, threads: int) -> None:  # pragma: no cover
    """Scale rows of w to the lengths `radius` (rows or 1), in place.

    A row whose length holds to `within` times the sizes of terms and derivatives is left as it is; none is if `within`
    is negative. A row of zeros becomes one of equal numbers.
    """
    if threads > 1:
        share_out(some_scaled_rows, (w, radius, within), len(w), threads)
    else:
        some_scaled_rows(w, radius, within, 0, len(w))


@compiled
def scaled_columns(w: np.ndarray, radius: np.ndarray, within: float, threads: int) -> None:  # pragma: no cover
    """As `scaled_rows`, for columns."""
    factors = np.zeros(w.shape[1])
    if threads > 1:
        share_out(some_scaled_columns, (w, radius, factors, within), w.shape[1], threads)
    else:
        some_scaled_columns(w, radius, factors, within, 0, w.shape[1])


@compiled
def some_tangent_rows(g: np.ndarray, w: np.ndarray, quiet: float, first: int, last: int) -> None:  # pragma: no cover
    """Rows `first..last`, each summed and changed while it is in the cache."""
    for row in range(first, last):
        inner, squares, norm = products(g[row], w[row])
        remove(g[row], w[row], share(inner, squares), quiet, quiet * sqrt(norm / max(1, g.shape[1])))


@summing
def some_tangent_columns(
    g: np.ndarray, w: np.ndarray, sums: np.ndarray, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """Columns `first..last`, row by row."""
    inner, squares, norm = sums[0], sums[1], sums[2]
    for row in range(len(g)):
        for k in range(first, last):
            entry, point = np.float64(g[row, k]), np.float64(w[row, k])
            inner[k] += entry * point
            squares[k] += point * point
            norm[k] += entry * entry
    for k in range(first, last):
        inner[k] = share(inner[k], squares[k])
        norm[k] = quiet * sqrt(norm[k] / max(1, len(g)))
    for row in range(len(g)):
        for k in range(first, last):
            entry = np.float64(g[row, k])
            part = entry - inner[k] * np.float64(w[row, k])
            g[row, k] = 0.0 if abs(part) <= quiet * abs(entry) + norm[k] else part


@compiled
def some_scaled_rows(
    w: np.ndarray, radius: np.ndarray, within: float, first: int, last: int
) -> None:  # pragma: no cover
    """Rows `first..last`."""
    for row in range(first, last):
        length = radius[row] if len(radius) > 1 else radius[0]
        square = squared(w[row])
        if not SMALL < square < LARGE:
            extreme(w[row], length)
            continue
        factor = scaling(square, length, within)
        if factor != 1.0:
            multiply(w[row], factor)


@summing
def some_scaled_columns(
    w: np.ndarray, radius: np.ndarray, factors: np.ndarray, within: float, first: int, last: int
) -> None:  # pragma: no cover
    """Columns `first..last`, row by row."""
    for row in range(len(w)):
        for k in range(first, last):
            entry = np.float64(w[row, k])
            factors[k] += entry * entry
    for k in range(first, last):
        length = radius[k] if len(radius) > 1 else radius[0]
        if SMALL < factors[k] < LARGE:
            factors[k] = scaling(factors[k], length, within)
        else:
            extreme(w[:, k], length)
            factors[k] = 1.0
    for row in range(len(w)):
        for k in range(first, last):
            w[row, k] = np.float64(w[row, k]) * factors[k]


@compiled
def products(g: np.ndarray, w: np.ndarray) -> tuple[float, float, float]:  # pragma: no cover
    """`g·w`, `w·w` and `g·g`."""
    inner, squares, norm = 0.0, 0.0, 0.0
    for first in range(0, len(g), STRETCH):
        part = products_of_stretch(g[first : first + STRETCH], w[first : first + STRETCH])
        inner += part[0]
        squares += part[1]
        norm += part[2]
    if FAINT < squares < STRONG and FAINT < norm < STRONG:
        return inner, squares, norm
    wide: tuple[float, float, float] = wide_products(g, w)
    return wide


@summing
def products_of_stretch(g: np.ndarray, w: np.ndarray) -> tuple[float, float, float]:  # pragma: no cover
    """As `products`, in the dtype of g."""
    zero = g.dtype.type(0.0)
    inner, squares, norm = zero, zero, zero
    for k in range(len(g)):
        inner += g[k] * w[k]
        squares += w[k] * w[k]
        norm += g[k] * g[k]
    return np.float64(inner), np.float64(squares), np.float64(norm)


@summing
def wide_products(g: np.ndarray, w: np.ndarray) -> tuple[float, float, float]:  # pragma: no cover
    """As `products`, in float64."""
    inner, squares, norm = 0.0, 0.0, 0.0
    for k in range(len(g)):
        entry, point = np.float64(g[k]), np.float64(w[k])
        inner += entry * point
        squares += point * point
        norm += entry * entry
    return inner, squares, norm


@summing
def remove(g: np.ndarray, w: np.ndarray, part: float, quiet: float, level: float) -> None:  # pragma: no cover
    """`g − part · w`, in place, zero where it is at most `quiet · |g| + level`."""
    # In the dtype of g: what the rounding of a product adds is far below the noise.
    share, faint, least, zero = g.dtype.type(part), g.dtype.type(quiet), g.dtype.type(level), g.dtype.type(0.0)
    for k in range(len(g)):
        projected = g[k] - share * w[k]
        g[k] = zero if abs(projected) <= faint * abs(g[k]) + least else projected


@summing
def squared(w: np.ndarray) -> float:  # pragma: no cover
    """`w·w`, in float64: lengths must hold to a few roundoffs of the weights."""
    total = 0.0
    for k in range(len(w)):
        total += np.float64(w[k]) * np.float64(w[k])
    return total


@summing
def multiply(w: np.ndarray, factor: float) -> None:  # pragma: no cover
    """`factor · w`, in place."""
    if abs(factor - 1.0) < CLOSE:
        change = w.dtype.type(factor - 1.0)
        for k in range(len(w)):
            w[k] += change * w[k]
    else:
        for k in range(len(w)):
            w[k] = np.float64(w[k]) * factor


@compiled
def share(inner: float, squares: float) -> float:  # pragma: no cover
    """`g·w / w·w`, 0 where w is zero."""
    return inner / squares if squares > 0.0 else 0.0


@compiled
def scaling(square: float, length: float, within: float) -> float:  # pragma: no cover
    """What a cell with this sum of squares is multiplied by; exactly 1 where it holds."""
    if within >= 0.0 and abs(square - length * length) <= within * (3.0 * square + length * length):
        return 1.0
    return length / sqrt(square)


@compiled
def extreme(w: np.ndarray, length: float) -> None:  # pragma: no cover
    """Scale numbers whose squares float64 cannot add up: by the largest of them first."""
    largest = 0.0
    for k in range(len(w)):
        size = abs(np.float64(w[k]))
        if not size < inf:
            return
        largest = max(largest, size)
    if largest == 0.0:
        for k in range(len(w)):
            w[k] = length / sqrt(len(w))
        return
    total = 0.0
    for k in range(len(w)):
        part = np.float64(w[k]) / largest
        total += part * part
    for k in range(len(w)):
        w[k] = np.float64(w[k]) / largest * (length / sqrt(total))
