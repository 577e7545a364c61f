"""Classes of tied entries under no other equation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from affinet.blocks.classes import Classes
from affinet.blocks.copies import renumber
from affinet.blocks.interval import Interval
from affinet.blocks.phrases import many
from affinet.blocks.places import Listed, Part, entry_counts, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter


@dataclass(frozen=True, eq=False)
class Ties:
    """Classes of tied entries, every class free."""

    parts: tuple[Part, ...]
    classes: Classes
    rules: tuple[int, ...]

    @property
    def entries(self) -> Listed:
        """Where its entries lie."""
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
