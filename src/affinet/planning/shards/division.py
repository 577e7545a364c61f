"""Decides how the equations of a block divide between processes, from positions alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from affinet.blocks.dense import Dense
from affinet.blocks.entry_sets import Mask
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.pairs import Pairs
from affinet.blocks.places import Following, box
from affinet.blocks.slices import Slices
from affinet.blocks.ties import Ties
from affinet.language.calculus.terms import Integers
from affinet.planning.shards.divided_cells import CellLoops, loops_of
from affinet.planning.shards.splits import Splits

FEW = 5
"""Entries of a class of several processes up to which these are given to all of them: a sum takes five numbers for the
gradient and the weights (two representatives, two sums, one of squares), of eight bytes."""


@dataclass(frozen=True, eq=False)
class DividedCells:
    """Cells along axes of a weight; processes along `dimensions` of the mesh hold different entries of a cell."""

    loops: CellLoops
    dimensions: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class DividedClasses:
    """Which classes of ties have entries on several processes, and which of these have few entries."""

    across: Mask
    small: Mask


def divided_cells(block: Slices, splits: Splits) -> DividedCells | None:
    """How cells divide; None where they are not of loops along axes."""
    loops = loops_of(block.entries)
    if loops is None:
        return None
    dimensions = {dimension for loop in loops.inner for dimension in splits.dimensions_of(loop.axis)}
    return DividedCells(loops, tuple(sorted(dimensions)))


def divided_classes(block: Ties, splits: Mapping[str, Splits]) -> DividedClasses:
    """How the classes of ties divide between processes of one mesh."""
    classes, holders = block.classes, holders_of(block, splits)
    lowest, highest = np.full(classes.count, np.iinfo(np.int64).max), np.full(classes.count, -1)
    np.minimum.at(lowest, classes.class_of, holders)
    np.maximum.at(highest, classes.class_of, holders)
    across = lowest != highest
    sizes = np.bincount(classes.class_of, minlength=classes.count)
    return DividedClasses(across, across & (sizes <= FEW))


def local_pairs(block: Pairs, splits: Mapping[str, Splits]) -> tuple[CellLoops, CellLoops] | None:
    """The loops of both boxes where every process holds the same places of the one and of the other; else None."""
    views = (block.first, block.second)
    loops = [loops_of(box(view)) for view in views]
    first, second = loops
    if first is None or second is None:
        return None
    signatures = [
        [(loop.start, loop.step, loop.size, each.shape[loop.axis], each.splits_along(loop.axis)) for loop in part.outer]
        for part, each in zip((first, second), (splits[view.parameter.name] for view in views), strict=True)
    ]
    looped = [{loop.axis for loop in part.outer} for part in (first, second)]
    others = [
        axis
        for view, axes in zip(views, looped, strict=True)
        for axis in range(len(view.parameter.shape))
        if axis not in axes and splits[view.parameter.name].dimensions_of(axis)
    ]
    return (first, second) if signatures[0] == signatures[1] and not others else None


def is_one_cell(block: Dense) -> bool:
    """Whether dense equations are one set over single entries, of which every process can take its own."""
    singles = block.members.shape[1] == block.size == block.classes.count
    return len(block.basis) == 1 and singles and bool(block.law().projection.means.identical)


def holders_of(block: Ties | Dense, splits: Mapping[str, Splits]) -> Integers:
    """For each entry a number of the processes that hold it."""
    return np.concatenate([splits[part.parameter.name].holders(part.positions) for part in block.parts])


def are_split_alike(splits: Mapping[str, Splits]) -> bool:
    """Whether weights of one mesh are split along the same dimensions of it."""
    return len({(each.mesh, each.dimensions) for each in splits.values()}) == 1


def reads_others(block: AnyBlock) -> bool:
    """Whether a block reads entries that belong to another one."""
    return isinstance(block.entries, Following) and bool(len(block.entries.left_out))
