"""A block of tied entries that are in no other equation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from affinet.blocks.classes import Classes, Means
from affinet.blocks.copies import renumber
from affinet.blocks.entry_sets import Mask
from affinet.blocks.interval import Interval
from affinet.blocks.law import Linear, Rounds, silenced
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.phrases import many
from affinet.blocks.places import Listed, Part, entry_counts, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter


@dataclass(frozen=True, eq=False)
class Ties:
    """Classes of tied entries, each with a free value."""

    parts: tuple[Part, ...]
    classes: Classes
    rules: tuple[int, ...]

    @property
    def entries(self) -> Listed:
        """The places of its entries."""
        return Listed(self.parts)

    @property
    def size(self) -> int:
        return len(self.classes.class_of)

    @property
    def rank(self) -> int:
        return self.size - self.classes.count

    @property
    def ambiguous(self) -> int:
        return 0

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        return self.classes.share(place)

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return self.classes.mates(place)

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return self.classes.tied(self.rules, most)

    def taken(self) -> dict[Parameter, Interval]:
        return {parameter: Interval.of(count) for parameter, count in self.classes.taken(self.parts).items()}

    def fixed(self) -> dict[Parameter, int]:
        return {}

    def resolution(self) -> Resolution:
        return replace(REGULAR, irregular=True, linked=not self.classes.plain)

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return self.classes.pairs_or_groups()

    def describe(self) -> str:
        return f"{many(self.size, 'entry', 'entries')} tied in {many(self.classes.count, 'group')}"

    def bytes_a_step(self) -> int:
        return self.classes.bytes_a_step()

    def renumbered(self, numbers: Mapping[int, int]) -> Ties:
        return replace(self, rules=renumber(self.rules, numbers))

    def only(self, chosen: Mask) -> Ties:
        """The ties of some classes."""
        is_chosen, classes = chosen[self.classes.class_of], self.classes
        ends = np.cumsum([0, *(part.size for part in self.parts)])
        parts = [
            Part(part.parameter, part.positions[is_chosen[first:last]])
            for part, first, last in zip(self.parts, ends, ends[1:], strict=False)
        ]
        class_number, entry_number = np.cumsum(chosen) - 1, np.cumsum(is_chosen) - 1
        scale, shift = (values if len(values) == 1 else values[is_chosen] for values in (classes.scale, classes.shift))
        fewer = Classes(
            class_number[classes.class_of[is_chosen]], scale, shift, entry_number[classes.representative[chosen]]
        )
        return Ties(tuple(part for part in parts if part.size), fewer, self.rules)

    def law(self) -> Linear[Averages]:
        """The law over its entries, as one flat row, part after part."""
        return Linear(Averages(Means(self.classes)))


@dataclass(frozen=True, eq=False)
class Averages:
    """The projection of ties: every class becomes its mean, and all entries are computed from that number.

    Entries of a class are noise together, so that the number is silenced before the entries are computed from it.
    """

    means: Means

    @property
    def shape(self) -> tuple[int, ...]:
        classes, shard = self.means.classes, self.means.shard
        return (len(classes.class_of) if shard is None else len(shard),)

    @property
    def wide(self) -> bool:
        """True: sums over large classes need more digits than their entries."""
        return True

    def for_holder(self, entries: Integers, *, exact_sums: bool = False) -> Averages:
        """The law for the holder of some entries of the block; `exact_sums` where these are float32 or coarser."""
        return Averages(Means(self.means.classes, entries, exact_sums))

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        z, _ = yield from self.means.reduced(xp, x, affine=True)
        return self.means.expanded(xp, z, affine=True)

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        z, sizes = yield from self.means.reduced(xp, x, affine=False, squares=floor > 0.0)
        if sizes is not None and floor:
            z = silenced(xp, z, sizes * (2.0 * floor))
        return self.means.expanded(xp, z, affine=False)

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Law: every class becomes its mean, weighted by the metric."""
        z, _ = yield from self.means.reduced_in_metric(xp, x, metric)
        return self.means.expanded(xp, z, affine=True)
