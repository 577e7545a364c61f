"""The compiled loops themselves, in place on NumPy arrays of float32 or float64, accumulating in float64.

`quiet > 0` sets to zero what is at most that share of what it was computed from: rounding noise of a gradient.
"""

# mypy: disable-error-code="untyped-decorator,misc"
from __future__ import annotations

from math import sqrt

import numba
import numpy as np

compiled = numba.njit(nogil=True, cache=True, error_model="numpy")
summing = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})


@compiled
def class_sums(
    x: np.ndarray, positions: np.ndarray, class_of: np.ndarray, sums: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover - compiled
    """`sums[c] = Σ x` over the entries `first..last` of each class; `x[positions[k]]` is of class `class_of[k]`.

    `sums` (classes, 1), or (classes, 2) for the sums of squares beside them. Without positions entry k is `x[k]`.
    """
    sums[:] = 0.0
    everywhere, squares = len(positions) == 0, sums.shape[1] > 1
    for k in range(first, last):
        value, c = np.float64(x[k if everywhere else positions[k]]), class_of[k]
        sums[c, 0] += value
        if squares:
            sums[c, 1] += value * value


@compiled
def class_means(sums: np.ndarray, counts: np.ndarray, quiet: float) -> np.ndarray:  # pragma: no cover
    """Means from sums, zero where they are noise beside the root mean square of their class."""
    means = np.empty(len(counts))
    for c in range(len(counts)):
        mean = sums[c, 0] / counts[c]
        if quiet > 0.0 and abs(mean) <= 2.0 * quiet * sqrt(sums[c, 1] / counts[c]):
            mean = 0.0
        means[c] = mean
    return means


@compiled
def class_gaps(
    x: np.ndarray, positions: np.ndarray, class_of: np.ndarray, means: np.ndarray, gaps: np.ndarray
) -> None:  # pragma: no cover
    """`gaps[c] = Σ (x − means[c])`: what a sum of many equal numbers in their own precision loses."""
    gaps[:] = 0.0
    everywhere = len(positions) == 0
    for k in range(len(class_of)):
        c = class_of[k]
        gaps[c] += x[k if everywhere else positions[k]] - means[c]


@compiled
def spread(
    x: np.ndarray, positions: np.ndarray, class_of: np.ndarray, means: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover
    """Entries `first..last` become the number of their class."""
    everywhere = len(positions) == 0
    for k in range(first, last):
        x[k if everywhere else positions[k]] = means[class_of[k]]


@compiled
def averaged(
    x: np.ndarray, positions: np.ndarray, class_of: np.ndarray, counts: np.ndarray, sums: np.ndarray, quiet: float
) -> None:  # pragma: no cover
    """All of it for a few entries: every entry becomes the mean of its class; `sums` (classes, 2) is scratch."""
    entries = len(class_of)
    class_sums(x, positions, class_of, sums, 0, entries)
    means = class_means(sums, counts, quiet)
    if x.itemsize == 8:
        gaps = np.empty_like(means)
        class_gaps(x, positions, class_of, means, gaps)
        for c in range(len(means)):
            means[c] += gaps[c] / counts[c] if means[c] != 0.0 else 0.0
    spread(x, positions, class_of, means, 0, entries)


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
                x[row, k] = left if abs(left) > noise else x.dtype.type(0.0)
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
            x[row, k] = left if quiet == 0.0 or abs(left) > noise else 0.0


TILE = 32
"""Rows and columns of a tile: two of float64 are 16 kB, so that both fit the first cache."""


@compiled
def mirror(
    x: np.ndarray, tiles: np.ndarray, sign: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """`x[i, k]` and `sign · x[k, i]` become their mean, over tiles `first..last` of the upper triangle of x (n, n)."""
    n = x.shape[0]
    for t in range(first, last):
        top, left = tiles[t, 0] * TILE, tiles[t, 1] * TILE
        for i in range(top, min(top + TILE, n)):
            for k in range(max(left, i + 1), min(left + TILE, n)):
                one, other = x[i, k], sign * x[k, i]
                mean = (one + other) * 0.5
                if quiet > 0.0 and abs(mean) <= quiet * abs(one - other):
                    mean = 0.0
                x[i, k] = mean
                x[k, i] = sign * mean
            if sign < 0.0 and top == left:
                x[i, i] = 0.0


@compiled
def pairs(
    scaled: np.ndarray, plain: np.ndarray, tiles: np.ndarray, ratio: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """`scaled == ratio · plain`, |ratio| ≤ 1, by the nearest such pair, over tiles; in any memory order."""
    n, m = plain.shape
    weight = ratio / (1.0 + ratio * ratio)
    for t in range(first, last):
        top, left = tiles[t, 0] * TILE, tiles[t, 1] * TILE
        for i in range(top, min(top + TILE, n)):
            for k in range(left, min(left + TILE, m)):
                one, other = np.float64(plain[i, k]), np.float64(scaled[i, k])
                both = plain.dtype.type(one + (other - ratio * one) * weight)
                if quiet > 0.0 and np.float64(both) ** 2 <= 2.0 * quiet * quiet * (one * one + other * other):
                    both = plain.dtype.type(0.0)
                plain[i, k] = both
                scaled[i, k] = ratio * np.float64(both)
