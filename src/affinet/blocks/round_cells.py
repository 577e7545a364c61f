"""A convex set of cells whose Euclidean norm is at most a radius: the l2 ball.

The set is curved, so that its faces are too: a face is the sphere, and `tangent_part` is that of its plane. A step
in this plane leaves the sphere to the second order in its length; `onto` brings it back by scaling. The multiplier, a
multiple of the normal at the old point, becomes the same multiple of the normal at the new point: a change of the same
order. At rest nothing moves, so that the point satisfies the KKT conditions exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from affinet.blocks.convex import choose_by_cell, numbers_of_cells
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers

MOST = 60
"""Steps of Newton's method, which doubles the digits once it has some; ten are many."""


class RoundFace(NamedTuple):
    """The unit normal at a point of the sphere that a cell stays on, as entries (cells, width); zero off the sphere."""

    radial: Array


@dataclass(frozen=True, eq=False)
class RoundCells:
    """`|w| ≤ radius` in the cells of an array (cells, width); `radius` > 0 broadcasts to (cells, 1)."""

    shape: tuple[int, int]
    radius: Floats

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def only(self, cells: Integers) -> RoundCells:
        return RoundCells((len(cells), self.shape[1]), numbers_of_cells(self.radius, cells, 2))

    def count(self) -> int:
        return self.shape[1]

    @property
    def rounds_tangents(self) -> bool:
        return True

    def bounds(self) -> tuple[Floats, Floats]:
        return -self.radius, self.radius

    def choose(self, xp: Namespace, condition: Array, first: RoundFace, second: RoundFace) -> RoundFace:
        return choose_by_cell(xp, condition, first, second)

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: RoundFace | None = None
    ) -> tuple[Array, RoundFace]:
        norm, radius = self.norm(xp, x), xp.array(self.radius, x)
        outside = norm > radius
        w = x if metric is None else self._in_metric(xp, x, metric)
        direction = w / xp.where(outside, self.norm(xp, w), radius)
        return xp.where(outside, radius * direction, x), _face(xp, direction, outside)

    def marks(self, xp: Namespace, face: RoundFace) -> tuple[Array, ...]:
        return (xp.largest(abs(face.radial), (1,)) > 0.0,)

    def clipped(self, xp: Namespace, x: Array) -> Array:
        return x

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        norm, radius = self.norm(xp, x), xp.array(self.radius, x)
        return norm - radius <= u * (norm + radius)

    def onto(self, xp: Namespace, x: Array, face: RoundFace) -> Array:
        """The nearest point of the sphere, where a cell stays on it."""
        norm, radius = self.norm(xp, x), xp.array(self.radius, x)
        scaled = (xp.largest(abs(face.radial), (1,)) > 0.0) & (norm > 0.0)
        return x * xp.where(scaled, radius / xp.where(scaled, norm, radius), xp.array(1.0, norm))

    def tangent_part(self, xp: Namespace, x: Array, face: RoundFace) -> Array:
        """The part in the tangent plane of the sphere, where a cell stays on it."""
        return x - face.radial * xp.sum(face.radial * x, (1,))

    def land(
        self, xp: Namespace, z: Array, y: Array, tau: Array, face: RoundFace, u: float
    ) -> tuple[Array, Array, RoundFace]:
        """As the protocol says, for the y that has the length of the given one and the direction of the normal at z.

        The new length is that of y, plus what z is outside of the sphere, divided by τ.
        """
        zero, unit, radius = xp.array(0.0, tau), xp.array(1.0, tau), xp.array(self.radius, tau)
        norm = self.norm(xp, z)
        safe = xp.where(norm > 0.0, norm, unit)
        direction, length = z / safe, xp.sum(face.radial * y, (1,))
        pushed = length + self._excess(xp, norm, face, u) / tau
        at_radius = pushed > 0.0
        inside = z * xp.maximum(unit + tau * length / safe, zero)
        w = xp.where(at_radius, radius * direction, inside)
        return w, direction * xp.maximum(pushed, zero), _face(xp, direction, at_radius)

    def normal(self, xp: Namespace, w: Array, v: Array, face: RoundFace | None, u: float) -> tuple[Array, RoundFace]:
        norm = self.norm(xp, w)
        direction = w / xp.where(norm > 0.0, norm, xp.array(1.0, norm))
        length = xp.sum(direction * v, (1,))
        at_radius = (self._excess(xp, norm, face, u) >= 0.0) & (length > 0.0)
        return direction * xp.where(at_radius, length, xp.array(0.0, norm)), _face(xp, direction, at_radius)

    def _excess(self, xp: Namespace, norm: Array, face: RoundFace | None, u: float) -> Array:
        """`norm − radius`, exactly zero on a face and where it is rounding."""
        radius = xp.array(self.radius, norm)
        at_radius = abs(norm - radius) <= u * (norm + radius)
        if face is not None:
            at_radius = at_radius | (xp.largest(abs(face.radial), (1,)) > 0.0)
        return xp.where(at_radius, xp.array(0.0, norm), norm - radius)

    def _in_metric(self, xp: Namespace, x: Array, metric: Array) -> Array:
        """`metric x / (metric + t)` with the t ≥ 0 for which its norm is the radius, where that of x is larger.

        `1 / norm` is concave in t: Newton's method comes to the root from below and never passes it (J. Moré,
        D. Sorensen, SIAM Journal on Scientific and Statistical Computing 4, 1983).
        """
        radius, t = xp.array(self.radius, x), xp.sum(0.0 * x, (1,))
        enough = 1.0 + 4.0 * xp.spacing(x)

        def scaled(t: Array) -> tuple[Array, Array]:
            w = x * (metric / (metric + t))
            return t, w

        def advance(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
            t, w = state
            norm = self.norm(xp, w)
            searched = norm > enough * radius
            fall = xp.sum(w * w / (metric + t), (1,))
            step = (norm / radius - 1.0) * norm * norm / xp.where(searched, fall, radius)
            return scaled(xp.where(searched, t + step, t))

        return xp.loop(scaled(t), lambda state: self.norm(xp, state[1]) > enough * radius, advance, MOST)[1]


def _face(xp: Namespace, direction: Array, at_radius: Array) -> RoundFace:
    return RoundFace(xp.where(at_radius, direction, xp.array(0.0, direction)))
