"""The protocols of blocks: the questions that every kind of block answers.

A place is the number of an entry in the order of `entries`. No verb has a default: each kind answers all of them in
its own file, and a kind that lacks an answer fails the type check. Nothing outside asks which kind a block is, except
the places that make its kernel and its basis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, Self

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
        """The numbers of the rules that the equations come from, in ascending order."""

    @property
    def entries(self) -> Places:
        """The places and positions of the entries."""

    @property
    def size(self) -> int:
        """Count of the entries in the equations."""

    @property
    def rank(self) -> int | Interval:
        """Independent equations."""

    @property
    def ambiguous(self) -> int:
        """Groups of equations whose rank was decided close to the tolerance."""

    def sizes(self) -> Mapping[Parameter, int]:
        """Count of the entries of each parameter in the equations."""

    def freedom(self, place: int) -> float | None:
        """`P_ii`, the diagonal of the tangent projector: 0 for a determined entry, 1 for an unconstrained entry.

        None where it could be computed only by solving a large component or product.
        """

    def value(self, place: int) -> float | None:
        """The value of a determined entry, where the block stores it, else None."""

    def mates(self, place: int) -> tuple[Integers, int | None]:
        """The places of the class of an entry: all entries that follow from one free number, this entry included.

        Also the place of the representative of the class, or None where the class has none.
        """

    def determined(self, most: int) -> tuple[Integers, Floats]:
        """Places of the determined entries, and their values: NaN where a value is known only by solving for it.

        Empty where there are more than about `most` such entries.
        """

    def tied(self, most: int) -> Iterator[Tied]:
        """Classes of entries that the equations together make equal, opposite or linked; none for more than `most`.

        Analysis reports those whose entries are not tied outright by equations of two entries. A kind whose equations
        are all of two entries, such as `Pairs`, yields none.
        """

    def taken(self) -> Mapping[Parameter, Interval]:
        """Independent equations that follow for each parameter alone, whatever values the other parameters take."""

    def fixed(self) -> Mapping[Parameter, int]:
        """Count of the entries of each parameter that the block determines, where its structure shows it."""

    def resolution(self) -> Resolution:
        """How the equations were resolved, which decides what analysis can still look for."""

    def condition_of_extra(self) -> float:
        """The condition number of the equations on top of bases; 1 for a block without such equations."""

    def solves_in_metric(self) -> int | None:
        """Extra projections that a projection in a diagonal metric needs; None where the block has none in a metric."""

    def tally(self) -> Tally:
        """Counts of what the equations do: entries fixed, pairs tied, and so on."""

    def describe(self) -> str:
        """A few words on how the block satisfies its rules."""

    def bytes_a_step(self) -> int:
        """Bytes read and written to project one gradient and the weights, for float32 parameters."""

    def law(self) -> Law:
        """The law by which the entries are projected, in every array library and in shards."""

    def renumbered(self, numbers: Mapping[int, int]) -> Self:
        """The same block with new numbers for its rules."""


class Base(Block, Protocol):
    """A block that can be the base of a `Bordered` block, which adds equations on top of it."""

    @property
    def rank(self) -> int:
        """Independent equations, known exactly."""

    @property
    def condition(self) -> float:
        """About the condition number of the equations."""

    def homogeneous(self) -> Self:
        """The same equations with right-hand sides of zero, which have the same tangent projector."""

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        """The nearest points to the rows of `vectors` (vectors, entries); without `affine`, the tangent parts."""

    def gram(self, rows: sparse.csr_array) -> Floats:
        """`rows P rowsᵀ` (equations, equations) for sparse rows over the entries, P the tangent projector."""

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        """Bound on the rounding error of the tangent part of each row of `vectors` (vectors, entries), by its norm.

        Rounding of nearly dependent equations rotates the space that their rows span. Along each row of an orthonormal
        basis the angle is the tolerance of the rank times the norm of the row's coefficients in terms of the equations
        (Wedin; Golub & Van Loan, 4th ed., 2.5.3). The component of a vector along that row has this relative error.
        """

    def partners(self, place: int) -> list[tuple[int, float]]:
        """Places of entries that equal this entry (1) or are its opposite (−1) to the bit."""

    def pinned_value(self, place: int) -> float | None:
        """The value that every projection gives to the entry, to the bit; None where there is no such value."""
