"""The ordered sets of entries that blocks are about, separate from their equations.

A place is a number in the order of a set. All kinds of sets answer the same questions: how many entries are read, the
ranges of parameters that contain them, their columns in the layout, and the place of a column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from affinet.blocks.entry_sets import EntrySet, View, place_in, position_at, span_of
from affinet.blocks.offsets import Nest, Offsets, located, mixed_radix
from affinet.language.calculus.terms import Integers, Parameter
from affinet.language.forecast import forecast
from affinet.system.layout import Layout

Span = tuple[Parameter, int, int]
"""A parameter, and the lowest and the highest position in it."""


def no_places() -> Integers:
    """An empty array of places."""
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Part:
    """Irregular entries of one parameter, by position, in the order of their block.

    `listed` is None for most entries of the parameter in row-major order: all except those in `missing`.
    """

    parameter: Parameter
    listed: Integers | None
    missing: Integers = field(default_factory=no_places)

    @property
    def positions(self) -> Integers:
        return self.listed if self.listed is not None else complement(self.missing, self.parameter.size)

    @property
    def size(self) -> int:
        return self.parameter.size - len(self.missing) if self.listed is None else len(self.listed)

    def find(self, positions: Integers) -> Integers:
        """The place in the part of each position of the parameter, −1 for a position outside the part."""
        if self.listed is None:
            at = np.searchsorted(self.missing, positions)
            nearest = self.missing[np.minimum(at, len(self.missing) - 1)] if len(self.missing) else positions - 1
            return np.where((at < len(self.missing)) & (nearest == positions), -1, positions - at)
        return searched(self.listed, positions)


def complement(numbers: Integers, bound: int) -> Integers:
    """The numbers below `bound` that are not in `numbers`, in ascending order."""
    absent = np.ones(bound, bool)
    absent[numbers] = False
    return np.flatnonzero(absent)


@dataclass(frozen=True, eq=False)
class Stepped:
    """Cells `offset + outer_c + inner` of one parameter, cell after cell."""

    parameter: Parameter
    offset: int
    outer: Offsets
    inner: Offsets

    @property
    def count(self) -> int:
        return self.outer.size * self.inner.size

    @property
    def sizes(self) -> list[tuple[Parameter, int]]:
        return [(self.parameter, self.count)]

    @property
    def spans(self) -> list[Span]:
        (a, b), (c, d) = self.outer.bounds(), self.inner.bounds()
        return [(self.parameter, self.offset + a + c, self.offset + b + d)]

    def columns(self, at: Integers, layout: Layout) -> Integers:
        start = layout.start(self.parameter) + self.offset
        if isinstance(self.outer, Nest) and isinstance(self.inner, Nest):
            dims = (*self.outer.dims, *self.inner.dims)
            index = np.unravel_index(at, tuple(size for size, _ in dims)) if dims else ()
            steps = (step * i for i, (_, step) in zip(index, dims, strict=True))
            return np.asarray(sum(steps, start=np.full(len(at), start, np.int64)))
        cell, within = np.divmod(at, self.inner.size)
        return np.asarray(start + self.outer.table()[cell] + self.inner.table()[within])

    def find(self, columns: Integers, layout: Layout) -> Integers:
        positions = columns - layout.start(self.parameter)
        ((_, low, high),) = self.spans
        inside = np.flatnonzero((positions >= low) & (positions <= high))
        places = np.full(len(columns), -1, np.int64)
        if len(inside):
            places[inside] = self._located(positions[inside] - self.offset)
        return places

    def _located(self, positions: Integers) -> Integers:
        if isinstance(self.outer, Nest) and isinstance(self.inner, Nest) and mixed_radix(self.outer, self.inner):
            return located((*self.outer.dims, *self.inner.dims), positions)
        forecast("the places of entries that follow no steps", 4 * self.count)
        return searched((self.outer.table()[:, None] + self.inner.table()).ravel(), positions)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A set of entries of one parameter, in ascending order."""

    parameter: Parameter
    entries: EntrySet

    @property
    def count(self) -> int:
        return self.entries.size

    @property
    def sizes(self) -> list[tuple[Parameter, int]]:
        return [(self.parameter, self.count)]

    @property
    def spans(self) -> list[Span]:
        return [(self.parameter, *span_of(self.entries))]

    def columns(self, at: Integers, layout: Layout) -> Integers:
        return layout.start(self.parameter) + position_at(self.entries, at)

    def find(self, columns: Integers, layout: Layout) -> Integers:
        positions = columns - layout.start(self.parameter)
        inside = (positions >= 0) & (positions < self.parameter.size)
        places = np.full(len(columns), -1, np.int64)
        places[inside] = place_in(self.entries, positions[inside])
        return places


@dataclass(frozen=True, eq=False)
class Listed:
    """Entries listed individually, part after part."""

    parts: tuple[Part, ...]

    @property
    def count(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def sizes(self) -> list[tuple[Parameter, int]]:
        return [(part.parameter, part.size) for part in self.parts]

    @property
    def spans(self) -> list[Span]:
        return [(part.parameter, int(part.positions.min()), int(part.positions.max())) for part in self.parts]

    def columns(self, at: Integers, layout: Layout) -> Integers:
        result, first = np.zeros(len(at), np.int64), 0
        for part in self.parts:
            mask = (at >= first) & (at < first + part.size)
            if mask.any():
                result[mask] = layout.start(part.parameter) + part.positions[at[mask] - first].astype(np.int64)
            first += part.size
        return result

    def find(self, columns: Integers, layout: Layout) -> Integers:
        places, first = np.full(len(columns), -1, np.int64), 0
        for part in self.parts:
            positions = columns - layout.start(part.parameter)
            inside = np.flatnonzero((positions >= 0) & (positions < part.parameter.size))
            place = part.find(positions[inside])
            hits = place >= 0
            places[inside[hits]] = first + place[hits]
            first += part.size
        return places


@dataclass(frozen=True, eq=False)
class Following:
    """The entries of several sets, one after the other.

    `left_out` are places that are read but belong to other blocks, in pieces of one parameter each; `unmoved` decides
    for places whether they are in no equation.
    """

    pieces: tuple[Places, ...]
    left_out: Integers = field(default_factory=no_places)
    unmoved: Callable[[Integers], NDArray[np.bool_]] | None = None

    @property
    def count(self) -> int:
        return sum(piece.count for piece in self.pieces)

    @property
    def sizes(self) -> list[tuple[Parameter, int]]:
        counts, first = [], 0
        for piece in self.pieces:
            excluded = int(((self.left_out >= first) & (self.left_out < first + piece.count)).sum())
            counts += [(parameter, size - excluded) for parameter, size in piece.sizes] if excluded else piece.sizes
            first += piece.count
        return counts

    @property
    def spans(self) -> list[Span]:
        return [span for piece in self.pieces for span in piece.spans]

    def columns(self, at: Integers, layout: Layout) -> Integers:
        result, first = np.zeros(len(at), np.int64), 0
        for piece in self.pieces:
            mask = (at >= first) & (at < first + piece.count)
            if mask.any():
                result[mask] = piece.columns(at[mask] - first, layout)
            first += piece.count
        return result

    def find(self, columns: Integers, layout: Layout) -> Integers:
        places, first = np.full(len(columns), -1, np.int64), 0
        for piece in self.pieces:
            place = piece.find(columns, layout)
            places = np.where(place >= 0, first + place, places)
            first += piece.count
        if len(self.left_out):
            places[np.isin(places, self.left_out)] = -1
        if self.unmoved is not None:
            places[(places >= 0) & self.unmoved(np.maximum(places, 0))] = -1
        return places


@dataclass(frozen=True, eq=False)
class Adjacent:
    """Boxes side by side as one matrix, row-major: each box has `rows` rows, and its loops over rows come first."""

    members: tuple[View, ...]
    rows: int

    @cached_property
    def bounds(self) -> tuple[int, ...]:
        """The first column of each member in the matrix, and the number of columns in total."""
        return tuple(int(first) for first in np.cumsum([0, *(view.size // self.rows for view in self.members)]))

    @property
    def count(self) -> int:
        return self.rows * self.bounds[-1]

    @property
    def sizes(self) -> list[tuple[Parameter, int]]:
        return [(view.parameter, view.size) for view in self.members]

    @property
    def spans(self) -> list[Span]:
        return [(view.parameter, *view.span) for view in self.members]

    def columns(self, at: Integers, layout: Layout) -> Integers:
        row, column = np.divmod(at, self.bounds[-1])
        result = np.zeros(len(at), np.int64)
        for view, first, last in zip(self.members, self.bounds, self.bounds[1:], strict=False):
            mask = (column >= first) & (column < last)
            result[mask] = box(view).columns(row[mask] * (last - first) + column[mask] - first, layout)
        return result

    def find(self, columns: Integers, layout: Layout) -> Integers:
        places = np.full(len(columns), -1, np.int64)
        for view, first, last in zip(self.members, self.bounds, self.bounds[1:], strict=False):
            row, column = np.divmod(box(view).find(columns, layout), last - first)
            places = np.where(row >= 0, row * self.bounds[-1] + first + column, places)
        return places


Places = Stepped | Listed | Chosen | Following | Adjacent
"""A set of entries: `count` of them are read, `sizes` per parameter, within `spans`; `columns(at, layout)` of some
places, and `find(columns, layout)`, the place of each column, −1 for a column outside the set."""


def box(view: View) -> Stepped:
    """The places of a box, row-major in its loops."""
    return Stepped(view.parameter, view.offset, Nest(view.dims), Nest(()))


def searched(entries: Integers, numbers: Integers) -> Integers:
    """The index of each number in `entries`, which may be in any order; −1 for a number outside them."""
    if not len(entries):
        return np.full(len(numbers), -1, np.int64)
    order = None if (np.diff(entries) > 0).all() else np.argsort(entries)
    at = np.minimum(np.searchsorted(entries, numbers, sorter=order), len(entries) - 1)
    at = at if order is None else order[at]
    return np.where(entries[at] == numbers, at, -1)


def entry_counts(places: Places) -> dict[Parameter, int]:
    """Count of the entries of each parameter."""
    counts = Counter[Parameter]()
    for parameter, count in places.sizes:
        counts[parameter] += count
    return dict(counts)
