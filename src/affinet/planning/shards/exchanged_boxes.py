"""Finds boxes of pairs whose entries two processes hold, from the loops of a block and the boxes of the processes.

What one process gives to another is then a few slices of its weights, instead of a list of positions. A process that
holds a box of the left side and one of the right side shares with each other process the steps of the loops that are
in its own box of one side and in that process' box of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from affinet.blocks.entry_sets import View
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.planning.shards.divided_cells import CellLoops
from affinet.planning.shards.splits import HeldBox


@dataclass(frozen=True, eq=False)
class Crossing:
    """Pairs of an entry of this process and one of another process, `peer`: a box of entries of each.

    `pairs` are those of two boxes in the loops of the box of this process, which is its first one if `is_first`.
    """

    peer: int
    number: int
    """Which box of this process has the entries."""
    steps: tuple[slice, ...]
    """Where in that box they are."""
    pairs: Pairs
    is_first: bool
    sending_order: tuple[int, ...]
    """The loops as entries are given, from the slowest one in memory to the fastest."""
    receiving_order: tuple[int, ...]
    """Along which loop of this process each axis goes of what is received, in the order in which the peer gives it."""
    flips: tuple[int, ...]
    """The loops that what is received follows backwards."""

    @property
    def size(self) -> int:
        """The number of pairs; those of other blocks in the box do not count."""
        return self.pairs.rank

    @property
    def unsent(self) -> Integers:
        """Places of the box, in the order in which entries are given, that belong to other blocks; ascending."""
        return self._places_without(self.sending_order, ())

    @property
    def unreceived(self) -> Integers:
        """The same for the order in which entries are received."""
        return self._places_without(self.receiving_order, self.flips)

    def _places_without(self, order: tuple[int, ...], flips: tuple[int, ...]) -> Integers:
        sizes = [size for size, _ in self.pairs.first.dims]
        index = np.unravel_index(self.pairs.without, sizes)
        turned = [sizes[loop] - 1 - index[loop] if loop in flips else index[loop] for loop in order]
        places = np.ravel_multi_index(tuple(turned), tuple(sizes[loop] for loop in order))
        return np.sort(places).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ExchangedBoxes:
    """The boxes of entries of one process, as views of the parts that it holds, and which pairs it shares with whom.

    Law: what a process gives to another one, in the order of `sent`, is what that one gets in the order of `received`.
    """

    views: tuple[View, ...]
    crossings: tuple[Crossing, ...]
    local: Pairs | None = None
    """The pairs of which it holds both entries, of the parts that it holds; None without any."""
    mirror: Mirror | None = None
    """The mirror of those entries of its part whose images it holds too; None without any."""

    @property
    def sent(self) -> list[Crossing]:
        """In the order of processes, boxes of the left side first."""
        return sorted(self.crossings, key=lambda each: (each.peer, not each.is_first))

    @property
    def received(self) -> list[Crossing]:
        """In the order of processes, those first whose other entries are boxes of the left side."""
        return sorted(self.crossings, key=lambda each: (each.peer, each.is_first))


Ranges = Sequence[range]


def boxes_of_pairs(
    block: Pairs, loops: Sequence[CellLoops], parts: Sequence[Sequence[HeldBox]], process: int
) -> ExchangedBoxes:
    """The exchange of one process, where process k holds `parts[side][k]` of the weight of a side."""
    ranges = [[reached(each, part) for part in of_side] for each, of_side in zip(loops, parts, strict=True)]
    shift = _over_loops(block.shift, block.first, loops[0])
    views, crossings = [], []
    for side in (0, 1):
        own_ranges, name = ranges[side][process], block.boxes[side].parameter.name
        views.append(_view(name, loops[side], own_ranges, parts[side][process]))
        for peer, of_peer in enumerate(ranges[1 - side]):
            both = [common(*pair) for pair in zip(own_ranges, of_peer, strict=True)]
            if peer != process and _count(both):
                steps = _steps(both, own_ranges)
                without = _without(block.without, loops[0], both)
                pairs = _pairs(both, block.ratio, _part(shift, both), block.rules, without)
                orders = (_memory_order(loops[side]), _memory_order(loops[1 - side]))
                crossings.append(Crossing(peer, side, steps, pairs, side == 0, *orders, ()))
    both = [common(*pair) for pair in zip(ranges[0][process], ranges[1][process], strict=True)]
    local = None
    if _count(both):
        first, second = (
            _view(view.parameter.name, each, both, of_side[process])
            for view, each, of_side in zip(block.boxes, loops, parts, strict=True)
        )
        without = _without(block.without, loops[0], both)
        local = Pairs(first, second, block.ratio, _part(shift, both), block.rules, without)
    return ExchangedBoxes(tuple(views), tuple(crossings), local)


def boxes_of_mirror(block: Mirror, loops: CellLoops, parts: Sequence[HeldBox], process: int) -> ExchangedBoxes:
    """The exchange of one process, where process k holds `parts[k]`; the lower number has the left side."""
    ranges = [reached(loops, part) for part in parts]
    shift, order = _over_loops(block.shift, block.view, loops), _memory_order(loops)
    if shift.size > 1:
        # Of an entry on the right side the equation of its image, which has the shift of the left side.
        image = np.flip(np.transpose(shift, block.permutation), block.flips)
    else:
        image = shift
    crossings = []
    for peer, of_peer in enumerate(ranges):
        both = [common(*pair) for pair in zip(ranges[process], imaged(block, of_peer), strict=True)]
        if peer != process and _count(both):
            is_first = process < peer
            without = _without(block.without, loops, both)
            pairs = _pairs(both, block.sign, _part(shift if is_first else image, both), block.rules, without)
            received = tuple(block.permutation.index(loop) for loop in order)
            steps = _steps(both, ranges[process])
            crossings.append(Crossing(peer, 0, steps, pairs, is_first, order, received, block.flips))
    view, mirror = _view(block.view.parameter.name, loops, ranges[process], parts[process]), None
    both = [common(*pair) for pair in zip(ranges[process], imaged(block, ranges[process]), strict=True)]
    if _count(both):
        inner = _view(block.view.parameter.name, loops, both, parts[process])
        mirror = replace(block, view=inner, shift=_part(shift, both), without=_without(block.without, loops, both))
    return ExchangedBoxes((view,), tuple(crossings), mirror=mirror)


def reached(loops: CellLoops, local_box: HeldBox) -> list[range]:
    """The steps of each loop that reach into a box; none where it is outside of them."""
    looped = {loop.axis for loop in loops.outer}
    is_outside = any(
        not 0 <= loops.start[axis] - local_box.offset[axis] < local_box.sizes[axis]
        for axis in range(len(local_box.sizes))
        if axis not in looped
    )
    return [range(0) if is_outside else each for each in loops.ranges_on(local_box)]


def common(first: range, second: range) -> range:
    """The numbers that are in both."""
    return range(max(first.start, second.start), max(first.start, second.start, min(first.stop, second.stop)))


def imaged(block: Mirror, ranges: Ranges) -> list[range]:
    """The steps of the loops of the images of entries in a box."""
    images = list(ranges)
    for axis, other in enumerate(block.permutation):
        size = block.view.dims[axis][0]
        turned = range(size - ranges[axis].stop, size - ranges[axis].start)
        images[other] = turned if axis in block.flips else ranges[axis]
    return images


def _view(name: str, loops: CellLoops, ranges: Ranges, part: HeldBox) -> View:
    """A box of the part of a weight."""
    if not _count(ranges):
        return View(Parameter(name, part.sizes), 0, tuple((0, 1) for _ in ranges))
    offset, dims = loops.dims_on(part, ranges)
    return View(Parameter(name, part.sizes), offset, dims)


def _memory_order(loops: CellLoops) -> tuple[int, ...]:
    """The loops in the order of their axes, which is that of steps in memory in any part of a row-major weight."""
    return tuple(sorted(range(len(loops.outer)), key=lambda number: loops.outer[number].axis))


def _steps(ranges: Ranges, outer: Ranges) -> tuple[slice, ...]:
    return tuple(
        slice(part.start - all_of.start, part.stop - all_of.start) for part, all_of in zip(ranges, outer, strict=True)
    )


def _over_loops(shift: Floats, view: View, loops: CellLoops) -> Floats:
    """The numbers of a box along its loops; a single one for all stays single."""
    shift = np.asarray(shift)
    if shift.size == 1:
        return shift.reshape(())
    return np.broadcast_to(shift, [size for size, _ in view.dims]).reshape([loop.size for loop in loops.outer])


def _part(shift: Floats, ranges: Ranges) -> Floats:
    return shift[tuple(slice(part.start, part.stop) for part in ranges)] if shift.size > 1 else shift


def _without(places: Integers, loops: CellLoops, ranges: Ranges) -> Integers:
    """Places of a box that are in some steps of its loops, as places of these steps."""
    if not len(places):
        return places
    index = np.unravel_index(places, [loop.size for loop in loops.outer])
    steps = [each - part.start for each, part in zip(index, ranges, strict=True)]
    inside = np.all([(each >= 0) & (each < len(part)) for each, part in zip(steps, ranges, strict=True)], axis=0)
    return np.ravel_multi_index(tuple(each[inside] for each in steps), tuple(map(len, ranges))).astype(np.int64)


def _pairs(ranges: Ranges, ratio: float, shift: Floats, rules: tuple[int, ...], without: Integers) -> Pairs:
    """`first == ratio · second + shift` of two boxes of these sizes."""
    box = View(Parameter("", (_count(ranges),)), 0, tuple((len(part), 1) for part in ranges))
    return Pairs(box, box, ratio, shift, rules, without)


def _count(ranges: Ranges) -> int:
    return prod(len(part) for part in ranges)
