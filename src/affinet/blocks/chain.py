"""A block of many cells whose entries ascend by at least given gaps, between bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from affinet.blocks.copies import renumber
from affinet.blocks.interval import Interval
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.phrases import BYTES, many
from affinet.blocks.places import Places, entry_counts, no_places
from affinet.blocks.pooled_cells import PooledCells, PoolFace
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter


@dataclass(frozen=True, eq=False)
class Chain:
    """`w[i+1] − w[i] ≥ gap[i]` and `lower ≤ w ≤ upper` in every cell of `width` entries.

    Entries lie cell after cell; a descending chain has its entries in reversed order. `gap` broadcasts to
    (cells, width − 1), `lower` and `upper` to (cells, 1) and may be infinite. Where a bound is finite, no gap is
    negative. Every cell has more than one point.

    A chain has no equations, so that its rank is zero and all entries are free.
    """

    entries: Places
    cells: int
    width: int
    gap: Floats
    lower: Floats
    upper: Floats
    rules: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.cells * self.width

    @property
    def rank(self) -> int:
        return 0

    @property
    def ambiguous(self) -> int:
        return 0

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        return 1.0

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return np.array([place], np.int64), None

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return iter(())

    def taken(self) -> dict[Parameter, Interval]:
        return dict.fromkeys(self.sizes(), Interval(0, 0))

    def fixed(self) -> dict[Parameter, int]:
        return {}

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally()

    def describe(self) -> str:
        bounded = bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())
        each = f"{many(self.width, 'entry', 'entries')}{' between bounds' if bounded else ''}"
        return f"{many(self.cells, 'ascending chain')} of {each}"

    def bytes_a_step(self) -> int:
        # The gradient, the weights and the multipliers are read and written, and a mark per link.
        return 6 * BYTES * self.size + 2 * self.size

    def renumbered(self, numbers: Mapping[int, int]) -> Chain:
        return replace(self, rules=renumber(self.rules, numbers))

    @cached_property
    def set(self) -> PooledCells:
        """The convex set of its entries, as an array (cells, width)."""
        return PooledCells((self.cells, self.width), self.gap, self.lower, self.upper)

    def law(self) -> NormalMap[PoolFace]:
        """The law over its entries, cell by cell."""
        return NormalMap(self.set)
