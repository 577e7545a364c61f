"""Find where two arithmetic progressions hold the same numbers."""

from __future__ import annotations

from math import gcd


def common_indices(first: range, second: range) -> tuple[range, range] | None:
    """Indices into `first` and indices into `second` at which the two are equal, pair by pair.

    Law: `first[i] == second[j]` for every pair, no pair is missing, `j` goes up. None where no number is in both.
    Source: the Chinese remainder theorem for two congruences.
    """
    common = gcd(first.step, second.step)
    gap = second.start - first.start
    if gap % common:
        return None
    period = abs(second.step) // common
    stride = first.step // common * (1 if second.step > 0 else -1)
    i = gap // common * pow(first.step // common, -1, period) % period
    j = (first.start + first.step * i - second.start) // second.step
    last = len(second) - 1 - j
    lowest, highest = (-(j // stride), last // stride) if stride > 0 else (-(last // -stride), j // -stride)
    lowest, highest = max(lowest, 0), min(highest, (len(first) - 1 - i) // period)
    if lowest > highest:
        return None
    count = highest - lowest + 1
    indices = _progression(i + period * lowest, period, count), _progression(j + stride * lowest, stride, count)
    return indices if stride > 0 else (indices[0][::-1], indices[1][::-1])


def as_slice(positions: range) -> slice:
    """The slice that reads the (non-negative) positions of a range out of an array."""
    return slice(positions.start, positions.stop if positions.stop >= 0 else None, positions.step)


def _progression(start: int, step: int, count: int) -> range:
    return range(start, start + step * count, step)
