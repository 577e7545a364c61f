"""Entries of one parameter with given values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affinet.blocks.entry_sets import EntrySet, Intervals, Masked, View, set_of_positions
from affinet.blocks.places import Chosen
from affinet.language.calculus.terms import Floats, Integers, Parameter


@dataclass(frozen=True, eq=False)
class Fixed:
    """Entries of one parameter with one value each.

    `stored` is the value of all, or an array of values: for a view of the shape of its loops, with one place along the
    loops that it repeats along, otherwise one for each entry, rising. Where `negated`, values are minus these: the
    array is then the constant of the rule `w - value == 0` itself, which is not copied. Steps of a view are positive.
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
        """Where its entries lie."""
        return Chosen(self.parameter, self.places)


def values_at(block: Fixed, at: Integers) -> Floats:
    """The values of fixed entries at some places, in float64."""
    if isinstance(block.stored, float):
        return np.full(len(at), block.stored)
    if isinstance(block.places, View):
        index = np.unravel_index(at, tuple(size for size, _ in block.places.dims))
        held = tuple(0 if n == 1 else i for i, n in zip(index, block.stored.shape, strict=True))
        found = np.broadcast_to(block.stored[held], len(at)).astype(np.float64)
    else:
        found = block.stored[at].astype(np.float64)
    return 0.0 - found if block.negated else found


def values_of(block: Fixed) -> Floats:
    """The values of all entries, in the order of the set, in float64."""
    return values_at(block, np.arange(block.size))


def bytes_of(block: Fixed) -> int:
    """Memory of the places and of the values."""
    places, stored = block.places, block.stored
    held = 0 if isinstance(stored, float) else int(stored.nbytes)
    if isinstance(places, Masked):
        return held + int(places.mask.nbytes)
    return held + (int(places.first.nbytes + places.last.nbytes) if isinstance(places, Intervals) else 0)


def fixed_at(parameter: Parameter, positions: Integers, values: Floats, rules: tuple[int, ...]) -> Fixed:
    """Entries at positions that rise, fixed at these values."""
    one = len(values) and bool((values == values[0]).all())
    return Fixed(
        parameter, set_of_positions(positions, parameter.size), float(values[0]) if one else values, False, rules
    )
