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
