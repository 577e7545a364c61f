"""Decides how the rules of a block divide between processes, from positions alone.

This is the one place that asks of which kind a block is; what it returns says all that projecting and counting need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np

from affinet.blocks.ball import Ball
from affinet.blocks.bordered import Bordered
from affinet.blocks.chain import Chain
from affinet.blocks.commuting import Commuting
from affinet.blocks.cone import Cone
from affinet.blocks.curved import Curved
from affinet.blocks.dense import Dense
from affinet.blocks.entry_sets import Mask
from affinet.blocks.fixed import Fixed
from affinet.blocks.joined import Joined
from affinet.blocks.kinds import AnyBlock, AnyLinear, AnySet
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Nest
from affinet.blocks.pairs import Pairs
from affinet.blocks.places import Following, Stepped, box, no_places
from affinet.blocks.polyhedron import Polyhedron
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.language.calculus.terms import Integers, Parameter
from affinet.planning.shards.divided_cells import CellLoops, LocalCells, loops_of
from affinet.planning.shards.exchanged import Grouped, holders_of_places, mirrored, paired, stays_local
from affinet.planning.shards.splits import HeldBox, Splits

FEW = 3
"""Entries of a class of several processes up to which their holders exchange these, at 16 bytes at most: a sum takes
three numbers for the gradient and the weights (two sums, one of squares), of eight bytes."""
MOST_LISTED = 2**22
"""Entries of irregular cells up to which it is found out whether their cells are on one process each, in half a second
and some times the memory of the plan, which lists them too."""


@dataclass(frozen=True, eq=False)
class DividedValues:
    """Fixed entries: each process sets those that it holds."""

    block: Fixed


@dataclass(frozen=True, eq=False)
class DividedCells:
    """Cells along axes of a weight; processes along `dimensions` of the mesh hold different entries of a cell."""

    block: Slices
    loops: CellLoops
    dimensions: tuple[int, ...]

    def on_part(self, local: LocalCells, box: HeldBox) -> Slices:
        """The equations of some cells, all of whose entries are in a box, as those of a weight of its size."""
        block, outer = self.block, len(self.loops.outer)
        target, values = (
            numbers if len(numbers) == 1 else numbers[local.cells] for numbers in (block.target, block.values)
        )
        return replace(
            block,
            parameter=Parameter(block.parameter.name, box.sizes),
            offset=local.offset,
            outer=Nest(local.dims[:outer]),
            inner=Nest(local.dims[outer:]),
            target=target,
            values=values,
        )


@dataclass(frozen=True, eq=False)
class DividedClasses:
    """Classes of ties: those `across` processes, and which of these have few entries."""

    block: Ties
    across: Mask
    small: Mask
    dimension: int | None
    """That of the mesh along which holders of small classes exchange them; None where these are given to all."""


@dataclass(frozen=True, eq=False)
class DividedCell:
    """Dense equations that are one set over single entries, of which each process takes its part."""

    block: Dense
    across: bool


@dataclass(frozen=True, eq=False)
class LocalPairs:
    """Pairs of entries of which every process holds both."""

    block: Pairs
    loops: tuple[CellLoops, CellLoops]


@dataclass(frozen=True, eq=False)
class Exchanged:
    """Groups of entries that their holders exchange along a dimension of the mesh; None: each is on one process."""

    grouped: Grouped
    dimension: int | None


@dataclass(frozen=True, eq=False)
class GivenToAll:
    """Equations whose entries are given to all processes, in the message of all blocks."""

    block: AnyLinear


@dataclass(frozen=True, eq=False)
class GatheredAlone:
    """Equations whose entries are given to all processes, in messages of their own."""

    block: AnyLinear


@dataclass(frozen=True, eq=False)
class LocalSet:
    """Inequalities or nonlinear rules, of every cell of which one process holds all entries.

    `loops` are those of cells along axes, without any inside of a cell that is split; None where a process finds its
    cells by the positions of the entries that it holds.
    """

    block: AnySet
    loops: CellLoops | None


@dataclass(frozen=True, eq=False)
class GatheredSet:
    """Inequalities or nonlinear rules, whose entries are given to all processes each time that they are read."""

    block: AnySet


Division = (
    DividedValues
    | DividedCells
    | DividedClasses
    | DividedCell
    | LocalPairs
    | Exchanged
    | GivenToAll
    | GatheredAlone
    | LocalSet
    | GatheredSet
)


def division_of(block: AnyBlock, splits: Mapping[str, Splits], *, on_one_mesh: bool = True) -> Division:
    """How a block divides, whose weights are split so; `on_one_mesh` where they are on the same mesh."""
    named = {parameter.name: splits[parameter.name] for parameter, _ in block.entries.sizes}
    are_alike = on_one_mesh and len({each.dimensions for each in named.values()}) == 1
    reads_others = isinstance(block.entries, Following) and bool(len(block.entries.left_out))
    match block:
        case Cone() | Chain() | Ball() | Polyhedron() | Curved():
            local = None if reads_others else _local_set(block, named, are_alike=are_alike)
            return GatheredSet(block) if local is None else local
        case Mirror() if (turned := mirrored(block)) and stays_local(block, named[block.view.parameter.name]):
            return Exchanged(turned, None)
        case Mirror() if (turned := mirrored(block)) and (dimension := _one_dimension(named)) is not None:
            return Exchanged(turned, dimension)
        case Pairs() if on_one_mesh and not reads_others and (pairs := _local_pairs(block, named)) is not None:
            return pairs
        case Pairs() if are_alike and (two := paired(block)) and (dimension := _one_dimension(named)) is not None:
            return Exchanged(two, dimension)
        case _ if reads_others:
            return GatheredAlone(block)
        case Fixed():
            return DividedValues(block)
        case Slices() if (cells := _divided_cells(block, named[block.parameter.name])) is not None:
            return cells
        case _ if not are_alike:
            return GatheredAlone(block)
        case Ties():
            return _divided_classes(block, named)
        case Dense() if _is_one_cell(block):
            return DividedCell(block, len(np.unique(_holders_of(block, named))) > 1)
        case Slices() | Dense() | Commuting() | Mirror() | Pairs() | Sparse() | Bordered() | Joined():
            return GivenToAll(block)
        case _:
            assert_never(block)


def _local_set(block: AnySet, splits: Mapping[str, Splits], *, are_alike: bool) -> LocalSet | None:
    """None where entries of a cell are on several processes, and for sets whose cells cannot be taken apart."""
    law, entries = block.law(), block.entries
    if law.only(no_places()) is None:
        return None
    cells = law.shape[0]
    if isinstance(entries, Stepped) and law.order is None and entries.outer.size == cells:
        loops = loops_of(entries)
        if loops is not None:
            each = splits[entries.parameter.name]
            return None if any(each.dimensions_of(loop.axis) for loop in loops.inner) else LocalSet(block, loops)
    if law.count() == 1:
        return LocalSet(block, None)
    if not are_alike or entries.count > MOST_LISTED:
        return None
    places = np.arange(entries.count) if law.order is None else law.order
    holders = holders_of_places(entries, splits, places).reshape(cells, -1)
    return LocalSet(block, None) if bool((holders == holders[:, :1]).all()) else None


def _divided_cells(block: Slices, splits: Splits) -> DividedCells | None:
    """None for cells that are not of loops along axes."""
    loops = loops_of(block.entries)
    if loops is None:
        return None
    dimensions = {dimension for loop in loops.inner for dimension in splits.dimensions_of(loop.axis)}
    return DividedCells(block, loops, tuple(sorted(dimensions)))


def _divided_classes(block: Ties, splits: Mapping[str, Splits]) -> DividedClasses:
    classes, holders = block.classes, _holders_of(block, splits)
    lowest, highest = np.full(classes.count, np.iinfo(np.int64).max), np.full(classes.count, -1)
    np.minimum.at(lowest, classes.class_of, holders)
    np.maximum.at(highest, classes.class_of, holders)
    across = lowest != highest
    sizes = np.bincount(classes.class_of, minlength=classes.count)
    return DividedClasses(block, across, across & (sizes <= FEW), _one_dimension(splits))


def _one_dimension(splits: Mapping[str, Splits]) -> int | None:
    """The dimension of the mesh along which all weights are split; None where they are split along several."""
    dimensions = {dimension for each in splits.values() for dimension in each.dimensions}
    return next(iter(dimensions)) if len(dimensions) == 1 else None


def _local_pairs(block: Pairs, splits: Mapping[str, Splits]) -> LocalPairs | None:
    """None unless every process holds the same places of both boxes."""
    views = (block.first, block.second)
    first, second = (loops_of(box(view)) for view in views)
    if first is None or second is None:
        return None
    signatures, is_split_elsewhere = [], False
    for view, loops in zip(views, (first, second), strict=True):
        each = splits[view.parameter.name]
        looped = {loop.axis for loop in loops.outer}
        other_axes = [axis for axis in range(len(each.shape)) if axis not in looped]
        is_split_elsewhere |= any(each.dimensions_of(axis) for axis in other_axes)
        signatures.append(
            [
                (loop.start, loop.step, loop.size, each.shape[loop.axis], each.splits_along(loop.axis))
                for loop in loops.outer
            ]
        )
    return LocalPairs(block, (first, second)) if signatures[0] == signatures[1] and not is_split_elsewhere else None


def _is_one_cell(block: Dense) -> bool:
    singles = block.members.shape[1] == block.size == block.classes.count
    return len(block.basis) == 1 and singles and bool(block.law().projection.means.identical)


def _holders_of(block: Ties | Dense, splits: Mapping[str, Splits]) -> Integers:
    """For each entry a number of the processes that hold it."""
    return np.concatenate([splits[part.parameter.name].holders(part.positions) for part in block.parts])
