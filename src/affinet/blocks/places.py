"""Where the entries of a block lie, apart from what holds there: sets of entries, each with an order of its own.

A place is a number in that order. All kinds answer the same questions: how many entries are read, in which ranges of
which parameters they lie, which columns of the layout they are, and the place of a column.
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
    """No places at all."""
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Part:
    """Irregular entries of one parameter, by position, in their block's own order.

    `listed` is None where they are most entries of the parameter, in row-major order: all but those in `missing`.
    """

    parameter: Parameter
    listed: Integers | None
    missing: Integers = field(default_factory=no_places)

    @property
    def positions(self) -> Integers:
        return self.listed if self.listed is not None else others(self.missing, self.parameter.size)

    @property
    def size(self) -> int:
        return self.parameter.size - len(self.missing) if self.listed is None else len(self.listed)

    def find(self, positions: Integers) -> Integers:
        """The place of each position of the parameter in the part, −1 where it is none of its entries."""
        if self.listed is None:
            at = np.searchsorted(self.missing, positions)
            nearest = self.missing[np.minimum(at, len(self.missing) - 1)] if len(self.missing) else positions - 1
            return np.where((at < len(self.missing)) & (nearest == positions), -1, positions - at)
        return searched(self.listed, positions)


def others(numbers: Integers, bound: int) -> Integers:
    """The numbers below `bound` that are not among the given ones, rising."""
    rest = np.ones(bound, bool)
    rest[numbers] = False
    return np.flatnonzero(rest)


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
        found = np.full(len(columns), -1, np.int64)
        if len(inside):
            found[inside] = self._located(positions[inside] - self.offset)
        return found

    def _located(self, positions: Integers) -> Integers:
        if isinstance(self.outer, Nest) and isinstance(self.inner, Nest) and mixed_radix(self.outer, self.inner):
            return located((*self.outer.dims, *self.inner.dims), positions)
        forecast("the places of entries that follow no steps", 4 * self.count)
        return searched((self.outer.table()[:, None] + self.inner.table()).ravel(), positions)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A set of entries of one parameter, rising."""

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
        found = np.full(len(columns), -1, np.int64)
        found[inside] = place_in(self.entries, positions[inside])
        return found


@dataclass(frozen=True, eq=False)
class Listed:
    """Entries one by one, part after part."""

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
        found, first = np.zeros(len(at), np.int64), 0
        for part in self.parts:
            own = (at >= first) & (at < first + part.size)
            if own.any():
                found[own] = layout.start(part.parameter) + part.positions[at[own] - first].astype(np.int64)
            first += part.size
        return found

    def find(self, columns: Integers, layout: Layout) -> Integers:
        found, first = np.full(len(columns), -1, np.int64), 0
        for part in self.parts:
            positions = columns - layout.start(part.parameter)
            inside = np.flatnonzero((positions >= 0) & (positions < part.parameter.size))
            place = part.find(positions[inside])
            held = place >= 0
            found[inside[held]] = first + place[held]
            first += part.size
        return found


@dataclass(frozen=True, eq=False)
class Following:
    """The entries of several places, one after the other.

    `left_out` are places that are read and belong to other blocks, of pieces of one parameter each; `unmoved` tells of
    places whether no equation is about them.
    """

    pieces: tuple[Places, ...]
    left_out: Integers = field(default_factory=no_places)
    unmoved: Callable[[Integers], NDArray[np.bool_]] | None = None

    @property
    def count(self) -> int:
        return sum(piece.count for piece in self.pieces)

    @property
    def sizes(self) -> list[tuple[Parameter, int]]:
        found, first = [], 0
        for piece in self.pieces:
            out = int(((self.left_out >= first) & (self.left_out < first + piece.count)).sum())
            found += [(parameter, size - out) for parameter, size in piece.sizes] if out else piece.sizes
            first += piece.count
        return found

    @property
    def spans(self) -> list[Span]:
        return [span for piece in self.pieces for span in piece.spans]

    def columns(self, at: Integers, layout: Layout) -> Integers:
        found, first = np.zeros(len(at), np.int64), 0
        for piece in self.pieces:
            own = (at >= first) & (at < first + piece.count)
            if own.any():
                found[own] = piece.columns(at[own] - first, layout)
            first += piece.count
        return found

    def find(self, columns: Integers, layout: Layout) -> Integers:
        found, first = np.full(len(columns), -1, np.int64), 0
        for piece in self.pieces:
            place = piece.find(columns, layout)
            found = np.where(place >= 0, first + place, found)
            first += piece.count
        if len(self.left_out):
            found[np.isin(found, self.left_out)] = -1
        if self.unmoved is not None:
            found[(found >= 0) & self.unmoved(np.maximum(found, 0))] = -1
        return found


@dataclass(frozen=True, eq=False)
class Beside:
    """The rows of several boxes side by side: the loops over rows come first in each, which has `rows` of them."""

    members: tuple[View, ...]
    rows: int

    @cached_property
    def bounds(self) -> tuple[int, ...]:
        """The first column of the matrix that each member has, and how many columns there are in all."""
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
        found = np.zeros(len(at), np.int64)
        for view, first, last in zip(self.members, self.bounds, self.bounds[1:], strict=False):
            own = (column >= first) & (column < last)
            found[own] = box(view).columns(row[own] * (last - first) + column[own] - first, layout)
        return found

    def find(self, columns: Integers, layout: Layout) -> Integers:
        found = np.full(len(columns), -1, np.int64)
        for view, first, last in zip(self.members, self.bounds, self.bounds[1:], strict=False):
            row, column = np.divmod(box(view).find(columns, layout), last - first)
            found = np.where(row >= 0, row * self.bounds[-1] + first + column, found)
        return found


Places = Stepped | Listed | Chosen | Following | Beside
"""What all of them answer: `count` entries are read, `sizes` of which parameters, within `spans`; `columns(at, layout)`
of some places, and `find(columns, layout)`, the place of each column, −1 where it is none of the entries."""


def box(view: View) -> Stepped:
    """The places of a box, row-major in its loops."""
    return Stepped(view.parameter, view.offset, Nest(view.dims), Nest(()))


def searched(entries: Integers, sought: Integers) -> Integers:
    """The place of each number among `entries`, in any order; −1 where it is none of them."""
    if not len(entries):
        return np.full(len(sought), -1, np.int64)
    order = None if (np.diff(entries) > 0).all() else np.argsort(entries)
    at = np.minimum(np.searchsorted(entries, sought, sorter=order), len(entries) - 1)
    at = at if order is None else order[at]
    return np.where(entries[at] == sought, at, -1)


def entry_counts(places: Places) -> dict[Parameter, int]:
    """How many entries of each parameter there are."""
    counts = Counter[Parameter]()
    for parameter, count in places.sizes:
        counts[parameter] += count
    return dict(counts)
