"""The protocol of convex sets: the projections of one block with inequalities, from which its law is made.

A set lies over an array of `shape`, whose entries fall into cells: entries that no rule couples are in different cells.
Every verb works on all cells at once. A *face* of the set is where its equations and some of its inequalities hold with
equality; its verbs are linear.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers

Face = TypeVar("Face", bound=tuple[Any, ...])
"""A NamedTuple of arrays, such as one that marks the entries at a bound."""


class ConvexSet(Protocol[Face]):
    """The projections onto `C = {A w = b, G w ≤ h}` and onto its faces. Verbs leave their arguments unchanged."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The entries in the order of the block's places, as the axes that the set works along."""

    def norm(self, xp: Namespace, x: Array) -> Array:
        """The Euclidean norm of the entries of each cell, of a shape that broadcasts to that of `x`."""

    def count(self) -> int:
        """Entries of a cell."""

    @property
    def rounds_tangents(self) -> bool:
        """Whether `tangent_part` rounds; where not, it keeps each entry or makes it zero."""

    def bounds(self) -> tuple[Floats, Floats]:
        """The least and the largest value that each entry may have by its own bounds, or by the radius of its ball.

        They broadcast to `shape`, and are infinite where an entry has no bound of its own.
        """

    def only(self, cells: Integers) -> ConvexSet[Face] | None:
        """The set of some of its cells, perhaps of none; None for a set whose cells cannot be taken apart.

        Law: its verbs do with these cells what those of the full set do with them, to rounding.
        """

    def choose(self, xp: Namespace, condition: Array, first: Face, second: Face) -> Face:
        """In each cell the first face where the condition, an array like `norm(x)`, holds, and the second elsewhere."""

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: Face | None = None
    ) -> tuple[Array, Face]:
        """The nearest point of C in `Σ metric_i dx_i²`, and the face of the inequalities with a positive multiplier.

        `guess`: a face that is probably right, at which the search may start; it does not change the result beyond
        rounding.
        """

    def marks(self, xp: Namespace, face: Face) -> tuple[Array, ...]:
        """What tells a face from another, wherever on it a point is: its inequalities that hold with equality."""

    def clipped(self, xp: Namespace, x: Array) -> Array:
        """Entries moved between their own bounds, and cells that must ascend made to: numbers of any dtype can do so.

        Whatever satisfies both keeps its bits, whatever the other rules.
        """

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        """Whether each rule of a cell, in the shape of `norm(x)`, is missed by at most u times the size of its terms.

        Rules that `clipped` fulfils need not be looked at. Where x is not finite, the result is arbitrary.
        """

    def onto(self, xp: Namespace, x: Array, face: Face) -> Array:
        """The nearest point at which the equations and the inequalities of the face hold with equality."""

    def tangent_part(self, xp: Namespace, x: Array, face: Face) -> Array:
        """`P x`: the nearest vector that changes no equation, and no inequality of the face."""

    def land(self, xp: Namespace, z: Array, y: Array, tau: Array, face: Face, u: float) -> tuple[Array, Array, Face]:
        """The nearest point `w` of C to `z + τ y`, its normal vector `y' = (z + τ y − w) / τ`, and the face of `y'`.

        `z` lies on `face`, `tau` > 0 has the shape of `norm(z)`, `u` is the unit roundoff of the weights. Computed as a
        displacement, so that y' keeps its digits however small τ is:

            x = argmin ½ |x − y|²  subject to  A x = 0,  G x ≤ s / τ;    w = z + τ x,  y' = y − x

        The slack s = h − G z is exactly 0 on the face, and wherever |s| ≤ u · (Σ |g_j z_j| + |h|). The new face has the
        inequalities whose multiplier in this problem is above 1e-12 times the largest of the cell.
        """

    def normal(self, xp: Namespace, w: Array, v: Array, face: Face | None, u: float) -> tuple[Array, Face]:
        """The nearest vector to `v` in the normal cone of C at `w`, a point of C, and the face of its multipliers.

        Inequalities count as active at `w` if they are of `face` or their slack is at most u · (Σ |g_j w_j| + |h|).
        This is the limit of `land` for τ → 0.
        """


def choose_by_cell(xp: Namespace, condition: Array, first: Face, second: Face) -> Face:
    """`choose` for a set whose faces have arrays that broadcast against `norm(x)`."""
    pairs = zip(first, second, strict=True)
    return type(first)(*(new if new is old else xp.where(condition, new, old) for new, old in pairs))


def numbers_of_cells(numbers: Floats, cells: Integers, axes: int) -> Floats:
    """Those of some cells, of numbers that broadcast to an array of so many axes, the first of them over the cells."""
    return numbers if numbers.ndim < axes or len(numbers) == 1 else numbers[cells]
