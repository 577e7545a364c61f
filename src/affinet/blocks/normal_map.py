"""The law of a block with inequalities: the normal-map sandwich around the steps of any optimizer.

Each cell keeps `y`, an average of its multipliers in units of gradients, which is a normal vector of the set at the
weights, and the face on which the next step stays: the inequalities with a positive multiplier. Before a step, the
gradient is projected along the face. After it, the weights land at the point of the set nearest to `z + τ y`, z being
the stepped weights on the face. The average says when a face is left: where y says so, and not where the noise of one
gradient does. At rest the projected gradient is zero and `y = −g`, so the weights satisfy the KKT conditions.

Source: the normal map of S. M. Robinson (Mathematics of Operations Research 17, 1992); that its form for stochastic
gradients finds the face is proven by J. Qiu, L. Jiang and A. Milzarek (arXiv 2305.05828, 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Generic

from affinet.blocks.convex import ConvexSet, Face
from affinet.blocks.curved_cells import Outcome
from affinet.blocks.namespace import Array, Namespace, State
from affinet.language.calculus.terms import Integers

AVERAGING = 0.1
"""Weight of the newest multipliers in their average. With less, the weights chatter less under strong noise and leave
a bound later."""
REACH = 10.0
"""τ in units of the last step: τ |y| = 10 |step|. From 1 to 100 all values converge; below 10, weights chatter between
many oblique inequalities."""

LEAST_TAU = (1.2e-38, 2.3e-308)
"""The smallest τ, the least normal number of float32 and of float64: slacks of zero are divided by it."""
SUMMED = 2.0
"""Roundoffs of a sum of two numbers, and of the move onto it; each further number adds to the square of this."""


@dataclass(frozen=True, eq=False)
class Learned(Generic[Face]):
    """`y`, a normal vector of the set at the weights, in units of gradients; and the face of its multipliers.

    `outcome` tells how weights came onto a curved set; None on convex ones, and where all steps were full.
    """

    y: Array
    face: Face
    outcome: Outcome | None = None


@dataclass(frozen=True, eq=False)
class Underway(Generic[Face]):
    """A step that is being taken: `y` with the newest gradient, the face, and where and with what force it started.

    `force` is the larger of the norms of gradient and y in each cell. Where the step is not taken, it is dropped, and
    `former` stays.
    """

    y: Array
    face: Face
    before: Array
    force: Array
    former: Learned[Face]

    def onwards(self, w: Array, known: Learned[Face]) -> Underway[Face]:
        """The step that starts where this one ended."""
        return replace(self, y=known.y, face=known.face, before=w, former=known)


@dataclass(frozen=True, eq=False)
class NormalMap(Generic[Face]):
    """The verbs of a training for one convex set; states are values that the caller keeps."""

    set: ConvexSet[Face]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.set.shape

    @property
    def wide(self) -> bool:
        """True: entries are read in float64 where the library has it, and rounded once when they are written back."""
        return True

    @property
    def order(self) -> Integers | None:
        """None: the entries of a convex set are in the order of the block's places."""
        return None

    @property
    def learns(self) -> bool:
        return True

    @property
    def always_found(self) -> bool:
        return True

    def count(self) -> int:
        return self.set.count()

    def only(self, cells: Integers) -> NormalMap[Face] | None:
        fewer = self.set.only(cells)
        return None if fewer is None else NormalMap(fewer)

    def norm(self, xp: Namespace, x: Array) -> Array:
        return self.set.norm(xp, x)

    def nearest(self, xp: Namespace, x: Array, metric: Array | None = None) -> Array:
        return self.set.nearest(xp, x, metric)[0]

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        return self.set.satisfies(xp, x, u)

    def tangent_part(self, xp: Namespace, x: Array, face: Face) -> Array:
        return self.set.tangent_part(xp, x, face)

    def face_at(self, xp: Namespace, w: Array) -> Face:
        return self.set.nearest(xp, w)[1]

    def same_face(self, xp: Namespace, face: Face, former: Face) -> bool:
        """Whether the same inequalities hold with equality on two faces."""
        marks, others = self.set.marks(xp, face), self.set.marks(xp, former)
        return not any(xp.any(mark != other) for mark, other in zip(marks, others, strict=True))

    def normal(self, xp: Namespace, w: Array, v: Array, u: float) -> Array:
        return self.set.normal(xp, w, v, None, u)[0]

    def start(self, xp: Namespace, g: Array, w: Array, u: float, face: Face | None = None) -> Learned[Face]:
        """What is known from the first gradient: the normal part of −g at the weights (Moreau).

        Nothing is known in cells where it is not finite. Inequalities of `face` count as active at the weights.
        """
        finite = xp.where(self.set.norm(xp, g) < inf, g, xp.array(0.0, g))
        return Learned(*self.set.normal(xp, w, -finite, face, u))

    def learn(self, xp: Namespace, g: Array, w: Array, state: Learned[Face]) -> tuple[Underway[Face], Array]:
        """The average with a new gradient g, and `P g` along the face.

        g includes any weight decay that the optimizer adds. In cells where g is not finite, y stays as it is.
        """
        projected = self.set.tangent_part(xp, g, state.face)
        strength = self.set.norm(xp, g)
        y = xp.where(strength < inf, state.y + AVERAGING * (projected - g - state.y), state.y)
        normal = self.set.norm(xp, y)
        force = xp.where((strength > normal) & (strength < inf), strength, normal)
        return Underway(y, state.face, w, force, state), projected

    def silenced(self, xp: Namespace, projected: Array, g: Array, floor: float) -> Array:
        """`P g` with zeros where `|P g| ≤ floor · (|g| + rms g)`, which is rounding; the rms is that of the cell."""
        if not self.set.rounds_tangents:
            return projected
        noise = floor * (abs(g) + self.set.norm(xp, g) * self.set.count() ** -0.5)
        return xp.where(abs(projected) <= noise, xp.array(0.0, projected), projected)

    def land(
        self, xp: Namespace, stepped: Array, state: Underway[Face], u: float, taken: Array | None = None
    ) -> tuple[Array, Learned[Face]]:
        """The weights after a step, on the set, and what is known there. A cell that did not move keeps its bits.

        Weights that are not finite stay as they are, and what was known before the step is kept in their cells. So it
        is everywhere where the condition `taken` is false.
        """
        step = self.set.norm(xp, stepped - state.before)
        moved, felt, finite = step != 0.0, state.force > 0.0, step < inf
        one = xp.array(1.0, step)
        # Without a gradient and without multipliers any τ leads to the same weights.
        tau = xp.where(moved & felt & finite, REACH * step / xp.where(felt, state.force, one), one)
        # A compiler may compute the step twice, rounded in two ways: as zero here, and as a move above.
        tau = xp.maximum(tau, xp.array(LEAST_TAU[xp.spacing(tau) < 1e-10], tau))
        z = self.set.onto(xp, stepped, state.face)
        w, y, face = self.set.land(xp, z, state.y, tau, state.face, u)
        learned = Learned(xp.where(felt, y, xp.array(0.0, y)), face)
        if xp.any(~moved):
            resting = Learned(
                *self._where_needed(
                    xp,
                    ~moved,
                    lambda: self.set.normal(xp, state.before, state.y, state.face, u),
                    lambda: (state.y, state.face),
                )
            )
            w, learned = xp.where(moved, w, state.before), chosen(xp, self.set, moved, learned, resting)
        known = finite if taken is None else finite & taken
        if taken is None and not xp.any(~finite):
            return w, learned
        return xp.where(known, w, stepped), chosen(xp, self.set, known, learned, state.former)

    def roundoff(self, u: float, spacing: float) -> float:
        """What a rule may be missed by, per size of its terms: weights are rounded once, sums as often as they grow.

        `u` is the unit roundoff of the weights, `spacing` that of the numbers at 1 in which sums are computed.
        """
        roundings: float = SUMMED + self.set.count() ** 0.5
        return u + spacing * roundings

    def snapped(self, xp: Namespace, w: Array, u: float, nearest: Callable[[Array], Array] | None = None) -> Array:
        """The nearest point, but in cells that hold to rounding w itself, its entries between their bounds.

        Law: idempotent to the bit. The nearest point of rounded weights has some entries off their bound.
        Entries between their bounds are the nearest point that has them so: if the other rules hold, too, it is done.
        `nearest` may compute nearest points in another way.
        """
        inside = self.set.clipped(xp, w)
        satisfied = self.set.satisfies(xp, inside, u) & (self.set.norm(xp, w) < inf)
        if not xp.any(~satisfied):
            return inside

        def onto() -> Array:
            return self.set.nearest(xp, w)[0] if nearest is None else nearest(w)

        return xp.where(satisfied, inside, self._where_needed(xp, ~satisfied, onto, lambda: inside))

    def resettle(self, xp: Namespace, w: Array, state: Learned[Face], u: float) -> Learned[Face]:
        """What is known once weights or rules were changed from outside: the nearest normal vector at the weights."""
        return Learned(*self.set.normal(xp, w, state.y, None, u))

    def _where_needed(
        self, xp: Namespace, condition: Array, first: Callable[[], State], second: Callable[[], State]
    ) -> State:
        """As `xp.either`, whose branches a compiler cannot fuse: of single entries, `first()` costs less than that."""
        return first() if self.set.count() == 1 else xp.either(condition, first, second)


def chosen(
    xp: Namespace, convex: ConvexSet[Face], condition: Array, first: Learned[Face], second: Learned[Face]
) -> Learned[Face]:
    """What `first` knows in the cells where the condition holds, and what `second` knows in the others."""
    face = convex.choose(xp, condition, first.face, second.face)
    return Learned(xp.where(condition, first.y, second.y), face)
