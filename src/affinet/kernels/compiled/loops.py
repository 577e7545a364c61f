"""The compiled loops themselves, in place on NumPy arrays of float32 or float64, accumulating in float64.

`quiet > 0` sets to zero what is less than that share of what it was computed from: rounding noise of a gradient.
Comparisons are written such that NaN and infinities are none.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import sqrt

import numba
import numpy as np

compiled = numba.njit(nogil=True, cache=True, error_model="numpy")
inlined = numba.njit(nogil=True, error_model="numpy", inline="always")
summing = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})


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


TILE = 64
"""Rows and columns of a tile. 32 is twice as slow on matrices that come from memory: 128 bytes of a row at a time."""


@inlined
def turned_in(
    flat: np.ndarray, width: int, corner: tuple[int, int], sizes: tuple[int, int], buffer: np.ndarray
) -> None:  # pragma: no cover
    """`buffer[i, k] = matrix[corner + (k, i)]`: a tile turned, its rows read as they lie.

    Down a column of a matrix whose width is a power of two every entry falls on the same few lines of the cache.
    """
    for k in range(sizes[1]):
        start = (corner[0] + k) * width + corner[1]
        for i in range(sizes[0]):
            buffer[i, k] = flat[start + i]


@inlined
def turned_out(
    flat: np.ndarray, width: int, corner: tuple[int, int], sizes: tuple[int, int], factor: float, buffer: np.ndarray
) -> None:  # pragma: no cover
    """`matrix[corner + (k, i)] = factor · buffer[i, k]`."""
    scale = flat.dtype.type(factor)
    for k in range(sizes[1]):
        start = (corner[0] + k) * width + corner[1]
        for i in range(sizes[0]):
            flat[start + i] = scale * buffer[i, k]


@compiled
def mirror(
    x: np.ndarray, tiles: np.ndarray, sign: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """`x[i, k]` and `sign · x[k, i]` become their mean, over tiles `first..last` of the upper triangle of x (n, n)."""
    flat, n, step = x.reshape(-1), np.uint64(x.shape[0]), np.uint64(TILE)
    buffer = np.empty((TILE, TILE), x.dtype)
    half, factor, faint, zero = x.dtype.type(0.5), x.dtype.type(sign), x.dtype.type(quiet), x.dtype.type(0.0)
    for t in range(first, last):
        top, left = np.uint64(tiles[t, 0]) * step, np.uint64(tiles[t, 1]) * step
        rows, columns = min(step, n - top), min(step, n - left)
        turned_in(flat, n, (left, top), (rows, columns), buffer)
        for i in range(rows):
            start = (top + i) * n + left
            if faint > 0.0:
                for k in range(columns):
                    one, other = flat[start + k], factor * buffer[i, k]
                    mean = (one + other) * half
                    buffer[i, k] = zero if abs(mean) < faint * abs(one - other) else mean
            else:
                for k in range(columns):
                    buffer[i, k] = (flat[start + k] + factor * buffer[i, k]) * half
        if top == left:
            for i in range(rows):
                buffer[i, i] = zero if sign < 0.0 else flat[(top + i) * n + left + i]
                for k in range(i):
                    buffer[i, k] = factor * buffer[k, i]
        else:
            turned_out(flat, n, (left, top), (rows, columns), sign, buffer)
        for i in range(rows):
            start = (top + i) * n + left
            for k in range(columns):
                flat[start + k] = buffer[i, k]


@compiled
def pairs(
    scaled: np.ndarray, plain: np.ndarray, tiles: np.ndarray, ratio: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """`scaled == ratio · plain.T`, |ratio| ≤ 1, by the nearest such pair, over tiles of two row-major matrices."""
    n, m, step = np.uint64(plain.shape[0]), np.uint64(plain.shape[1]), np.uint64(TILE)
    one_side, other_side = plain.reshape(-1), scaled.reshape(-1)
    buffer = np.empty((TILE, TILE), plain.dtype)
    factor, weight = plain.dtype.type(ratio), plain.dtype.type(ratio / (1.0 + ratio * ratio))
    faint, zero = plain.dtype.type(quiet), plain.dtype.type(0.0)
    for t in range(first, last):
        top, left = np.uint64(tiles[t, 0]) * step, np.uint64(tiles[t, 1]) * step
        rows, columns = min(step, n - top), min(step, m - left)
        turned_in(other_side, n, (left, top), (rows, columns), buffer)
        for i in range(rows):
            start = (top + i) * m + left
            if faint > 0.0:
                for k in range(columns):
                    one, other = one_side[start + k], buffer[i, k]
                    both = one + (other - factor * one) * weight
                    both = zero if abs(both) < faint * (abs(one) + abs(other)) else both
                    one_side[start + k] = both
                    buffer[i, k] = both
            else:
                for k in range(columns):
                    both = one_side[start + k] + (buffer[i, k] - factor * one_side[start + k]) * weight
                    one_side[start + k] = both
                    buffer[i, k] = both
        turned_out(other_side, n, (left, top), (rows, columns), ratio, buffer)


@compiled
def multiples(
    scaled: np.ndarray, plain: np.ndarray, ratio: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """The same of flat arrays: `scaled == ratio · plain` at `first..last`."""
    factor, weight = plain.dtype.type(ratio), plain.dtype.type(ratio / (1.0 + ratio * ratio))
    faint, zero = plain.dtype.type(quiet), plain.dtype.type(0.0)
    for k in range(first, last):
        one, other = plain[k], scaled[k]
        both = one + (other - factor * one) * weight
        both = zero if faint > 0.0 and abs(both) < faint * (abs(one) + abs(other)) else both
        plain[k] = both
        scaled[k] = factor * both
