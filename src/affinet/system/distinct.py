"""Find the distinct numbers of an array and the rank of each, in linear time where the numbers lie close together."""

from __future__ import annotations

import numpy as np

from affinet.language.calculus.terms import Integers

SPREAD = 8
"""A mask over the range of the numbers is cheaper than a sort up to about this many places per number."""


def distinct(numbers: Integers) -> Integers:
    """The distinct numbers in ascending order.

    `numpy.unique` hashes integers, which took ten times as long on a million of them (numpy 2.4).
    """
    if not len(numbers):
        return np.zeros(0, np.int64)
    if _is_ascending(numbers):
        return numbers.astype(np.int64)
    low, high = int(numbers.min()), int(numbers.max())
    if high - low <= SPREAD * len(numbers):
        present: Integers = np.flatnonzero(_mask(numbers, low, high)) + low
        return present
    ordered = np.sort(numbers)
    fresh: Integers = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return fresh


def ranked(numbers: Integers) -> tuple[Integers, Integers]:
    """The distinct numbers in ascending order, and the place of every number among them."""
    if not len(numbers):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if _is_ascending(numbers):
        return numbers.astype(np.int64), np.arange(len(numbers))
    low, high = int(numbers.min()), int(numbers.max())
    if high - low <= SPREAD * len(numbers):
        mask = _mask(numbers, low, high)
        place = np.cumsum(mask)
        return np.flatnonzero(mask) + low, place[numbers - low] - 1
    order = np.argsort(numbers)
    ordered = numbers[order]
    fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    place = np.empty(len(numbers), np.int64)
    place[order] = np.cumsum(fresh) - 1
    return ordered[fresh], place


def _is_ascending(numbers: Integers) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())


def _mask(numbers: Integers, low: int, high: int) -> np.ndarray:
    mask = np.zeros(high - low + 1, bool)
    mask[numbers - low] = True
    return mask
