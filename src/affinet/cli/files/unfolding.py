"""How many numbers are taken from a file: a few bytes can say very many of them."""

from __future__ import annotations

MOST_UNFOLDED = 2**29
"""Of the numbers, in float64 or wider, that a file may unfold to; a larger file may unfold to GROWTH times its size."""

GROWTH = 8
"""What whole numbers of one byte grow by when they become float64."""


def unfolds(size: int, numbers: int, item_bytes: int) -> str:
    """Why so many numbers are not taken from a file of `size` bytes; empty where they are."""
    needed, most = numbers * max(8, item_bytes), max(MOST_UNFOLDED, GROWTH * size)
    if needed <= most:
        return ""
    return f"{numbers:,} numbers, which take {needed:,} bytes, and at most {most:,} are unfolded from {size:,}"
