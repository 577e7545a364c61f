"""A convex set of entries between bounds, each entry a cell of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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

    @property
    def rounds_tangents(self) -> bool:
        return False

    def bounds(self) -> tuple[Floats, Floats]:
        return self.lower, self.upper

    def choose(self, xp: Namespace, condition: Array, first: BoxFace, second: BoxFace) -> BoxFace:
        return choose_by_cell(xp, condition, first, second)

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: BoxFace | None = None
    ) -> tuple[Array, BoxFace]:
        lower, upper = self._bounds(xp, x)
        return self.clipped(xp, x), BoxFace(x < lower, x > upper)

    def marks(self, xp: Namespace, face: BoxFace) -> tuple[Array, ...]:
        return face

    def clipped(self, xp: Namespace, x: Array) -> Array:
        return self.between(xp, x, *self._bounds(xp, x))

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        return x == x

    def onto(self, xp: Namespace, x: Array, face: BoxFace) -> Array:
        lower, upper = self._bounds(xp, x)
        if self.has_upper:
            x = xp.where(face.upper, upper, x)
        return xp.where(face.lower, lower, x) if self.has_lower else x

    def tangent_part(self, xp: Namespace, x: Array, face: BoxFace) -> Array:
        return xp.where(self._at_either(face), xp.array(0.0, x), x)

    def land(
        self, xp: Namespace, z: Array, y: Array, tau: Array, face: BoxFace, u: float
    ) -> tuple[Array, Array, BoxFace]:
        lower, upper = self._bounds(xp, z)
        below = slack(xp, z, lower, face.lower, u) / tau if self.has_lower else lower
        above = slack(xp, z, upper, face.upper, u) / tau if self.has_upper else upper
        x = self.between(xp, y, below, above)
        landed = BoxFace(y < x if self.has_lower else face.lower, y > x if self.has_upper else face.upper)
        w = self.between(xp, z + tau * x, lower, upper)
        return self.onto(xp, w, landed), y - x, landed

    def normal(self, xp: Namespace, w: Array, v: Array, face: BoxFace | None, u: float) -> tuple[Array, BoxFace]:
        lower, upper = self._bounds(xp, w)
        known = BoxFace(w < lower, w > upper) if face is None else face
        multiplied = BoxFace(
            (at_lower(w, lower, u) | known.lower) & (v < 0.0) if self.has_lower else known.lower,
            (at_upper(w, upper, u) | known.upper) & (v > 0.0) if self.has_upper else known.upper,
        )
        return xp.where(self._at_either(multiplied), v, xp.array(0.0, v)), multiplied

    @cached_property
    def has_lower(self) -> bool:
        """Whether any entry has a lower bound."""
        return bool(np.isfinite(self.lower).any())

    @cached_property
    def has_upper(self) -> bool:
        """Whether any entry has an upper bound."""
        return bool(np.isfinite(self.upper).any())

    def between(self, xp: Namespace, x: Array, lower: Array, upper: Array) -> Array:
        """Numbers moved between bounds; on a side without any they are not compared."""
        x = xp.minimum(x, upper) if self.has_upper else x
        return xp.maximum(x, lower) if self.has_lower else x

    def _at_either(self, face: BoxFace) -> Array:
        """Marks of the entries that stay at a bound. A side without bounds has no marks."""
        if not self.has_upper:
            return face.lower
        return face.lower | face.upper if self.has_lower else face.upper

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
    lower_marks, upper_marks = at_lower(w, lower, u), at_upper(w, upper, u)
    return (lower_marks, upper_marks) if face is None else (lower_marks | face[0], upper_marks | face[1])


def at_lower(w: Array, lower: Array, u: float) -> Array:
    """Marks of the entries at their lower bound, to rounding."""
    return (w <= lower) | (w - lower < u * (abs(w) + abs(lower)))


def at_upper(w: Array, upper: Array, u: float) -> Array:
    """Marks of the entries at their upper bound, to rounding."""
    return (w >= upper) | (upper - w < u * (abs(w) + abs(upper)))


def slacks(
    xp: Namespace, z: Array, lower: Array, upper: Array, face: tuple[Array, ...], u: float
) -> tuple[Array, Array]:
    """`lower − z` and `upper − z`, exactly zero at the bounds of a face and where they are rounding."""
    return slack(xp, z, lower, face[0], u), slack(xp, z, upper, face[1], u)


def slack(xp: Namespace, z: Array, bound: Array, mark: Array, u: float) -> Array:
    """`bound − z`, exactly zero at marked entries and where it is rounding."""
    gap = bound - z
    return xp.where(mark | (abs(gap) < u * (abs(z) + abs(bound))), xp.array(0.0, z), gap)
