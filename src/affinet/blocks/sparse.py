"""One large component of equations on classes of tied entries, solved by a sparse factor or iteration."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import sparse

from affinet.blocks.classes import Classes
from affinet.blocks.interval import Interval
from affinet.blocks.places import Listed, Part
from affinet.language.calculus.terms import Floats

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
