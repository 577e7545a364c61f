"""Groups of entries whose numbers only their own holders need: what each process sends to which other, from positions.

A process computes all groups of which it holds an entry: it gets their other entries, and gives its own to the holders
of these. All holders compute a group from the same numbers in the same way, so that they get the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from affinet.blocks.entry_sets import Mask, View
from affinet.blocks.law import Projection
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.places import Places, box, no_places
from affinet.blocks.ties import Ties
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.planning.shards.divided_cells import loops_of
from affinet.planning.shards.exchanged_boxes import (
    ExchangedBoxes,
    boxes_of_mirror,
    boxes_of_pairs,
    common,
    imaged,
    reached,
)
from affinet.planning.shards.splits import HeldBox, Splits
from affinet.system.layout import Layout


@dataclass(frozen=True, eq=False)
class Groups:
    """Some groups of a block: the place of each entry in the block, the number of its group, and their projection.

    Entries are in the order of the projection. `fixed` are places of the block whose value is known, and their values.
    """

    places: Integers
    groups: Integers
    projection: Projection
    fixed: Integers
    values: Floats


class Grouped(Protocol):
    """A block of groups."""

    @property
    def entries(self) -> Places:
        """The places of the block."""

    def with_any_of(self, places: Integers) -> Groups:
        """The groups with any of these places, and those of them that are fixed."""

    def boxes(self, parts: Mapping[str, Sequence[HeldBox]], process: int) -> ExchangedBoxes | None:
        """The boxes of a process, where process k holds `parts[name][k]`; None where entries have to be listed."""

    def crossing(self, splits: Mapping[str, Splits], coordinate: int, dimension: int) -> int:
        """Numbers that a process gives to others: its entries, once for each process that needs them."""


@dataclass(frozen=True, eq=False)
class Partners:
    """What one process gives and gets, in lists by the other process; of entries of some groups.

    `local_entries` are the numbers of the entries that it holds, `sent` and `received` those of what it gives and gets.
    """

    local_entries: Integers
    sent: Integers
    received: Integers
    sent_sizes: tuple[int, ...]
    received_sizes: tuple[int, ...]


def partners_of(groups: Groups, holders: Integers, coordinate: int, count: int) -> Partners:
    """The exchange of the process at a coordinate, one of `count`; `holders` are those of the entries of the groups.

    Law: what one process sends to another is what that one receives from it, in the same order.
    """
    is_local = holders == coordinate
    local_entries, other_entries = np.flatnonzero(is_local), np.flatnonzero(~is_local)
    received = other_entries[np.lexsort((groups.places[other_entries], holders[other_entries]))]
    # Each group with each other process that has an entry of it.
    needed = np.unique(groups.groups[other_entries] * count + holders[other_entries])
    first, last = (np.searchsorted(needed, (groups.groups[local_entries] + step) * count) for step in (0, 1))
    times = last - first
    giver = np.repeat(local_entries, times)
    to = needed[np.repeat(first - np.cumsum(times) + times, times) + np.arange(len(giver))] % count
    order = np.lexsort((groups.places[giver], to))
    return Partners(local_entries, giver[order], received, _sizes(to, count), _sizes(holders[other_entries], count))


def holders_of_places(entries: Places, splits: Mapping[str, Splits], places: Integers) -> Integers:
    """For each of some places a number of the processes that hold it."""
    layout = Layout.of(parameter for parameter, _ in entries.sizes)
    columns = entries.columns(places, layout)
    numbers, holders = layout.numbers(columns), np.zeros(len(columns), np.int64)
    for number, (parameter, start) in enumerate(zip(layout.parameters, layout.starts, strict=True)):
        in_parameter = numbers == number
        holders[in_parameter] = splits[parameter.name].holders(columns[in_parameter] - start)
    return holders


def coordinates(holders: Integers, mesh: tuple[int, ...], dimension: int) -> Integers:
    """The coordinate of holders along a dimension of their mesh."""
    return np.asarray(np.unravel_index(holders, mesh)[dimension], np.int64)


@dataclass(frozen=True, eq=False)
class PairedBoxes:
    """Two boxes that are tied entry by entry."""

    block: Pairs

    @property
    def entries(self) -> Places:
        return self.block.entries

    def with_any_of(self, places: Integers) -> Groups:
        block, size = self.block, self.block.first.size
        pairs = np.unique(places % size)
        shift = _at(np.asarray(block.shift), block.first, pairs)
        projection = _pairs(len(pairs), block.ratio, shift)
        both = np.concatenate([pairs, pairs + size])
        return Groups(both, np.concatenate([pairs, pairs]), projection, no_places(), np.zeros(0))

    def boxes(self, parts: Mapping[str, Sequence[HeldBox]], process: int) -> ExchangedBoxes | None:
        loops = [each for view in self.block.boxes if (each := loops_of(box(view))) is not None]
        return boxes_of_pairs(self.block, loops, [parts[view.parameter.name] for view in self.block.boxes], process)

    def crossing(self, splits: Mapping[str, Splits], coordinate: int, dimension: int) -> int:
        parts = []
        for view in self.block.boxes:
            loops, each = loops_of(box(view)), splits[view.parameter.name]
            local_box = each.box(_process(each, coordinate, dimension))
            assert loops is not None
            assert local_box is not None
            parts.append(reached(loops, local_box))
        first, second = parts
        shared = prod(len(common(*pair)) for pair in zip(first, second, strict=True))
        size, without = self.block.first.size, self.block.without
        sides = (without, without + size), (without + size, without)
        left_out = sum(_crossing(self.entries, splits, np.concatenate(side), coordinate, dimension) for side in sides)
        return prod(map(len, first)) + prod(map(len, second)) - 2 * shared - left_out


@dataclass(frozen=True, eq=False)
class MirroredBox:
    """A box that is its own mirror image."""

    block: Mirror

    @property
    def entries(self) -> Places:
        return self.block.entries

    def with_any_of(self, places: Integers) -> Groups:
        block = self.block
        images = block.images(places)
        lower = np.unique(np.minimum(places, images)[places != images])
        shift = _at(np.asarray(block.shift), block.view, lower)
        fixed = places[places == images] if block.sign < 0 else no_places()
        values = np.broadcast_to(_at(np.asarray(block.shift), block.view, fixed) / 2.0, fixed.shape)
        both = np.concatenate([lower, block.images(lower)])
        projection = _pairs(len(lower), block.sign, shift)
        return Groups(both, np.concatenate([lower, lower]), projection, fixed, values)

    def boxes(self, parts: Mapping[str, Sequence[HeldBox]], process: int) -> ExchangedBoxes | None:
        loops = loops_of(box(self.block.view))
        assert loops is not None
        return boxes_of_mirror(self.block, loops, parts[self.block.view.parameter.name], process)

    def crossing(self, splits: Mapping[str, Splits], coordinate: int, dimension: int) -> int:
        loops, each = loops_of(box(self.block.view)), splits[self.block.view.parameter.name]
        local_box = each.box(_process(each, coordinate, dimension))
        assert loops is not None
        assert local_box is not None
        ranges = reached(loops, local_box)
        images = imaged(self.block, ranges)
        without = self.block.without
        places = np.concatenate([without, self.block.images(without)])
        left_out = _crossing(self.entries, splits, places, coordinate, dimension)
        shared = prod(len(common(*pair)) for pair in zip(ranges, images, strict=True))
        return prod(map(len, ranges)) - shared - left_out


@dataclass(frozen=True, eq=False)
class TiedClasses:
    """Classes of few entries each."""

    block: Ties

    @property
    def entries(self) -> Places:
        return self.block.entries

    def with_any_of(self, places: Integers) -> Groups:
        block = self.block
        chosen: Mask = np.zeros(block.classes.count, bool)
        chosen[block.classes.class_of[places]] = True
        entries = np.flatnonzero(chosen[block.classes.class_of])
        groups = block.classes.class_of[entries].astype(np.int64)
        return Groups(entries, groups, block.only(chosen).law().projection, no_places(), np.zeros(0))

    def boxes(self, parts: Mapping[str, Sequence[HeldBox]], process: int) -> ExchangedBoxes | None:
        return None

    def crossing(self, splits: Mapping[str, Splits], coordinate: int, dimension: int) -> int:
        every = np.arange(self.block.size)
        each = next(iter(splits.values()))
        holders = coordinates(holders_of_places(self.entries, splits, every), each.mesh, dimension)
        groups = self.with_any_of(every[holders == coordinate])
        return len(partners_of(groups, holders[groups.places], coordinate, each.mesh[dimension]).sent)


def paired(block: Pairs) -> PairedBoxes | None:
    """None unless both boxes have loops along axes, the same ones."""
    loops = [loops_of(box(view)) for view in block.boxes]
    sizes = [None if each is None else [loop.size for loop in each.outer] for each in loops]
    return PairedBoxes(block) if sizes[0] is not None and sizes[0] == sizes[1] else None


def mirrored(block: Mirror) -> MirroredBox | None:
    """None unless each loop of the box is along an axis of its own."""
    loops = loops_of(box(block.view))
    alike = loops is not None and [loop.size for loop in loops.outer] == [size for size, _ in block.view.dims]
    return MirroredBox(block) if alike else None


def stays_local(mirror: Mirror, splits: Splits) -> bool:
    """Whether every process holds the images of its entries: no axis that is split is permuted or flipped."""
    loops = loops_of(box(mirror.view))
    assert loops is not None
    for axis, other in enumerate(mirror.permutation):
        is_moved = axis != other or axis in mirror.flips
        if is_moved and any(splits.dimensions_of(loops.outer[each].axis) for each in (axis, other)):
            return False
    return True


def _pairs(count: int, ratio: float, shift: Floats) -> Projection:
    """`first == ratio · second + shift`, of as many pairs as rows of two."""
    sides = [View(Parameter(name, (max(1, count),)), 0, ((count, 1),)) for name in ("first", "second")]
    return Pairs(sides[0], sides[1], ratio, shift, ()).law().projection


def _at(numbers: Floats, view: View, places: Integers) -> Floats:
    """Numbers that broadcast to a box, at places of it; a single one for all stays single."""
    if numbers.size == 1:
        return numbers.reshape(())
    sizes = tuple(size for size, _ in view.dims)
    return np.broadcast_to(numbers, sizes)[np.unravel_index(places, sizes)]


def _crossing(entries: Places, splits: Mapping[str, Splits], places: Integers, coordinate: int, dimension: int) -> int:
    """How many entries of the first half of some places a process holds whose partners, the others, it does not."""
    if not len(places):
        return 0
    mesh = next(iter(splits.values())).mesh
    first, second = coordinates(holders_of_places(entries, splits, places), mesh, dimension).reshape(2, -1)
    return int(((first == coordinate) & (second != coordinate)).sum())


def _process(splits: Splits, coordinate: int, dimension: int) -> tuple[int, ...]:
    return tuple(coordinate if d == dimension else 0 for d in range(len(splits.mesh)))


def _sizes(processes: Integers, count: int) -> tuple[int, ...]:
    return tuple(int(size) for size in np.bincount(processes, minlength=count))
