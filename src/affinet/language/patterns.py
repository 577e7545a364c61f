"""Match names with stars: `*` stands for one part of a dotted name or a piece of it, `**` for any number of parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache


def is_pattern(name: str) -> bool:
    """Whether a name has a star in it."""
    return "*" in name


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that match the pattern, in their order."""
    expression = _expression(pattern)
    return [name for name in names if expression.fullmatch(name)]


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    parts = pattern.split(".")
    pieces = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            pieces.append(r".+" if last else r"(?:[^.]+\.)*")
        else:
            inside = r"[^.]*".join(re.escape(piece) for piece in part.split("*"))
            pieces.append(inside.replace(r"[^.]*", r"[^.]+") if part == "*" else inside)
            pieces[-1] += "" if last else r"\."
    return re.compile("".join(pieces))
