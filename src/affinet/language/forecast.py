"""Refuse steps that would take too much memory, before they take it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from affinet.errors import TooLargeError

LIMIT = 4 * 2**30
"""Bytes that one table or coefficient array may take. A rule that needs more is almost surely a mistake."""

BACKED = 2**29
"""Bytes that a step may take while a small file is read; for a larger file it is GROWTH times its size, up to LIMIT."""
GROWTH = 16
"""Bytes that a step may take for each byte of a large file."""

_WAY_OUT = "Write the rule in parts, or with slices in place of reshapes and index arrays."
_limited: ContextVar[tuple[int, str] | None] = ContextVar("_limited", default=None)


@contextmanager
def limited(size: int, way_out: str, *, limit: int | None = None) -> Iterator[None]:
    """Limit the memory of every step inside the `with` block to `most` bytes, or by the size of a file, in bytes.

    A file is limited by its size because a few bytes from a stranger could ask for all of LIMIT. `way_out` is the
    advice in the error where the limit is below LIMIT.
    """
    limit = min(LIMIT, max(BACKED, GROWTH * size) if limit is None else limit)
    token = _limited.set((limit, way_out if limit < LIMIT else _WAY_OUT))
    try:
        yield
    finally:
        _limited.reset(token)


def forecast(description: str, size: int, *, item_bytes: int = 8, way_out: str = "") -> None:
    """Raise `TooLargeError` where `size` items of `item_bytes` bytes exceed the limit; `way_out` is other advice."""
    limit, usual_way_out = _limited.get() or (LIMIT, _WAY_OUT)
    if size * item_bytes > limit:
        raise TooLargeError(description, size * item_bytes, limit, way_out or usual_way_out)
