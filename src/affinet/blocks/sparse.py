"""One large component of equations on classes of tied entries, solved by a sparse factor or iteration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsmr

from affinet.blocks.classes import Classes
from affinet.blocks.copies import renumber
from affinet.blocks.interval import Interval
from affinet.blocks.phrases import many
from affinet.blocks.places import Listed, Part, entry_counts, no_places
from affinet.blocks.resolution import Core, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter

MOST_SOLVED = 2**18
"""Coefficients of a component in which one direction is solved for."""
LARGEST_FILL = 2**25
"""Numbers of a sparse factor up to which it is kept: a quarter of a gigabyte, twice (it comes as L and U)."""


@dataclass(frozen=True, eq=False)
class Sparse:
    """One large component: `matrix @ y == rhs`, y = √D z, rows of norm one.

    `independent` says that its rows are known to be linearly independent, so that `matrix @ matrix.T` can be factored;
    `fill` is how many numbers its factor holds at most. Otherwise conjugate gradients solve the consistent system.
    """

    parts: tuple[Part, ...]
    classes: Classes
    matrix: sparse.csr_array
    rhs: Floats
    rank_of_rows: Interval
    independent: bool
    fill: int
    rules: tuple[int, ...]
    ambiguous: int = 0

    @property
    def entries(self) -> Listed:
        """Where its entries lie."""
        return Listed(self.parts)

    @property
    def factored(self) -> bool:
        """Whether `matrix @ matrix.T` has a factor that is small enough to keep."""
        return self.independent and self.fill <= LARGEST_FILL

    @property
    def size(self) -> int:
        return len(self.classes.class_of)

    @property
    def rank(self) -> int | Interval:
        tied = self.size - self.classes.count
        low, high = self.rank_of_rows.low + tied, self.rank_of_rows.high + tied
        return low if low == high else Interval(low, high)

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        """`P_ii = scale² / D · Q_mm`, Q the tangent projector of y = √D z, by one least-squares problem."""
        if self.matrix.nnz > MOST_SOLVED:
            return None
        number = self.classes.class_of[place]
        unit = np.zeros(self.classes.count)
        unit[number] = 1.0
        multipliers = lsmr(self.matrix.T, unit, atol=1e-13, btol=1e-13, maxiter=5_000)[0]
        return self.classes.share(place) * float(1.0 - (self.matrix.T @ multipliers)[number])

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return self.classes.mates(place)

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return self.classes.tied(self.rules, most)

    def taken(self) -> dict[Parameter, Interval]:
        sizes, rank = self.sizes(), Interval.of(self.rank)
        if len(sizes) == 1:
            return dict.fromkeys(sizes, rank)
        return {parameter: Interval(0, min(rank.high, count)) for parameter, count in sizes.items()}

    def fixed(self) -> dict[Parameter, int]:
        return self.sizes() if self.rank == self.size else {}

    def resolution(self) -> Resolution:
        core = None if self.rank_of_rows.low == self.rank_of_rows.high else Core(len(self.rhs), self.rank_of_rows)
        return Resolution(True, not self.classes.plain, not self.factored, True, 0, (0, 0), core)

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally(equations=Interval.of(self.rank), among=self.size)

    def describe(self) -> str:
        how = "sparse factor" if self.factored else "conjugate gradients"
        return f"{many(len(self.rhs), 'equation')}, solved together ({how})"

    def bytes_a_step(self) -> int:
        return self.classes.bytes_a_step() + 2 * int(self.matrix.data.nbytes)

    def renumbered(self, numbers: Mapping[int, int]) -> Sparse:
        return replace(self, rules=renumber(self.rules, numbers))
