"""Keep the block objects that a change of right-hand sides did not affect, so that their kernels remain in use."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from affinet.blocks.kinds import AnyBlock
from affinet.planning.refit.record import same


def unchanged(blocks: Iterable[AnyBlock], before: Sequence[AnyBlock]) -> tuple[AnyBlock, ...]:
    """The blocks, where each that equals one of `before` in every number is replaced by that object.

    Blocks of the same kind and rules are compared in their order, which is the same for the same coefficients.
    """
    by_kind_and_rules: dict[tuple[type, tuple[int, ...]], deque[AnyBlock]] = defaultdict(deque)
    for block in before:
        by_kind_and_rules[type(block), block.rules].append(block)
    result = []
    for block in blocks:
        candidates = by_kind_and_rules[type(block), block.rules]
        earlier = candidates.popleft() if candidates else block
        result.append(earlier if same(earlier, block) else block)
    return tuple(result)


__all__ = ["unchanged"]
