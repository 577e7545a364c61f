"""How much memory a step may take, said before it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from affinet.errors import TooLargeError

LIMIT = 4 * 2**30
"""Bytes that one table or coefficient array may take. A rule that needs more was almost surely not meant so."""

BACKED = 2**29
"""Bytes that a step may take for what a small file says; of a larger one it is GROWTH times its size, up to LIMIT."""
GROWTH = 16

_WAY_OUT = "Say the rule in parts, or with slices in place of reshaped or fancy indices."
_limited: ContextVar[tuple[int, str] | None] = ContextVar("_limited", default=None)


@contextmanager
def limited(size: int, way_out: str, *, most: int | None = None) -> Iterator[None]:
    """Let no step within take more than `most` bytes, or than what is said by a file of `size` bytes may take.

    `way_out` is what the error says of it, where more can be had. A few bytes from a stranger can ask for all of LIMIT.
    """
    most = min(LIMIT, max(BACKED, GROWTH * size) if most is None else most)
    before = _limited.set((most, way_out if most < LIMIT else _WAY_OUT))
    try:
        yield
    finally:
        _limited.reset(before)


def forecast(what: str, size: int, *, item_bytes: int = 8) -> None:
    """Raise `TooLargeError` when `size` items of `item_bytes` bytes go over the limit."""
    most, way_out = _limited.get() or (LIMIT, _WAY_OUT)
    if size * item_bytes > most:
        raise TooLargeError(what, size * item_bytes, most, way_out)
