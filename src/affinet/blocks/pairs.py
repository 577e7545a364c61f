"""Two boxes of entries that are tied entry by entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np
from scipy import sparse

from affinet.blocks.copies import renumber
from affinet.blocks.entry_sets import View
from affinet.blocks.gram import squared, unit_row
from affinet.blocks.interval import Interval
from affinet.blocks.phrases import BYTES, many
from affinet.blocks.places import Following, box, entry_counts, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.tolerance import Tolerance


@dataclass(frozen=True, eq=False)
class Pairs:
    """`first == ratio · second + shift`, entry by entry of two boxes that share no entry.

    `without` are places of the flattened boxes, rising, that belong to another block on both sides.
    """

    first: View
    second: View
    ratio: float
    shift: Floats
    rules: tuple[int, ...]
    without: Integers = field(default_factory=no_places)

    @property
    def entries(self) -> Following:
        """Where its entries lie."""
        return Following(
            (box(self.first), box(self.second)), np.concatenate([self.without, self.without + self.first.size])
        )

    @property
    def condition(self) -> float:
        return 1.0  # no two of its equations share an entry

    @property
    def size(self) -> int:
        return 2 * self.rank

    @property
    def rank(self) -> int:
        return self.first.size - len(self.without)

    @property
    def ambiguous(self) -> int:
        return 0

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        return float(self.gram(unit_row(place, 2 * self.first.size))[0, 0])

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return np.array([place, self._partner(place)], np.int64), None

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return iter(())  # its equations tie their entries outright

    def taken(self) -> dict[Parameter, Interval]:
        sizes = self.sizes()
        count = self.rank if len(sizes) == 1 else 0
        return {parameter: Interval.of(count) for parameter in sizes}

    def fixed(self) -> dict[Parameter, int]:
        return {}

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally(pairs=self.rank)

    def describe(self) -> str:
        return f"{many(self.rank, 'pair')} of {self.first.parameter.name} and {self.second.parameter.name}"

    def bytes_a_step(self) -> int:
        return 4 * BYTES * self.size

    def renumbered(self, numbers: Mapping[int, int]) -> Pairs:
        return replace(self, rules=renumber(self.rules, numbers))

    def homogeneous(self) -> Pairs:
        return replace(self, shift=np.zeros(()))

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        first, second = np.split(vectors, 2, axis=1)
        shift = np.broadcast_to(self.shift if affine else np.zeros(()), [size for size, _ in self.first.dims]).ravel()
        z = second + (first - shift - self.ratio * second) * (self.ratio / (1.0 + self.ratio**2))
        return np.concatenate([self.ratio * z + shift, z], axis=1)

    def gram(self, rows: sparse.csr_array) -> Floats:
        """In the orthonormal coordinates `(ratio first + second) / √(1 + ratio²)` of what pairs leave free."""
        n = self.first.size
        free = (self.ratio * rows[:, :n] + rows[:, n:]) / sqrt(1.0 + self.ratio**2)
        return squared(sparse.csr_array(free))

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        return np.zeros(len(vectors))  # no two of its equations share an entry

    def partners(self, place: int) -> list[tuple[int, float]]:
        exact = abs(self.ratio) == 1.0 and not np.any(self.shift)
        return [(self._partner(place), self.ratio)] if exact else []

    def pinned_value(self, place: int) -> float | None:
        return None

    def _partner(self, place: int) -> int:
        return (place + self.first.size) % (2 * self.first.size)
