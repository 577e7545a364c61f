"""Finds the block that contains an entry, and the place of the entry in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from affinet.blocks.block import Block
from affinet.language.calculus.terms import Integers
from affinet.system.layout import Layout


@dataclass(frozen=True, eq=False)
class Standing:
    """A block and the place of an entry in it."""

    block: Block
    place: int

    def mates(self, layout: Layout) -> tuple[Integers, int | None]:
        """The columns of the class of the entry, in ascending order, and the column of its representative.

        The class of a free entry is that entry; the representative is None where the class has none.
        """
        places, representative = self.block.mates(self.place)
        columns = np.unique(self.block.entries.columns(places, layout))
        if representative is None:
            return columns, None
        return columns, int(self.block.entries.columns(np.array([representative]), layout)[0])


def standing(blocks: Sequence[Block], column: int, layout: Layout) -> Standing | None:
    """The block that contains an entry, and its place there; None for an entry in no equation."""
    for block in blocks:
        place = int(block.entries.find(np.array([column], np.int64), layout)[0])
        if place >= 0:
            return Standing(block, place)
    return None
