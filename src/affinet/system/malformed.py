"""Check the kind and range of values read from a file before they are used: a file is not trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

MOST = 2**62
"""Largest count, position or size in a file, so that 64 bits do not overflow."""

LARGEST = 1e140
"""Largest number in a file, so that sums of squares do not overflow."""


class Malformed(Exception):
    """The contents of a file are not a plan; the message says where and what is wrong."""


def fields(value: object, where: str, needed: Iterable[str], optional: Iterable[str] = ()) -> Mapping[str, Any]:
    """A table that has every key of `needed`, and only keys of `needed` and `optional`. Raises Malformed."""
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
    """A short text for any value, for use in errors."""
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    return f"{value!r:.60}"
