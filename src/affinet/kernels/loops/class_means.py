"""Makes the entries of each class equal: to their mean, or to their first entry where they agree to rounding."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import sqrt

import numpy as np

from affinet.kernels.loops.jit import compiled
from affinet.kernels.loops.openmp import share_out

AGREEING = 8.0
"""Spacings by which entries of a class may differ and still agree: stock optimizers compute the body and the tail of a
vector in two ways."""
CHUNK = 2_048
"""Entries fetched at a time."""
SAMPLED = 256
"""Entries compared before all others: an optimizer that separates equal entries separates most of them."""


@compiled
def averaged(
    x: np.ndarray,
    positions: np.ndarray,
    class_of: np.ndarray,
    counts: np.ndarray,
    members: np.ndarray,
    starts: np.ndarray,
    sums: np.ndarray,
    means: np.ndarray,
    quiet: float,
    threads: int,
) -> None:  # pragma: no cover - compiled
    """Set every entry to the mean of its class.

    Entry k is `x[positions[k]]`, or `x[k]` without positions, and has class `class_of[k]`; the entries of class c are
    `members[starts[c]:starts[c + 1]]`. `sums` (parts, classes) and `means` (classes), which may be `sums[0]`, are
    scratch: the entries are added in that many parts, independent of the number of threads. With `quiet`, means that
    are noise relative to their class become zero.
    """
    parts, largest = len(sums), np.zeros(len(sums))
    if threads > 1:
        share_out(some_sums, (x, positions, class_of, sums, largest), parts, threads)
        share_out(some_means, (sums, counts, means), len(counts), threads)
    else:
        some_sums(x, positions, class_of, sums, largest, 0, parts)
        some_means(sums, counts, means, 0, len(counts))
    if x.itemsize == 8:
        mend_means(x, positions, class_of, counts, means)
    if quiet > 0.0:
        silence(x, positions, members, starts, means, quiet, largest.max())
    if threads > 1:
        share_out(spread, (x, positions, class_of, means), len(class_of), threads)
    else:
        spread(x, positions, class_of, means, 0, len(class_of))


@compiled
def agreed(
    x: np.ndarray,
    positions: np.ndarray,
    class_of: np.ndarray,
    first_of: np.ndarray,
    members: np.ndarray,
    starts: np.ndarray,
    values: np.ndarray,
    threads: int,
) -> bool:  # pragma: no cover
    """Set every entry to the first entry of its class where they agree to rounding, else to the mean of its class.

    `first_of[c]` is the number of the first entry of class c; `values` (classes) is scratch. Returns False, and changes
    nothing, where many entries do not agree.
    """
    n, apart = len(class_of), 0
    every = max(1, n // SAMPLED)
    for k in range(0, n, every):
        apart += differs(x[at(positions, k)], x[at(positions, first_of[class_of[k]])])
    if apart * 16 * every > n:
        return False
    differing = np.zeros(threads, np.int64)
    if threads > 1:
        share_out(some_firsts, (x, positions, first_of, values), len(first_of), threads)
        share_out(some_copies, (x, positions, class_of, values, differing), threads, threads)
    else:
        some_firsts(x, positions, first_of, values, 0, len(first_of))
        some_copies(x, positions, class_of, values, differing, 0, 1)
    if differing.sum() > 0:
        settle_rest(x, positions, class_of, values, members, starts)
    return True


@compiled
def class_sums(x: np.ndarray, class_of: np.ndarray, sums: np.ndarray, threads: int) -> None:  # pragma: no cover
    """`sums[0, c] = Σ x` over the entries of each class, in `len(sums)` parts, independent of the number of threads."""
    nowhere, largest = np.zeros(0, np.uint32), np.zeros(len(sums))
    if threads > 1:
        share_out(some_sums, (x, nowhere, class_of, sums, largest), len(sums), threads)
    else:
        some_sums(x, nowhere, class_of, sums, largest, 0, len(sums))
    for part in range(1, len(sums)):
        sums[0] += sums[part]


@compiled
def at(positions: np.ndarray, k: int) -> np.int64:  # pragma: no cover
    """The position of entry k in x."""
    return np.int64(positions[k]) if len(positions) > 0 else np.int64(k)


@compiled
def differs(value: float, other: float) -> bool:  # pragma: no cover
    """Whether two numbers differ by more than rounding. NaN and infinities always do, so that means propagate them."""
    return not abs(value - other) <= AGREEING * spacing(value) * (abs(value) + abs(other))


@compiled
def spacing(like: float) -> float:  # pragma: no cover
    """The spacing of numbers at 1, in the dtype of the argument."""
    return np.finfo(like).eps


@compiled
def some_sums(
    x: np.ndarray,
    positions: np.ndarray,
    class_of: np.ndarray,
    sums: np.ndarray,
    largest: np.ndarray,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Parts `first..last` of the entries: their sums by class, and their largest magnitude."""
    n, parts, everywhere = len(class_of), len(sums), len(positions) == 0
    for part in range(first, last):
        part_sums, most = sums[part], 0.0
        part_sums[:] = -0.0  # adding a zero of either sign then keeps its sign
        for k in range(np.uint64(n * part // parts), np.uint64(n * (part + 1) // parts)):
            value = x[k] if everywhere else x[positions[k]]
            part_sums[class_of[k]] += value
            most = max(most, abs(value))
        largest[part] = most


@compiled
def some_means(
    sums: np.ndarray, counts: np.ndarray, means: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover
    """The mean of every class `first..last` from its sums, in one part or two."""
    one, other = sums[0], sums[len(sums) - 1]
    if len(sums) == 1:
        for c in range(np.uint64(first), np.uint64(last)):
            means[c] = np.float64(one[c]) / np.float64(counts[c])
    else:
        for c in range(np.uint64(first), np.uint64(last)):
            means[c] = (np.float64(one[c]) + np.float64(other[c])) / np.float64(counts[c])


@compiled
def mend_means(
    x: np.ndarray, positions: np.ndarray, class_of: np.ndarray, counts: np.ndarray, means: np.ndarray
) -> None:  # pragma: no cover
    """`means += Σ (x − means) / count`: the rounding that a sum of many equal numbers in their precision loses."""
    gaps = np.zeros(len(means))
    everywhere = len(positions) == 0
    for k in range(np.uint64(len(class_of))):
        c = class_of[k]
        gaps[c] += (x[k] if everywhere else x[positions[k]]) - means[c]
    for c in range(len(means)):
        means[c] += gaps[c] / counts[c]


@compiled
def silence(
    x: np.ndarray,
    positions: np.ndarray,
    members: np.ndarray,
    starts: np.ndarray,
    means: np.ndarray,
    quiet: float,
    largest: float,
) -> None:  # pragma: no cover
    """Zero the means that are noise relative to the root mean square of their class, which is at most `largest`."""
    bound = means.dtype.type(2.0 * quiet * largest)
    for c in range(len(means)):
        if abs(means[c]) <= bound:
            squares = 0.0
            for k in range(starts[c], starts[c + 1]):
                value = np.float64(x[at(positions, members[k])])
                squares += value * value
            if abs(means[c]) < 2.0 * quiet * sqrt(squares / (starts[c + 1] - starts[c])):
                means[c] = 0.0


@compiled
def spread(
    x: np.ndarray, positions: np.ndarray, class_of: np.ndarray, values: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover
    """Set entries `first..last` to the number of their class."""
    if len(positions) == 0:
        for k in range(np.uint64(first), np.uint64(last)):
            x[k] = values[class_of[k]]
    else:
        for k in range(np.uint64(first), np.uint64(last)):
            x[positions[k]] = values[class_of[k]]


@compiled
def some_firsts(
    x: np.ndarray, positions: np.ndarray, first_of: np.ndarray, values: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover
    """The first entry of classes `first..last`."""
    for c in range(first, last):
        values[c] = x[at(positions, first_of[c])]


@compiled
def some_copies(
    x: np.ndarray,
    positions: np.ndarray,
    class_of: np.ndarray,
    values: np.ndarray,
    differing: np.ndarray,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Set entries of parts `first..last` that agree with the number of their class to it, and count those that do not.

    A chunk at a time, which stays in the innermost cache: fetch, compare and store are separate vector loops.
    """
    n, parts, everywhere = len(class_of), len(differing), len(positions) == 0
    bound, wanted = x.dtype.type(AGREEING * np.finfo(x.dtype).eps), np.empty(CHUNK, x.dtype)
    here = np.empty(CHUNK, x.dtype)
    for part in range(first, last):
        start, end, left = n * part // parts, n * (part + 1) // parts, 0
        while start < end:
            size = min(CHUNK, end - start)
            classes = class_of[start : start + size]
            chunk = x[start : start + size] if everywhere else here[:size]
            places = positions[start : start + size]  # empty where all of x is tied
            if not everywhere:
                for k in range(np.uint64(size)):
                    chunk[k] = x[places[k]]
            for k in range(np.uint64(size)):
                wanted[k] = values[classes[k]]
            for k in range(size):
                near = abs(chunk[k] - wanted[k]) <= bound * (abs(chunk[k]) + abs(wanted[k]))
                left += 0 if near else 1
                chunk[k] = wanted[k] if near else chunk[k]
            if not everywhere:
                for k in range(np.uint64(size)):
                    x[places[k]] = chunk[k]
            start += size
        differing[part] = left


@compiled
def settle_rest(
    x: np.ndarray,
    positions: np.ndarray,
    class_of: np.ndarray,
    values: np.ndarray,
    members: np.ndarray,
    starts: np.ndarray,
) -> None:  # pragma: no cover
    """Set classes with an entry that differs from their number to their mean, computed as a change of that number."""
    for k in range(len(class_of)):
        c = class_of[k]
        if x[at(positions, k)] != values[c]:  # NaN too
            gap = 0.0
            for member in range(starts[c], starts[c + 1]):
                gap += np.float64(x[at(positions, members[member])]) - np.float64(values[c])
            values[c] += gap / (starts[c + 1] - starts[c])
            for member in range(starts[c], starts[c + 1]):
                x[at(positions, members[member])] = values[c]
