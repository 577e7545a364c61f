"""Helpers for the small tables in blocks: copies of entries, values of pinned places, and numbers of rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from affinet.language.calculus.terms import Floats, Integers


def copies_of(copies: Integers, place: int) -> tuple[int, list[int]]:
    """The representative of a place in a table of (member, representative, sign), and its class, which begins there."""
    root = next((int(r) for member, r, _ in copies if member == place), place)
    return root, [root, *(int(member) for member, r, _ in copies if r == root)]


def value_of_place(places: Integers, values: Floats, place: int) -> float | None:
    """The value listed for a place, None where the place is not listed."""
    at = np.flatnonzero(places == place)
    return float(values[at[0]]) if len(at) else None


def renumber(rules: Iterable[int], numbers: Mapping[int, int]) -> tuple[int, ...]:
    """The new numbers of rules, in ascending order."""
    return tuple(sorted(numbers[rule] for rule in rules))
