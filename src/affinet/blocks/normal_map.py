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

from dataclasses import dataclass, replace
from typing import Generic

from affinet.blocks.convex import ConvexSet, Face
from affinet.blocks.namespace import Array, Namespace

AVERAGING = 0.1
"""Weight of the newest multipliers in their average. With less, the weights chatter less under strong noise and leave
a bound later."""
REACH = 10.0
"""τ in units of the last step: τ |y| = 10 |step|. From 1 to 100 all values converge; below 10, weights chatter between
many oblique inequalities."""


@dataclass(frozen=True, eq=False)
class Learned(Generic[Face]):
    """`y`, a normal vector of the set at the weights, in units of gradients; and the face of its multipliers."""

    y: Array
    face: Face


@dataclass(frozen=True, eq=False)
class Underway(Generic[Face]):
    """A step that is being taken: `y` with the newest gradient, the face, and where and with what force it started.

    `force` is the larger of the norms of gradient and y in each cell. Where the step is not taken, it is dropped, and
    the `Learned` before it stays.
    """

    y: Array
    face: Face
    before: Array
    force: Array


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

    def start(self, xp: Namespace, g: Array, w: Array, u: float) -> Learned[Face]:
        """What is known from the first gradient: the normal part of −g at the weights (Moreau)."""
        return Learned(*self.set.normal(xp, w, -g, None, u))

    def learn(self, xp: Namespace, g: Array, w: Array, state: Learned[Face]) -> Underway[Face]:
        """The average with a new gradient g, which includes any weight decay that the optimizer adds."""
        removed = self.set.along(xp, g, state.face) - g
        y = state.y + AVERAGING * (removed - state.y)
        strength, normal = self.set.norm(xp, g), self.set.norm(xp, y)
        return Underway(y, state.face, w, xp.where(strength > normal, strength, normal))

    def tangent(self, xp: Namespace, g: Array, face: Face, *, floor: float = 0.0) -> Array:
        """`P g` along the face; zero where `|P g| ≤ floor · (|g| + rms g)`, with the rms of the cell."""
        projected = self.set.along(xp, g, face)
        if floor == 0.0:
            return projected
        noise = floor * (abs(g) + self.set.norm(xp, g) * self.set.count() ** -0.5)
        return xp.where(abs(projected) <= noise, xp.array(0.0, projected), projected)

    def land(self, xp: Namespace, stepped: Array, state: Underway[Face], u: float) -> tuple[Array, Learned[Face]]:
        """The weights after a step, on the set, and what is known there. A cell that did not move keeps its bits."""
        step = self.set.norm(xp, stepped - state.before)
        moved, felt = step > 0.0, state.force > 0.0
        one = xp.array(1.0, step)
        # Without a gradient and without multipliers any τ leads to the same weights.
        tau = xp.where(moved & felt, REACH * step / xp.where(felt, state.force, one), one)
        z = self.set.onto(xp, stepped, state.face)
        w, y, face = self.set.land(xp, z, state.y, tau, state.face, u)
        y = xp.where(felt, y, xp.array(0.0, y))
        resting, resting_face = self.set.normal(xp, state.before, state.y, state.face, u)
        chosen = type(face)(*(xp.where(moved, new, old) for new, old in zip(face, resting_face, strict=True)))
        return xp.where(moved, w, state.before), Learned(xp.where(moved, y, resting), chosen)

    def resettle(self, xp: Namespace, w: Array, state: Learned[Face], u: float) -> Learned[Face]:
        """What is known once weights or rules were changed from outside: the nearest normal vector at the weights."""
        return replace(state, **dict(zip(("y", "face"), self.set.normal(xp, w, state.y, None, u), strict=True)))
