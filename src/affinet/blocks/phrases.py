"""Helpers for the phrases that descriptions of blocks share."""

from __future__ import annotations

BYTES = 4
"""Bytes of a float32 entry: the figures for bytes per step are for float32 parameters."""


def many(count: int, word: str, words: str = "") -> str:
    """`1 equation`, `2 equations`, `2 entries`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def solved_groups(groups: int, equations: int, up_to: str = "") -> str:
    """Groups of equations that share no entry with each other."""
    if groups == 1:
        return f"{many(equations, 'equation')}{', solved together' if equations > 1 else ''}"
    if equations == 1:
        return f"{many(groups, 'equation')}, each by itself"
    return f"{many(groups, 'group')} of {up_to}{many(equations, 'equation')}, each solved together"


def without(count: int) -> str:
    """` less 3 entries`, nothing for none."""
    return f" less {count:,} entr{'ies' if count != 1 else 'y'}" if count else ""
