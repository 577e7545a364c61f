"""Keep the blocks that a change of right-hand sides left as they were, so that kernels made for them serve on."""

from __future__ import annotations

from collections.abc import Sequence

from affinet.blocks.kinds import Block
from affinet.planning.refit.record import same


def unchanged(blocks: Sequence[Block], before: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks, each that is equal in every number to the one at its place before replaced by that very object."""
    if len(blocks) != len(before):
        return tuple(blocks)
    return tuple(old if same(old, new) else new for old, new in zip(before, blocks, strict=True))


__all__ = ["unchanged"]
