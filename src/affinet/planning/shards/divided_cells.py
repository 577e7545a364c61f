"""The cells of a regular block, and the entries in them, that a process holds: as strided loops over its own box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from affinet.blocks.offsets import Dim, Nest
from affinet.blocks.places import Stepped
from affinet.language.calculus.terms import Integers, row_major_steps
from affinet.planning.shards.splits import HeldBox


@dataclass(frozen=True)
class AxisLoop:
    """Entries `start + step · i`, `i < size`, along one axis of a weight."""

    axis: int
    start: int
    step: int
    size: int

    def within(self, first: int, count: int) -> range:
        """The i of the entries with an index from `first` on, of which there are `count`; they follow one another."""
        if not count:
            return range(0)
        low, high = sorted(((first - self.start) / self.step, (first + count - 1 - self.start) / self.step))
        return range(max(0, int(np.ceil(low))), min(self.size, int(np.floor(high)) + 1))


@dataclass(frozen=True)
class LocalCells:
    """Numbers of the cells that a process holds and of the entries in each, and their loops over its part."""

    cells: Integers
    entries: Integers
    offset: int
    dims: tuple[Dim, ...]


@dataclass(frozen=True)
class CellLoops:
    """The loops over cells and inside cells, each along an axis of its own, and the index along all other axes."""

    outer: tuple[AxisLoop, ...]
    inner: tuple[AxisLoop, ...]
    start: tuple[int, ...]

    def ranges_on(self, box: HeldBox) -> list[range]:
        """Which steps of each loop reach into a box."""
        return [loop.within(box.offset[loop.axis], box.sizes[loop.axis]) for loop in (*self.outer, *self.inner)]

    def on(self, box: HeldBox) -> LocalCells:
        """What a process with this box holds. Law: its cells and entries are a product, each cell has the same."""
        looped = {loop.axis for loop in (*self.outer, *self.inner)}
        other_axes = [axis for axis in range(len(box.sizes)) if axis not in looped]
        if any(not 0 <= self.start[axis] - box.offset[axis] < box.sizes[axis] for axis in other_axes):
            return LocalCells(np.zeros(0, np.int64), np.zeros(0, np.int64), 0, ((0, 1),))
        ranges = self.ranges_on(box)
        offset, dims = self.dims_on(box, ranges)
        count = len(self.outer)
        cells = _numbers(ranges[:count], [loop.size for loop in self.outer])
        entries = _numbers(ranges[count:], [loop.size for loop in self.inner])
        return LocalCells(cells, entries, offset if len(cells) * len(entries) else 0, dims)

    def dims_on(self, box: HeldBox, ranges: Sequence[range]) -> tuple[int, tuple[Dim, ...]]:
        """The first of some steps of the loops in the part of a process, and what each loop adds to it there."""
        looped = {loop.axis for loop in (*self.outer, *self.inner)}
        steps = row_major_steps(box.sizes)
        offset = sum(
            (self.start[axis] - box.offset[axis]) * steps[axis] for axis in range(len(box.sizes)) if axis not in looped
        )
        dims = []
        for loop, part in zip((*self.outer, *self.inner), ranges, strict=True):
            offset += (loop.start + loop.step * part.start - box.offset[loop.axis]) * steps[loop.axis]
            dims.append((len(part), loop.step * steps[loop.axis]))
        return offset, tuple(dims)


def loops_of(places: Stepped) -> CellLoops | None:
    """The loops of cells along axes; None where a loop goes along several axes, or two loops along one."""
    shape = places.parameter.shape
    if not isinstance(places.outer, Nest) or not isinstance(places.inner, Nest) or not places.count:
        return None
    start = tuple(int(index) for index in np.unravel_index(places.offset, shape)) if shape else ()
    outer = [loop for dim in places.outer.dims for loop in _along_axes(dim, start, shape)]
    inner = [loop for dim in places.inner.dims for loop in _along_axes(dim, start, shape)]
    loops = [*outer, *inner]
    if None in loops or len({loop.axis for loop in loops if loop is not None}) < len(loops):
        return None
    found_outer, found_inner = ([loop for loop in part if loop is not None] for part in (outer, inner))
    return CellLoops(tuple(found_outer), tuple(found_inner), start)


def _along_axes(dim: Dim, start: Sequence[int], shape: Sequence[int]) -> list[AxisLoop | None]:
    """A loop as loops along one axis each, from the slowest to the fastest; [None] where it is not of such loops."""
    size, step = dim
    if size == 1:
        return []
    steps = row_major_steps(tuple(shape))
    for axis in range(len(shape)):
        ratio, remainder = divmod(step, steps[axis])
        if not remainder and shape[axis] > 1 and 0 <= start[axis] + ratio * (size - 1) < shape[axis]:
            return [AxisLoop(axis, start[axis], ratio, size)]
    for axis, n in enumerate(shape):
        # All of one axis, and on along the next slower ones.
        if n > 1 and steps[axis] == step and start[axis] == 0 and size % n == 0:
            return [*_along_axes((size // n, step * n), start, shape), AxisLoop(axis, 0, 1, n)]
    return [None]


def _numbers(ranges: Sequence[range], sizes: Sequence[int]) -> Integers:
    """The row-major numbers of the places in ranges of a box of these sizes."""
    numbers = np.zeros(1, np.int64)
    for part, size in zip(ranges, sizes, strict=True):
        numbers = (numbers[:, None] * size + np.arange(part.start, max(part.start, part.stop))).ravel()
    return numbers
