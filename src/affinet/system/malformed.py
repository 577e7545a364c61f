"""Values read from a file, checked for kind and range before anything is made of them: a file is not trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

MOST = 2**62
"""No count, position or size in a file goes beyond this, so that none overflows 64 bits."""

LARGEST = 1e140
"""No number in a file goes beyond this, so that no sum of their squares overflows."""


class Malformed(Exception):
    """What a file says is no plan; the message says where and what is wrong."""


def fields(value: object, where: str, needed: Iterable[str], optional: Iterable[str] = ()) -> Mapping[str, Any]:
    """A table that has every key of `needed`, and no key that is in neither list. Raises Malformed."""
    needed = tuple(needed)
    if not isinstance(value, dict):
        raise Malformed(f"{where} is {shown(value)}, not a table")
    missing = [key for key in needed if key not in value]
    unknown = [key for key in value if key not in needed and key not in tuple(optional)]
    if missing:
        raise Malformed(f"{where} lacks {missing[0]!r}")
    if unknown:
        raise Malformed(f"{where} has an unknown key {unknown[0]!r:.60}")
    return value


def items(value: object, where: str) -> list[Any]:
    """A list. Raises Malformed."""
    if not isinstance(value, list):
        raise Malformed(f"{where} is {shown(value)}, not a list")
    return value


def integer(value: object, where: str, low: int = 0, high: int = MOST) -> int:
    """An integer from `low` to `high`. Raises Malformed."""
    if type(value) is not int:
        raise Malformed(f"{where} is {shown(value)}, not an integer")
    if not low <= value <= high:
        raise Malformed(f"{where} is {shown(value)}, not between {low} and {high}")
    return value


def integers(value: object, where: str, low: int = 0, high: int = MOST) -> tuple[int, ...]:
    """Several integers from `low` to `high`. Raises Malformed."""
    return tuple(integer(item, where, low, high) for item in items(value, where))


def number(value: object, where: str, low: float = -LARGEST, high: float = LARGEST) -> float:
    """A finite number from `low` to `high`. Raises Malformed."""
    if type(value) is not float and type(value) is not int:
        raise Malformed(f"{where} is {shown(value)}, not a number")
    if not low <= value <= high or not math.isfinite(value):
        raise Malformed(f"{where} is {shown(value)}, not between {low:g} and {high:g}")
    return float(value)


def text(value: object, where: str) -> str:
    """Text that is not empty. Raises Malformed."""
    if not isinstance(value, str) or not value.strip():
        raise Malformed(f"{where} is {shown(value)}, not text")
    return value


def shown(value: object) -> str:
    """A value as it stands in an error: short, whatever it is."""
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    return f"{value!r:.60}"
