"""Classes of equal entries: their sums, their means, and these given back."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import sqrt

import numpy as np

from affinet.kernels.compiled.jit import compiled


@compiled
def class_sums(
    x: np.ndarray, positions: np.ndarray, class_of: np.ndarray, sums: np.ndarray, first: int, last: int
) -> float:  # pragma: no cover - compiled
    """`sums[c] = Σ x` over the entries `first..last` of each class, and the largest |x|.

    `x[positions[k]]` is of class `class_of[k]`; without positions entry k is `x[k]`. The two are unsigned: a signed
    index costs a test for negative numbers.
    """
    sums[:] = 0.0
    largest = 0.0
    everywhere = len(positions) == 0
    for k in range(first, last):
        value = np.float64(x[k] if everywhere else x[positions[k]])
        sums[class_of[k]] += value
        largest = max(largest, abs(value))
    return largest


@compiled
def class_gaps(
    x: np.ndarray, positions: np.ndarray, class_of: np.ndarray, means: np.ndarray, gaps: np.ndarray
) -> None:  # pragma: no cover
    """`gaps[c] = Σ (x − means[c])`: what a sum of many equal numbers in their own precision loses."""
    gaps[:] = 0.0
    everywhere = len(positions) == 0
    for k in range(len(class_of)):
        c = class_of[k]
        gaps[c] += (x[k] if everywhere else x[positions[k]]) - means[c]


@compiled
def class_means(
    x: np.ndarray,
    positions: np.ndarray,
    class_of: np.ndarray,
    counts: np.ndarray,
    sums: np.ndarray,
    means: np.ndarray,
) -> None:  # pragma: no cover
    """The mean of every class from its sum, which is scratch from then on."""
    for c in range(len(counts)):
        means[c] = sums[c] / counts[c]
    if x.itemsize == 8:
        class_gaps(x, positions, class_of, means, sums)
        for c in range(len(counts)):
            means[c] += sums[c] / counts[c]


@compiled
def faint_classes(means: np.ndarray, bound: float) -> np.ndarray:  # pragma: no cover
    """The classes whose mean is at most `bound`: noise is at most `2 · quiet` of the largest of all numbers."""
    found = np.empty(len(means), np.uint32)
    count = 0
    for c in range(len(means)):
        if abs(means[c]) <= bound:
            found[count] = c
            count += 1
    return found[:count]


@compiled
def silence(
    x: np.ndarray,
    positions: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    faint: np.ndarray,
    means: np.ndarray,
    quiet: float,
) -> None:  # pragma: no cover
    """Zero the means of these classes that are noise beside the root mean square of their class.

    The entries of class c are numbers `order[starts[c]:starts[c + 1]]`.
    """
    everywhere = len(positions) == 0
    for c in faint:
        squares = 0.0
        for k in range(starts[c], starts[c + 1]):
            place = order[k]
            value = np.float64(x[place] if everywhere else x[positions[place]])
            squares += value * value
        if abs(means[c]) < 2.0 * quiet * sqrt(squares / (starts[c + 1] - starts[c])):
            means[c] = 0.0


@compiled
def spread(
    x: np.ndarray, positions: np.ndarray, class_of: np.ndarray, means: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover
    """Entries `first..last` become the number of their class."""
    if len(positions) == 0:
        for k in range(first, last):
            x[k] = means[class_of[k]]
    else:
        for k in range(first, last):
            x[positions[k]] = means[class_of[k]]


@compiled
def averaged(
    x: np.ndarray,
    positions: np.ndarray,
    class_of: np.ndarray,
    counts: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    quiet: float,
) -> None:  # pragma: no cover
    """All of it for a few entries: every entry becomes the mean of its class."""
    sums, means = np.empty(len(counts)), np.empty(len(counts))
    largest = class_sums(x, positions, class_of, sums, 0, len(class_of))
    class_means(x, positions, class_of, counts, sums, means)
    if quiet > 0.0:
        silence(x, positions, order, starts, faint_classes(means, 2.0 * quiet * largest), means, quiet)
    spread(x, positions, class_of, means, 0, len(class_of))
