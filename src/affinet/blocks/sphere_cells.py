"""The set of cells with `Σ a w² = radius²`: vectors of one length, or ellipsoids.

A point returns to the set by scaling, which is the nearest point where all a are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from affinet.blocks.convex import numbers_of_cells
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers


class SphereFace(NamedTuple):
    """The point of each cell (cells, width), at which `a w` is the normal."""

    point: Array


@dataclass(frozen=True, eq=False)
class SphereCells:
    """`Σ a w² = radius²` in the cells of an array (cells, width); `radius` > 0 broadcasts to (cells, 1).

    `coefficients` a > 0 broadcast to (1, width).
    """

    shape: tuple[int, int]
    coefficients: Floats
    radius: Floats

    @property
    def equations(self) -> int:
        """Equations of a cell."""
        return 1

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def only(self, cells: Integers) -> SphereCells:
        return SphereCells((len(cells), self.shape[1]), self.coefficients, numbers_of_cells(self.radius, cells, 2))

    def count(self) -> int:
        return self.shape[1]

    def terms(self) -> int:
        return self.shape[1]

    def choose(self, xp: Namespace, condition: Array, first: SphereFace, second: SphereFace) -> SphereFace:
        return SphereFace(xp.where(condition, first.point, second.point))

    @property
    def always_found(self) -> bool:
        return True

    def nearest(self, xp: Namespace, x: Array) -> Array:
        """The point in the direction of x; where x is zero, one with equal entries: all points are equally near."""
        return self._scaled(xp, x, xp.array(np.ones((1, 1)), x))

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        square, radius = self._length(xp, x) ** 2, xp.array(self.radius, x)
        # The terms, and the derivatives times the weights, which are twice the terms.
        return abs(square - radius * radius) <= u * (3.0 * square + radius * radius)

    def tangent_part(self, xp: Namespace, x: Array, face: SphereFace) -> Array:
        slope = xp.array(self.coefficients, x) * face.point
        square = xp.sum(slope * slope, (1,))
        return x - slope * (xp.sum(slope * x, (1,)) / xp.where(square > 0.0, square, xp.array(1.0, square)))

    def followed(self, xp: Namespace, x: Array, face: SphereFace) -> tuple[Array, SphereFace, None]:
        """The point in the direction of the end of the step, with the part along the normal where all a are one.

        That part only makes the step longer or shorter there, since the normal is the direction of the point itself.
        """
        if not self.is_round:
            x = face.point + self.tangent_part(xp, x - face.point, face)
        point = self._scaled(xp, x, face.point)
        return point, SphereFace(point), None

    @property
    def is_round(self) -> bool:
        """Whether all coefficients are one."""
        return bool((self.coefficients == 1.0).all())

    def face(self, xp: Namespace, w: Array) -> SphereFace:
        """The tangent plane at a point."""
        return SphereFace(w)

    def _scaled(self, xp: Namespace, x: Array, otherwise: Array) -> Array:
        """The point in the direction of x, or in another direction where x is zero."""
        length, unit = self._length(xp, x), xp.array(1.0, x)
        direction = xp.where(length > 0.0, x, otherwise + 0.0 * x)
        length = xp.where(length > 0.0, length, self._length(xp, direction))
        return direction * (xp.array(self.radius, x) / xp.where(length > 0.0, length, unit))

    def _length(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(xp.array(self.coefficients, x) * x * x, (1,)) ** 0.5
