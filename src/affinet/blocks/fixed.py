"""A block of entries of one parameter that are fixed at given values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from affinet.blocks.copies import renumber
from affinet.blocks.entry_sets import EntrySet, View, set_of_positions
from affinet.blocks.interval import Interval
from affinet.blocks.law import Linear, Rounds
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.phrases import BYTES
from affinet.blocks.places import Chosen
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter


@dataclass(frozen=True, eq=False)
class Fixed:
    """Entries of one parameter, each fixed at one value.

    `stored` is the value of all entries, or an array of values: for a view, in the shape of its loops with length one
    along loops where the value repeats; otherwise one value per entry, in ascending order. Where `negated`, the values
    are `-stored`: the array is then the constant of the rule `w - value == 0` itself, which is not copied. Steps of a
    view are positive.
    """

    parameter: Parameter
    places: EntrySet
    stored: float | Floats
    negated: bool
    rules: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.places.size

    @property
    def rank(self) -> int:
        return self.places.size

    @property
    def entries(self) -> Chosen:
        """The places of its entries."""
        return Chosen(self.parameter, self.places)

    @property
    def ambiguous(self) -> int:
        return 0

    def sizes(self) -> dict[Parameter, int]:
        return {self.parameter: self.size}

    def freedom(self, place: int) -> float | None:
        return 0.0

    def value(self, place: int) -> float | None:
        return float(self.values_at(np.array([place]))[0])

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return np.array([place], np.int64), None

    def determined(self, most: int) -> tuple[Integers, Floats]:
        places = np.arange(self.size if self.size <= most else 0)
        return places, self.values_at(places)

    def tied(self, most: int) -> Iterator[Tied]:
        return iter(())

    def taken(self) -> dict[Parameter, Interval]:
        return {self.parameter: Interval.of(self.size)}

    def fixed(self) -> dict[Parameter, int]:
        return self.sizes()

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally(fixed=self.size)

    def describe(self) -> str:
        return f"{self.size:,} fixed entr{'ies' if self.size != 1 else 'y'}"

    def bytes_a_step(self) -> int:
        # Each entry is written twice; the places, and values where they differ, are read twice.
        return 2 * BYTES * self.size + 2 * self.bytes_held

    def renumbered(self, numbers: Mapping[int, int]) -> Fixed:
        return replace(self, rules=renumber(self.rules, numbers))

    def values_at(self, at: Integers) -> Floats:
        """The values of the entries at some places, in float64."""
        if isinstance(self.stored, float):
            return np.full(len(at), self.stored)
        if isinstance(self.places, View):
            index = np.unravel_index(at, tuple(size for size, _ in self.places.dims))
            stored_index = tuple(0 if n == 1 else i for i, n in zip(index, self.stored.shape, strict=True))
            values = np.broadcast_to(self.stored[stored_index], len(at)).astype(np.float64)
        else:
            values = self.stored[at].astype(np.float64)
        return 0.0 - values if self.negated else values

    @property
    def bytes_held(self) -> int:
        """Memory of the places and of the values."""
        return self.places.bytes_held + (0 if isinstance(self.stored, float) else int(self.stored.nbytes))

    def law(self) -> Linear[Known]:
        """The law over its entries: in the loops of a view, else one flat row in ascending order."""
        return Linear(Known(self))


def fixed_at(parameter: Parameter, positions: Integers, values: Floats, rules: tuple[int, ...]) -> Fixed:
    """Entries at ascending positions, fixed at `values`."""
    uniform = len(values) and bool((values == values[0]).all())
    return Fixed(
        parameter, set_of_positions(positions, parameter.size), float(values[0]) if uniform else values, False, rules
    )


@dataclass(frozen=True, eq=False)
class Known:
    """The projection of fixed entries: their values, and zero for vectors. Holders need nothing from one another."""

    block: Fixed

    @property
    def shape(self) -> tuple[int, ...]:
        places = self.block.places
        return tuple(size for size, _ in places.dims) if isinstance(places, View) else (places.size,)

    @property
    def wide(self) -> bool:
        """False: values are rounded once, to the dtype of the entries."""
        return False

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        yield from ()
        stored = np.asarray(self.block.stored)
        values = xp.array(0.0 - stored if self.block.negated else stored, x)
        return xp.broadcast(values, tuple(x.shape))

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        yield from ()
        return xp.broadcast(xp.array(0.0, x), tuple(x.shape))

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """The same in every metric."""
        return (yield from self.nearest(xp, x))
