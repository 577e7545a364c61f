"""Limit how many numbers are read from a file: a few bytes can announce billions of them."""

from __future__ import annotations

MOST_UNFOLDED = 2**29
"""Most bytes of the numbers of a file, in float64 or wider; a larger file may unfold to GROWTH times its size."""

GROWTH = 8
"""The factor by which whole numbers of one byte grow when they become float64."""


def refusal_of_size(size: int, numbers: int, item_bytes: int) -> str:
    """The reason to refuse so many numbers from a file of `size` bytes; an empty text where they are accepted."""
    needed, limit = numbers * max(8, item_bytes), max(MOST_UNFOLDED, GROWTH * size)
    if needed <= limit:
        return ""
    return f"{numbers:,} numbers, which take {needed:,} bytes, and at most {limit:,} are unfolded from {size:,}"
