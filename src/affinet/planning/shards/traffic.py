"""Counts the numbers that a step under the rules of a block sends between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.law import Linear
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.blocks.ties import Ties
from affinet.planning.shards.division import (
    are_split_alike,
    divided_cells,
    divided_classes,
    holders_of,
    is_one_cell,
    local_pairs,
    reads_others,
)
from affinet.planning.shards.splits import Splits

Way = Literal["local", "sums", "entries"]
"""What processes exchange: nothing; sums over the entries of each; or the entries themselves, each of them all."""
WIDE = 8
"""Bytes of a number that is added up in float64."""


@dataclass(frozen=True)
class Traffic:
    """What one process sends in a step: numbers of the dtype of the weights, and numbers of float64."""

    way: Way
    numbers: int = 0
    wide_numbers: int = 0

    def bytes_sent(self, itemsize: int) -> int:
        """Bytes, for weights whose numbers have `itemsize` bytes."""
        return self.numbers * itemsize + self.wide_numbers * WIDE


def traffic_of(block: AnyBlock, splits: Mapping[str, Splits]) -> Traffic:
    """The traffic of a block whose weights are split over one mesh, of the process that holds most of it."""
    named = {parameter.name: splits[parameter.name] for parameter, _ in block.entries.sizes}
    if not any(each.dimensions for each in named.values()):
        return Traffic("local")
    law, entries = block.law(), block.entries.count
    if not isinstance(law, Linear):
        # Bounds are clamped after the step; all else reads the gradient, and the weights before and after the step.
        return Traffic("entries", entries if law.count() == 1 else 3 * entries)
    if isinstance(block, Fixed):
        return Traffic("local")
    if isinstance(block, Slices) and (cells := divided_cells(block, named[block.parameter.name])) is not None:
        if not cells.dimensions:
            return Traffic("local")
        rows = len(block.basis)
        each = (1 if block.even else rows + 1) + rows + 2 * len(block.copies)
        box = named[block.parameter.name].largest_box
        return Traffic("sums", each * len(cells.loops.on(box).cells))
    if isinstance(block, Pairs) and not reads_others(block) and local_pairs(block, named) is not None:
        return Traffic("local")
    if reads_others(block) or not are_split_alike(named):
        return Traffic("entries", *((0, 2 * entries) if law.wide else (2 * entries, 0)))
    if isinstance(block, Ties):
        classes = divided_classes(block, named)
        in_small = int(classes.small[block.classes.class_of].sum())
        summed = int((classes.across & ~classes.small).sum())
        way: Way = "local" if not classes.across.any() else "sums" if summed else "entries"
        return Traffic(way, 2 * in_small, 5 * summed)
    if isinstance(block, Dense) and is_one_cell(block):
        rows = block.basis.shape[1]
        return Traffic("sums", 2 * rows + 1) if len(np.unique(holders_of(block, named))) > 1 else Traffic("local")
    return Traffic("entries", 2 * entries)
