"""Sets of entries of one parameter, stored without a number per entry: as boxes, runs of neighbours or masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from affinet.blocks.offsets import Dim, Nest, located
from affinet.language.calculus.terms import Integers, Parameter
from affinet.language.forecast import forecast

Mask = NDArray[np.bool_]

LONG = 64
"""Entries of the parameter per run from which on runs are stored instead of a mask: they are smaller and as fast.
(A loop over the mask of 9 million entries took 1.7 ms; over runs of 100 entries on average 1.9.)"""
BLOCK = 4_096
"""Positions of a mask that are counted together, to find the number of Trues before a position."""


@dataclass(frozen=True)
class View:
    """A regular box of entries of one parameter, `offset + Σ step_k i_k`; steps may be negative."""

    parameter: Parameter
    offset: int
    dims: tuple[Dim, ...]

    @property
    def size(self) -> int:
        return prod(size for size, _ in self.dims)

    @property
    def bytes_held(self) -> int:
        """Memory of tables."""
        return 0

    @property
    def span(self) -> tuple[int, int]:
        low, high = Nest(self.dims).bounds()
        return self.offset + low, self.offset + high


@dataclass(frozen=True, eq=False)
class Intervals:
    """Disjoint runs of neighbouring positions of a parameter, `first_k <= position < last_k`, in ascending order."""

    first: Integers
    last: Integers

    @cached_property
    def before(self) -> Integers:
        """The number of positions before each run, and in total."""
        return np.concatenate([[0], np.cumsum(self.last - self.first)])

    @property
    def size(self) -> int:
        return int(self.before[-1])

    @property
    def bytes_held(self) -> int:
        """Memory of the runs."""
        return int(self.first.nbytes + self.last.nbytes)


@dataclass(frozen=True, eq=False)
class Masked:
    """The positions at which a mask over the flat parameter is True: one byte per entry of the parameter."""

    mask: NDArray[np.bool_]
    size: int

    @property
    def bytes_held(self) -> int:
        """Memory of the mask."""
        return int(self.mask.nbytes)


EntrySet = View | Intervals | Masked
"""Entries of one parameter, stored without a number per entry."""


def set_of_mask(mask: Mask) -> Intervals | Masked:
    """The set of the positions at which a mask over the flat parameter is True. The mask is stored, not copied."""
    changes = mask[1:] != mask[:-1]
    if (np.count_nonzero(changes) // 2) * LONG > len(mask):
        return Masked(mask, int(np.count_nonzero(mask)))
    edges = np.flatnonzero(changes) + 1
    bounds = np.concatenate([[0] if mask[:1].any() else [], edges, [len(mask)] if mask[-1:].any() else []])
    if len(bounds) // 2 * LONG <= len(mask):
        return Intervals(bounds[0::2].astype(np.int64), bounds[1::2].astype(np.int64))
    return Masked(mask, int(np.count_nonzero(mask)))


def set_of_positions(positions: Integers, entries: int) -> Intervals | Masked:
    """The set of ascending positions in a parameter with `entries` entries."""
    breaks = np.flatnonzero(np.diff(positions) != 1)
    if (len(breaks) + 1) * LONG <= entries or entries <= BLOCK:
        first = np.concatenate([positions[:1], positions[breaks + 1]])
        last = np.concatenate([positions[breaks], positions[-1:]]) + 1
        return Intervals(first.astype(np.int64), last.astype(np.int64))
    forecast("the mask of fixed entries", entries, item_bytes=1)
    mask = np.zeros(entries, bool)
    mask[positions] = True
    return Masked(mask, len(positions))


def positions_of(places: EntrySet) -> Integers:
    """All positions, in the order of the set."""
    match places:
        case View():
            return places.offset + Nest(places.dims).table()
        case Intervals():
            lengths = places.last - places.first
            return np.arange(places.size) + np.repeat(places.first - places.before[:-1], lengths)
        case Masked():
            return np.flatnonzero(places.mask)
        case _:
            assert_never(places)


def position_at(places: EntrySet, at: Integers) -> Integers:
    """The positions at some places in the order of the set."""
    match places:
        case View():
            index = np.unravel_index(at, tuple(size for size, _ in places.dims)) if places.dims else ()
            steps = (step * i for i, (_, step) in zip(index, places.dims, strict=True))
            return np.asarray(sum(steps, start=np.full(len(at), places.offset, np.int64)))
        case Intervals():
            run = np.searchsorted(places.before, at, side="right") - 1
            return places.first[run] + at - places.before[run]
        case Masked():
            return np.flatnonzero(places.mask)[at]
        case _:
            assert_never(places)


def place_in(places: EntrySet, positions: Integers) -> Integers:
    """The place of every position in the order of the set, −1 for a position outside the set."""
    match places:
        case View():
            return located(places.dims, positions - places.offset)
        case Intervals():
            run = np.searchsorted(places.first, positions, side="right") - 1
            inside = (run >= 0) & (positions < places.last[run]) if len(places.first) else run >= 0
            ranks = positions - places.first[run] + places.before[run] if len(places.first) else run
            return np.where(inside, ranks, -1)
        case Masked():
            return np.where(places.mask[positions], _rank(places.mask, positions), -1)
        case _:
            assert_never(places)


def mask_of(places: EntrySet, entries: int) -> Mask:
    """The set as a mask over a parameter with `entries` entries; not to be written to."""
    if isinstance(places, Masked):
        return places.mask
    forecast("the mask of fixed entries", entries, item_bytes=1)
    mask = np.zeros(entries, bool)
    if isinstance(places, View):
        box_in(mask, places)[...] = True
        return mask
    if len(places.first) * BLOCK <= entries:
        for first, last in zip(places.first.tolist(), places.last.tolist(), strict=True):
            mask[first:last] = True
        return mask
    ends = np.zeros(entries + 1, np.int8)
    ends[places.first] = 1
    ends[places.last] -= 1
    return np.cumsum(ends[:-1], dtype=np.int8).view(np.bool_)


def box_in(flat: NDArray[np.generic], view: View) -> NDArray[np.generic]:
    """The entries of a view, as a strided view of the flat parameter."""
    strides = tuple(step * flat.itemsize for _, step in view.dims)
    return as_strided(flat[view.offset :], tuple(size for size, _ in view.dims), strides)


def span_of(places: EntrySet) -> tuple[int, int]:
    """The lowest and the highest position."""
    match places:
        case View():
            return places.span
        case Intervals():
            return int(places.first[0]), int(places.last[-1]) - 1
        case Masked():
            return int(np.argmax(places.mask)), len(places.mask) - 1 - int(np.argmax(places.mask[::-1]))
        case _:
            assert_never(places)


def _rank(mask: Mask, positions: Integers) -> Integers:
    """The number of Trues before each position."""
    if len(positions) * BLOCK > len(mask):
        return np.cumsum(mask, dtype=np.int64)[positions] - mask[positions]
    starts = np.arange(0, len(mask), BLOCK)
    before = np.concatenate([[0], np.cumsum(np.add.reduceat(mask, starts, dtype=np.int64))])
    block, within = np.divmod(positions, BLOCK)
    window = np.minimum(block[:, None] * BLOCK + np.arange(BLOCK), len(mask) - 1)
    inside = (mask[window] & (np.arange(BLOCK) < within[:, None])).sum(axis=1)
    return np.asarray(before[block] + inside)
