"""A compiled loop over a range, in a few threads where that pays."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

STREAMED = 2**22
SCATTERED = 2**20
"""Entries worth a thread, for loops that stream through memory and for those that jump about in it.

The threads of torch's own operations still turn in waiting for some milliseconds after each of them; until they sleep
another thread gets half a core. One thread streams 4 M entries in a millisecond, and scatters them in twenty.
"""


def in_parallel(
    loop: Callable[[int, int], None], count: int, entries: int, threads: int, worth: int = STREAMED
) -> None:
    """Call `loop(first, last)` on parts of `range(count)`; `loop` releases the interpreter's lock.

    Each entry belongs to one part, so that results are the same bits whatever the number of threads. Plain threads: the
    pools of numba's own parallel loops must not meet a fork.
    """
    parts = min(threads, count, max(1, entries // worth))
    bounds = [count * k // parts for k in range(parts + 1)] if parts > 1 else [0, count]
    others = [Thread(target=loop, args=bounds[k : k + 2], daemon=True) for k in range(1, parts)]
    for thread in others:
        thread.start()
    loop(bounds[0], bounds[1])
    for thread in others:
        thread.join()
