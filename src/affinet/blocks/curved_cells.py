"""The protocol of curved sets: the tangent planes of nonlinear equations, and the returns to them after a step.

A set lies over an array of `shape`, whose entries fall into cells: entries that no equation couples are in different
cells. Every verb works on all cells at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Integers


class TangentPlane(Protocol):
    """The tangent planes at a point of each cell: a NamedTuple of arrays."""

    @property
    def point(self) -> Array:
        """The points, in the shape of the set."""

    def __iter__(self) -> Iterator[Array]: ...


Plane = TypeVar("Plane", bound=TangentPlane)


class Outcome(NamedTuple):
    """What happened on the way of each cell along a step and back to the set: arrays of the shape of `norm(x)`.

    `shortenings` counts how often the step was divided by four. `refused` marks cells without any way back, which
    stayed where they were. `slow` marks cells whose violation fell like that of equations that lose rank.
    """

    shortenings: Array
    refused: Array
    slow: Array


class CurvedCells(Protocol[Plane]):
    """The set `c(w) = 0` in equal cells. Verbs leave their arguments unchanged."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The entries, cell after cell."""

    @property
    def equations(self) -> int:
        """Independent equations of a cell, at most points."""

    @property
    def always_found(self) -> bool:
        """Whether `nearest` finds a point of the set from everywhere."""

    def norm(self, xp: Namespace, x: Array) -> Array:
        """The Euclidean norm of the entries of each cell, of a shape that broadcasts to that of `x`."""

    def count(self) -> int:
        """Entries of a cell."""

    def terms(self) -> int:
        """About how many numbers are added up in an equation."""

    def only(self, cells: Integers) -> CurvedCells[Plane] | None:
        """The set of some of its cells, perhaps of none; None for a set whose cells cannot be taken apart.

        Law: its verbs do with these cells what those of the full set do with them, to rounding.
        """

    def choose(self, xp: Namespace, condition: Array, first: Plane, second: Plane) -> Plane:
        """In each cell the first plane where the condition, an array like `norm(x)`, holds, or else the second."""

    def face(self, xp: Namespace, w: Array) -> Plane:
        """The tangent plane at a point. Law: the bits of a cell follow from the numbers of that cell alone."""

    def tangent_part(self, xp: Namespace, x: Array, plane: Plane) -> Array:
        """`P x`: the nearest vector in the tangent plane."""

    def followed(self, xp: Namespace, x: Array, plane: Plane) -> tuple[Array, Plane, Outcome | None]:
        """The point to which a step from the point of the plane to x leads, and the tangent plane there.

        The step is taken along the plane, and from its end the weights return to the set. In cells that do not move,
        or that are refused, the point and the plane are those of the start. None: every cell arrived with a full step.
        Law: the plane has the bits of `face` at the point.
        """

    def nearest(self, xp: Namespace, x: Array) -> Array:
        """A point of the set near x, the nearest one where that has a formula; x in cells that reach none."""

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        """Whether each cell, in the shape of `norm(x)`, satisfies its equations to rounding.

        An equation may be missed by u times the sizes of its terms and of its derivatives times the weights, or by a
        small multiple of that. Where x is not finite, the result is arbitrary.
        """


def choose_each(xp: Namespace, condition: Array, first: Any, second: Any) -> Any:
    """`choose` for a set whose planes have arrays with as many axes as `norm(x)`."""
    return type(first)(*(xp.where(condition, new, old) for new, old in zip(first, second, strict=True)))
