"""Keep the blocks that a change of right-hand sides left as they were, so that kernels made for them serve on."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from affinet.blocks.kinds import AnyBlock
from affinet.planning.refit.record import same


def unchanged(blocks: Iterable[AnyBlock], before: Sequence[AnyBlock]) -> tuple[AnyBlock, ...]:
    """The blocks, each that equals one of those before in every number replaced by that very object.

    Blocks of the same rules are compared in the order in which they stand, which the same coefficients give.
    """
    waiting: dict[tuple[type, tuple[int, ...]], deque[AnyBlock]] = defaultdict(deque)
    for block in before:
        waiting[type(block), block.rules].append(block)
    found = []
    for block in blocks:
        candidates = waiting[type(block), block.rules]
        earlier = candidates.popleft() if candidates else block
        found.append(earlier if same(earlier, block) else block)
    return tuple(found)


__all__ = ["unchanged"]
