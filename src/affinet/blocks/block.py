"""The questions that every kind of block answers; a kind that lacks an answer fails the type check.

A place is the number of an entry in the order of `entries`. No verb has a default here: each kind answers all of them
in its own file, and nothing outside asks of which kind a block is, apart from the places that make its kernel and its
basis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

from scipy import sparse

from affinet.blocks.interval import Interval
from affinet.blocks.law import Law
from affinet.blocks.places import Places
from affinet.blocks.resolution import Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.tolerance import Tolerance


class Block(Protocol):
    """Equations that are exact on their entries; two blocks of a plan share no entry."""

    @property
    def rules(self) -> tuple[int, ...]:
        """The numbers of the rules that the equations come from, rising."""

    @property
    def entries(self) -> Places:
        """Where the entries lie."""

    @property
    def size(self) -> int:
        """How many entries the equations are about."""

    @property
    def rank(self) -> int | Interval:
        """Independent equations."""

    @property
    def ambiguous(self) -> int:
        """Groups of equations whose rank was decided close to the tolerance."""

    def sizes(self) -> Mapping[Parameter, int]:
        """How many entries of each parameter the equations are about."""

    def freedom(self, place: int) -> float | None:
        """`P_ii`, the diagonal of the tangent projector: 0 for a determined entry, 1 for one that nothing holds.

        None where finding it would take a large component or product to be solved.
        """

    def value(self, place: int) -> float | None:
        """The value of an entry that can take only one, where the block holds it."""

    def mates(self, place: int) -> tuple[Integers, int | None]:
        """The places of the entries that one number decides together with this one, itself included.

        Also the place of their representative, or None where the class has none.
        """

    def determined(self, most: int) -> tuple[Integers, Floats]:
        """Places of entries that can take only one value, and the values, NaN where a value would have to be solved.

        Empty where there are more than about `most`.
        """

    def tied(self, most: int) -> Iterator[Tied]:
        """Classes of entries that the equations together make equal, opposite or linked; none of more than `most`."""

    def taken(self) -> Mapping[Parameter, Interval]:
        """How many numbers of each parameter the equations take away, whatever the other parameters are."""

    def fixed(self) -> Mapping[Parameter, int]:
        """How many entries of each parameter the block determines, where its structure shows it."""

    def resolution(self) -> Resolution:
        """How the equations were resolved, which decides what analysis can still look for."""

    def condition_of_extra(self) -> float:
        """The condition number of equations that stand on top of others; 1 where there are none."""

    def solves_in_metric(self) -> int | None:
        """How many extra projections one in a diagonal metric takes; None where that metric has no projection."""

    def tally(self) -> Tally:
        """What the equations do, as counts."""

    def describe(self) -> str:
        """How the block holds its rules, in a few words."""

    def bytes_a_step(self) -> int:
        """Bytes read and written to project one gradient and the weights, for float32 parameters."""

    def law(self) -> Law[Any, Any]:
        """How the entries are projected, in every array library and in shards."""

    def renumbered(self, numbers: Mapping[int, int]) -> Self:
        """The same block whose rules have other numbers."""


class Base(Block, Protocol):
    """A block that other equations can stand on top of, in a `Bordered` block."""

    @property
    def rank(self) -> int:
        """Independent equations, known exactly."""

    @property
    def condition(self) -> float:
        """About the condition number of the equations."""

    def homogeneous(self) -> Self:
        """The same equations with right-hand sides of zero: of the same tangent projector."""

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        """The nearest points to the rows of `vectors` (vectors, entries); without `affine`, the tangent parts."""

    def gram(self, rows: sparse.csr_array) -> Floats:
        """`rows P rowsᵀ` (equations, equations) for sparse rows over the entries, P the tangent projector."""

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        """Bound on the rounding error of the tangent part of each row of `vectors` (vectors, entries), by its norm.

        Rounding of equations that almost follow from one another turns the space that their rows span, along each row
        of an orthonormal basis by the tolerance of the rank times the combination of equations that the row is (Wedin;
        Golub & Van Loan, 4th ed., 2.5.3). What a vector has along it is off by that share.
        """

    def partners(self, place: int) -> list[tuple[int, float]]:
        """Places that equal this one (1) or are its opposite (−1) to the bit."""

    def pinned_value(self, place: int) -> float | None:
        """The value that projections give to the entry to the bit, if they do."""
