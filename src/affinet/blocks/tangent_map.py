"""The law of a block of nonlinear equations: the tangent sandwich around the steps of any optimizer.

Before a step, the gradient is projected onto the tangent plane at the weights. After it, the weights move by the part
of the step in the same plane, and return to the set from there. At rest the projected step is zero, so that the
gradient is a combination of the rows of J, whatever the optimizer made of it (docs/theory.md). This is local: another
branch of the set may have a lower value. Nothing is learned from step to step: a plane follows from the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Generic

from affinet.blocks.curved_cells import CurvedCells, Outcome, Plane
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Integers

SUMMED = 2.0
"""Roundoffs of a sum of two numbers, and of the return; each further number adds to the square of this."""
SINGLE = 1e-10
"""Spacings above this are those of float32."""


@dataclass(frozen=True, eq=False)
class Tangent(Generic[Plane]):
    """The tangent plane at the weights, and how they came there: None at the start and where all steps were full."""

    face: Plane
    outcome: Outcome | None = None


@dataclass(frozen=True, eq=False)
class Following(Generic[Plane]):
    """A step that is being taken from the weights `before` along the plane `face`.

    Where the step is not taken, it is dropped, and `former` stays.
    """

    face: Plane
    before: Array
    former: Tangent[Plane]

    def onwards(self, w: Array, known: Tangent[Plane]) -> Following[Plane]:
        """The step that starts where this one ended."""
        return Following(known.face, w, known)


@dataclass(frozen=True, eq=False)
class TangentMap(Generic[Plane]):
    """The verbs of a training for one curved set; states are values that the caller keeps."""

    set: CurvedCells[Plane]
    order: Integers | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.set.shape

    @property
    def wide(self) -> bool:
        """True: entries are read in float64 where the library has it, and rounded once when they are written back."""
        return True

    @property
    def learns(self) -> bool:
        return False

    @property
    def always_found(self) -> bool:
        return self.set.always_found

    def count(self) -> int:
        return self.set.count()

    def only(self, cells: Integers) -> TangentMap[Plane] | None:
        fewer = self.set.only(cells)
        return None if fewer is None else TangentMap(fewer)

    def norm(self, xp: Namespace, x: Array) -> Array:
        return self.set.norm(xp, x)

    def nearest(self, xp: Namespace, x: Array, metric: Array | None = None) -> Array:
        """A point near x; no metric is used, which `affinet.project` refuses for nonlinear equations."""
        return self.set.nearest(xp, x)

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        return self.set.satisfies(xp, x, u)

    def snapped(self, xp: Namespace, w: Array, u: float, nearest: Callable[[Array], Array] | None = None) -> Array:
        """The nearest point, but in cells that hold to rounding w itself. Law: idempotent to the bit."""
        satisfied = self.set.satisfies(xp, w, u) & (self.set.norm(xp, w) < inf)
        if not xp.any(~satisfied):
            return w

        def onto() -> Array:
            return self.set.nearest(xp, w) if nearest is None else nearest(w)

        return xp.where(satisfied, w, xp.either(~satisfied, onto, lambda: w))

    def tangent_part(self, xp: Namespace, x: Array, face: Plane) -> Array:
        return self.set.tangent_part(xp, x, face)

    def face_at(self, xp: Namespace, w: Array) -> Plane:
        return self.set.face(xp, self.set.nearest(xp, w))

    def same_face(self, xp: Namespace, face: Plane, former: Plane) -> bool:
        """True: planes turn from point to point, and LBFGS keeps its curvature all the same."""
        return True

    def normal(self, xp: Namespace, w: Array, v: Array, u: float) -> Array:
        return v - self.set.tangent_part(xp, v, self.set.face(xp, w))

    def start(self, xp: Namespace, g: Array, w: Array, u: float, face: Plane | None = None) -> Tangent[Plane]:
        """The tangent plane at the weights; that of a state may belong to weights before they were rounded."""
        return Tangent(self.set.face(xp, w))

    def learn(self, xp: Namespace, g: Array, w: Array, state: Tangent[Plane]) -> tuple[Following[Plane], Array]:
        """The step from w, and `P g` along the plane there: the one of the state where it belongs to w."""
        point = state.face.point
        if point is not w and xp.any(point != w):
            known = state.face
            state = replace(state, face=xp.either(point != w, lambda: self.set.face(xp, w), lambda: known))
        return Following(state.face, w, state), self.set.tangent_part(xp, g, state.face)

    def silenced(self, xp: Namespace, projected: Array, g: Array, floor: float) -> Array:
        """`P g` with zeros where `|P g| ≤ floor · (|g| + rms g)`, which is rounding; the rms is that of the cell."""
        noise = abs(g)
        noise += self.set.norm(xp, g) * self.set.count() ** -0.5
        noise *= floor
        return xp.where(abs(projected) <= noise, xp.array(0.0, projected), projected)

    def land(
        self, xp: Namespace, stepped: Array, state: Following[Plane], u: float, taken: Array | None = None
    ) -> tuple[Array, Tangent[Plane]]:
        """The weights after a step, on the set, and the plane there.

        Cells that do not move or are refused keep their bits, unless they were off the set: then they are moved onto
        it. So do those whose step, or whose way back, leaves the range of the numbers. Weights that are not finite stay
        as they are, and so do all where the condition `taken` is false.
        """
        step = self.set.norm(xp, stepped - state.before)
        finite, resting = step < inf, step == 0.0
        w, plane, outcome = self.set.followed(xp, stepped, state.face)
        lost = ~finite | ~(self.set.norm(xp, w) < inf)
        if xp.any(lost):
            numbers = xp.where(stepped - stepped == 0.0, xp.array(0.0, stepped), xp.array(1.0, stepped))
            finite = self.set.norm(xp, numbers) == 0.0
            outcome = _refusing(xp, outcome, lost & finite, step)
        if outcome is not None:
            resting = resting | outcome.refused
        if xp.any(resting):
            snapped = xp.either(resting, lambda: self.snapped(xp, state.before, u), lambda: state.before)
            w = xp.where(resting, snapped, w)
            if xp.any(w != plane.point):
                known_plane, point = plane, w
                plane = xp.either(w != plane.point, lambda: self.set.face(xp, point), lambda: known_plane)
        known = finite if taken is None else finite & taken
        if taken is None and not xp.any(~finite):
            return w, Tangent(plane, outcome)
        return xp.where(known, w, stepped), Tangent(self.set.choose(xp, known, plane, state.former.face), outcome)

    def roundoff(self, u: float, spacing: float) -> float:
        """What an equation may be missed by, per size of its terms: weights are rounded once, sums as they grow.

        Sums of float32 do not count as growing: it is weights of float32 that are computed so, and an equation of them
        may be missed by no more because it is long.
        """
        roundings: float = SUMMED + (0.0 if spacing > SINGLE else self.set.terms() ** 0.5)
        return u + spacing * roundings

    def resettle(self, xp: Namespace, w: Array, state: Tangent[Plane], u: float) -> Tangent[Plane]:
        return Tangent(self.set.face(xp, w))


def _refusing(xp: Namespace, outcome: Outcome | None, refused: Array, like: Array) -> Outcome:
    """What happened, and that further cells are refused."""
    if outcome is None:
        zeros = xp.where(refused, xp.array(0.0, like), xp.array(0.0, like))
        return Outcome(zeros, refused, refused & ~refused)
    return outcome._replace(refused=outcome.refused | refused)
