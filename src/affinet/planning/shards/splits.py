"""A split of a weight over a mesh of processes: the box that each of them holds, and which of them hold an entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from affinet.language.calculus.terms import Integers


@dataclass(frozen=True)
class Split:
    """A weight is split along its `axis` between the processes along one dimension of the mesh.

    Each of `pieces` equal pieces is split apart: FSDP does so with what tensor parallelism has split already.
    """

    axis: int
    pieces: int = 1


@dataclass(frozen=True)
class HeldBox:
    """Entries `offset + i`, `i < sizes`, along each axis of a weight of `shape`; perhaps none of them."""

    shape: tuple[int, ...]
    offset: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of entries."""
        return prod(self.sizes)

    def positions(self) -> Integers:
        """The positions in the weight of the entries of the box, row-major."""
        numbers = np.zeros(1, np.int64)
        for n, first, size in zip(self.shape, self.offset, self.sizes, strict=True):
            numbers = (numbers[:, None] * n + np.arange(first, first + size)).ravel()
        return numbers

    def find(self, positions: Integers) -> Integers:
        """The row-major place in the box of each position of the weight, −1 for positions outside it."""
        if self.sizes == self.shape:
            return positions
        if not self.size:
            return np.full(len(positions), -1, np.int64)
        inside, place = np.ones(len(positions), bool), np.zeros(len(positions), np.int64)
        for index, first, size in zip(np.unravel_index(positions, self.shape), self.offset, self.sizes, strict=True):
            inside &= (index >= first) & (index < first + size)
            place = place * size + (index - first)
        return np.where(inside, place, -1)


@dataclass(frozen=True)
class Splits:
    """A weight of `shape` on a mesh of `mesh` processes: for each dimension of the mesh a split, or None for copies."""

    shape: tuple[int, ...]
    mesh: tuple[int, ...]
    by_dimension: tuple[Split | None, ...]

    @cached_property
    def dimensions(self) -> tuple[int, ...]:
        """The dimensions of the mesh along which processes hold different entries."""
        return tuple(d for d, split in enumerate(self.by_dimension) if split is not None and self.mesh[d] > 1)

    def dimensions_of(self, axis: int) -> tuple[int, ...]:
        """Those along which the axis is split."""
        splits = self.by_dimension
        return tuple(d for d in self.dimensions if (split := splits[d]) is not None and split.axis == axis)

    def splits_along(self, axis: int) -> tuple[tuple[int, int, int], ...]:
        """The dimensions of the mesh along which the axis is split, their sizes, and the pieces split apart."""
        splits = [(d, self.by_dimension[d]) for d in self.dimensions_of(axis)]
        return tuple((d, self.mesh[d], split.pieces) for d, split in splits if split is not None)

    def box(self, coordinate: Sequence[int]) -> HeldBox | None:
        """What the process at a coordinate of the mesh holds; None where it is not a box."""
        indices = [self._indices(axis, coordinate) for axis in range(len(self.shape))]
        if not all((np.diff(index) == 1).all() for index in indices):
            return None
        offset = tuple(int(index[0]) if len(index) else 0 for index in indices)
        return HeldBox(self.shape, offset, tuple(len(index) for index in indices))

    def boxes_along(self, dimension: int) -> list[HeldBox] | None:
        """What each process along a dimension of the mesh holds, which is the only one along which the weight is split.

        None where a process holds several boxes.
        """
        split = self.by_dimension[dimension]
        assert split is not None
        if split.pieces > 1:
            return None
        boxes = []
        for part in chunks(np.arange(self.shape[split.axis]), self.mesh[dimension]):
            offset, sizes = [0] * len(self.shape), list(self.shape)
            offset[split.axis], sizes[split.axis] = int(part[0]) if len(part) else 0, len(part)
            boxes.append(HeldBox(self.shape, tuple(offset), tuple(sizes)))
        return boxes

    @property
    def largest_box(self) -> HeldBox:
        """What the first process holds, of which none holds more."""
        box = self.box((0,) * len(self.mesh))
        assert box is not None  # one piece of each axis
        return box

    def holders(self, positions: Integers) -> Integers:
        """For each position, a number of the processes that hold it: the same for those that hold copies."""
        holder = np.zeros(len(positions), np.int64)
        for axis, index in enumerate(np.unravel_index(positions, self.shape)):
            if self.dimensions_of(axis):
                holder += self._holders_along(axis)[index]
        return holder

    def _holders_along(self, axis: int) -> Integers:
        dimensions = self.dimensions_of(axis)
        holders = np.zeros(self.shape[axis], np.int64)
        for coordinates in product(*(range(self.mesh[d]) for d in dimensions)):
            coordinate = [0] * len(self.mesh)
            for d, place in zip(dimensions, coordinates, strict=True):
                coordinate[d] = place
            number = np.ravel_multi_index(coordinate, self.mesh)
            holders[self._indices(axis, coordinate)] = number
        return holders

    def _indices(self, axis: int, coordinate: Sequence[int]) -> Integers:
        """The indices along an axis that the process at a coordinate holds."""
        indices = np.arange(self.shape[axis])
        for d in self.dimensions_of(axis):
            split = self.by_dimension[d]
            assert split is not None
            parts = [chunks(piece, self.mesh[d])[coordinate[d]] for piece in chunks(indices, split.pieces)]
            indices = np.concatenate(parts)
        return indices


def chunks(index: Integers, count: int) -> list[Integers]:
    """As `torch.chunk`, with empty pieces where there are fewer numbers than pieces."""
    size = -(-len(index) // count)
    return [index[first * size : (first + 1) * size] for first in range(count)]
