"""How much memory a step may take, said before it is taken."""

from __future__ import annotations

from affinet.errors import TooLargeError

LIMIT = 4 * 2**30
"""Bytes that one table or coefficient array may take. A rule that needs more was almost surely not meant so."""


def forecast(what: str, size: int, *, item_bytes: int = 8) -> None:
    """Raise `TooLargeError` when `size` items of `item_bytes` bytes go over the limit."""
    if size * item_bytes > LIMIT:
        raise TooLargeError(
            what,
            size * item_bytes,
            LIMIT,
            "Say the rule in parts, or with slices in place of reshaped or fancy indices.",
        )
