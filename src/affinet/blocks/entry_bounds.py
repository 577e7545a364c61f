"""A convex set of entries between bounds, each entry a cell of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from affinet.blocks.convex import choose_by_cell, numbers_of_cells
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers


class BoxFace(NamedTuple):
    """Marks of the entries that stay at their lower bound, and at their upper bound."""

    lower: Array
    upper: Array


@dataclass(frozen=True, eq=False)
class Boxes:
    """`lower ≤ w ≤ upper` for every entry of an array of `shape`; bounds broadcast to it and may be infinite.

    No entry touches another, so that the projection is the same in every diagonal metric.
    """

    shape: tuple[int, ...]
    lower: Floats
    upper: Floats

    def reshaped(self, axes: tuple[int, ...]) -> Boxes:
        """The same set of the same entries, in order, as an array of other axes."""
        lower, upper = (_in_axes(bound, self.shape, axes) for bound in (self.lower, self.upper))
        return Boxes(axes, lower, upper)

    def norm(self, xp: Namespace, x: Array) -> Array:
        return abs(x)

    def only(self, cells: Integers) -> Boxes:
        shape = (len(cells), *self.shape[1:])
        lower, upper = (numbers_of_cells(bound, cells, len(shape)) for bound in (self.lower, self.upper))
        return Boxes(shape, lower, upper)

    def count(self) -> int:
        return 1

    def bounds(self) -> tuple[Floats, Floats]:
        return self.lower, self.upper

    def choose(self, xp: Namespace, condition: Array, first: BoxFace, second: BoxFace) -> BoxFace:
        return choose_by_cell(xp, condition, first, second)

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: BoxFace | None = None
    ) -> tuple[Array, BoxFace]:
        lower, upper = self._bounds(xp, x)
        return clipped(xp, x, lower, upper), BoxFace(x < lower, x > upper)

    def marks(self, xp: Namespace, face: BoxFace) -> tuple[Array, ...]:
        return face

    def clipped(self, xp: Namespace, x: Array) -> Array:
        return clipped(xp, x, *self._bounds(xp, x))

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        return x == x

    def onto(self, xp: Namespace, x: Array, face: BoxFace) -> Array:
        lower, upper = self._bounds(xp, x)
        return xp.where(face.lower, lower, xp.where(face.upper, upper, x))

    def tangent_part(self, xp: Namespace, x: Array, face: BoxFace) -> Array:
        return xp.where(face.lower | face.upper, xp.array(0.0, x), x)

    def land(
        self, xp: Namespace, z: Array, y: Array, tau: Array, face: BoxFace, u: float
    ) -> tuple[Array, Array, BoxFace]:
        lower, upper = self._bounds(xp, z)
        below, above = slacks(xp, z, lower, upper, face, u)
        x = clipped(xp, y, below / tau, above / tau)
        landed = BoxFace(y < x, y > x)
        w = clipped(xp, z + tau * x, lower, upper)
        return self.onto(xp, w, landed), y - x, landed

    def normal(self, xp: Namespace, w: Array, v: Array, face: BoxFace | None, u: float) -> tuple[Array, BoxFace]:
        lower, upper = self._bounds(xp, w)
        at_lower, at_upper = at_bounds(xp, w, lower, upper, face, u)
        multiplied = BoxFace(at_lower & (v < 0.0), at_upper & (v > 0.0))
        return xp.where(multiplied.lower | multiplied.upper, v, xp.array(0.0, v)), multiplied

    def _bounds(self, xp: Namespace, x: Array) -> tuple[Array, Array]:
        return xp.array(self.lower, x), xp.array(self.upper, x)


def _in_axes(bound: Floats, shape: tuple[int, ...], axes: tuple[int, ...]) -> Floats:
    if bound.size == 1:
        return bound.reshape((1,) * len(axes))
    return np.broadcast_to(bound, shape).reshape(axes)


def clipped(xp: Namespace, x: Array, lower: Array, upper: Array) -> Array:
    """The nearest numbers between bounds."""
    return xp.maximum(xp.minimum(x, upper), lower)


def at_bounds(
    xp: Namespace, w: Array, lower: Array, upper: Array, face: tuple[Array, ...] | None, u: float
) -> tuple[Array, Array]:
    """Marks of the entries at their lower and at their upper bound: those of a face, and those at it to rounding.

    An infinite bound is at an infinite distance, and `inf < inf` does not hold.
    """
    at_lower = (w <= lower) | (w - lower < u * (abs(w) + abs(lower)))
    at_upper = (w >= upper) | (upper - w < u * (abs(w) + abs(upper)))
    return (at_lower, at_upper) if face is None else (at_lower | face[0], at_upper | face[1])


def slacks(
    xp: Namespace, z: Array, lower: Array, upper: Array, face: tuple[Array, ...], u: float
) -> tuple[Array, Array]:
    """`lower − z` and `upper − z`, exactly zero at the bounds of a face and where they are rounding."""
    below, above, zero = lower - z, upper - z, xp.array(0.0, z)
    near_lower = abs(below) < u * (abs(z) + abs(lower))
    near_upper = abs(above) < u * (abs(z) + abs(upper))
    return xp.where(face[0] | near_lower, zero, below), xp.where(face[1] | near_upper, zero, above)
