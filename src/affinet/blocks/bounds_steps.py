"""Take training steps under bounds on single entries, with one array of multipliers as the only state.

The steps are those of `NormalMap` on `Boxes`. A multiplier is negative at a lower bound, positive at an upper one and
zero between them, so that it says which bounds hold with equality. Weights, multipliers and the gradient along bounds
are each one expression of the arrays of a step, with one division at most: a compiler that fuses operations on single
entries needs one pass over memory for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any

import numpy as np

from affinet.blocks.entry_bounds import Boxes
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.normal_map import AVERAGING, LEAST_TAU, REACH, Learned, Underway

MOST_RATE = 1e38
"""The largest 1/τ, also of an entry that did not move: a finite number of float32."""


@dataclass(frozen=True, eq=False)
class BoundsSteps:
    """The verbs of a training for bounds; `Learned.face` and `Underway.face` are empty."""

    set: Boxes

    def start(self, xp: Namespace, g: Array, w: Array, u: float) -> Learned[Any]:
        """As of `NormalMap`."""
        return Learned(self._normal(xp, w, self.opposite(xp, g), u), ())

    def opposite(self, xp: Namespace, g: Array) -> Array:
        """−g where it is finite: what is known at the start, before it is made normal to the bounds."""
        return xp.where(abs(g) < inf, -g, xp.array(0.0, g))

    def resettle(self, xp: Namespace, w: Array, state: Learned[Any], u: float) -> Learned[Any]:
        """As of `NormalMap`."""
        return Learned(self._normal(xp, w, state.y, u), ())

    def resumed(
        self, xp: Namespace, w: Array, y: Array, started: Array, u: float, rounding: Array | None = None
    ) -> tuple[Array, Learned[Any]]:
        """The weights at which a step starts, between the bounds, and what is known there.

        Entries with a multiplier y are at their bound exactly once there was a step, if they are there to roundoff `u`
        or to `rounding`. Others were changed from outside, and their multipliers are dropped.
        """
        inside = self.set.clipped(xp, w)
        y = self._normal(xp, inside, y, u, rounding)
        if self._zeros:
            return inside, Learned(y, ())
        lower, upper = self._bounds(xp, w)
        start = xp.where(started & (y < 0.0), lower, inside) if self.set.has_lower else inside
        start = xp.where(started & (y > 0.0), upper, start) if self.set.has_upper else start
        return start, Learned(y, ())

    def learn(self, xp: Namespace, g: Array, w: Array, state: Learned[Any]) -> tuple[Underway[Any], Array]:
        """As of `NormalMap`; the multipliers of entries between their bounds are zero before the step."""
        zero, marked = xp.array(0.0, g), state.y != 0.0
        strength = abs(g)
        felt = strength < inf
        y = xp.where(marked & felt, state.y + AVERAGING * (-g - state.y), state.y)
        force = xp.maximum(xp.where(felt, strength, zero), abs(y))
        return Underway(y, (), w, force, state), xp.where(marked, zero, g)

    def silenced(self, xp: Namespace, projected: Array, g: Array, floor: float) -> Array:
        """The gradient itself: its entries are kept or zero, and not rounded."""
        return projected

    def land(self, xp: Namespace, stepped: Array, state: Underway[Any], u: float) -> tuple[Array, Learned[Any]]:
        """As of `NormalMap`.

        1/τ and τ are computed apart, each for the one array that needs it: XLA computes a division with several uses in
        a pass of its own.
        """
        lower, upper = self._bounds(xp, stepped)
        zero, former = xp.array(0.0, stepped), state.former.y
        at_lower, at_upper = former < 0.0, former > 0.0
        z = xp.where(at_lower, lower, stepped) if self.set.has_lower else stepped
        z = xp.where(at_upper, upper, z) if self.set.has_upper else z
        step = abs(stepped - state.before)
        finite = step < inf

        rate = xp.minimum(state.force / (REACH * step), xp.array(MOST_RATE, step))
        if self._some_infinite:
            rate = xp.maximum(rate, xp.array(LEAST_TAU[xp.spacing(step) < 1e-10], step))
        below = self._slack(xp, z, lower, at_lower, u) * rate if self.set.has_lower else lower
        above = self._slack(xp, z, upper, at_upper, u) * rate if self.set.has_upper else upper
        y = xp.where(state.force > 0.0, state.y - self.set.between(xp, state.y, below, above), zero)

        pulled = xp.where(state.y != 0.0, REACH * step / state.force * state.y, zero)
        w = self.set.between(xp, z + pulled, lower, upper)
        if not self._zeros:
            w = xp.where(step > 0.0, w, state.before)
        return xp.where(finite, w, stepped), Learned(xp.where(finite, y, former), ())

    @cached_property
    def _zeros(self) -> bool:
        """Whether all finite bounds are zero: weights are at such a bound exactly or not at all."""
        return not any(bound[np.isfinite(bound)].any() for bound in self.set.bounds())

    @cached_property
    def _some_infinite(self) -> bool:
        """Whether a side has finite and infinite bounds: the latter stay infinite times the smallest 1/τ."""
        return any(np.isfinite(bound).any() and not np.isfinite(bound).all() for bound in self.set.bounds())

    def _normal(self, xp: Namespace, w: Array, v: Array, u: float, rounding: Array | None = None) -> Array:
        """V where it points out of the bounds at w, to roundoff `u` or to `rounding`; zero elsewhere."""
        lower, upper = self._bounds(xp, w)
        parts = []
        if self.set.has_lower:
            parts.append(self._is_at(xp, w <= lower, w, lower, u, rounding) & (v < 0.0))
        if self.set.has_upper:
            parts.append(self._is_at(xp, w >= upper, w, upper, u, rounding) & (v > 0.0))
        outwards = parts[0] | parts[1] if len(parts) > 1 else parts[0]
        return xp.where(outwards, v, xp.array(0.0, v))

    def _is_at(self, xp: Namespace, reached: Array, w: Array, bound: Array, u: float, rounding: Array | None) -> Array:
        """Marks of the entries that reached a bound, also to rounding; an infinite one is at an infinite distance."""
        if self._zeros:
            return reached
        nearby = u * (abs(w) + abs(bound))
        return reached | (abs(w - bound) < (nearby if rounding is None else xp.maximum(nearby, rounding)))

    def _slack(self, xp: Namespace, z: Array, bound: Array, mark: Array, u: float) -> Array:
        """`bound − z`, exactly zero at marked entries and where it is rounding."""
        gap = bound - z
        nothing = mark if self._zeros else mark | (abs(gap) < u * (abs(z) + abs(bound)))
        return xp.where(nothing, xp.array(0.0, z), gap)

    def _bounds(self, xp: Namespace, x: Array) -> tuple[Array, Array]:
        lower, upper = self.set.bounds()
        return xp.array(lower, x), xp.array(upper, x)
