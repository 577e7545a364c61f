"""A convex set of cells whose absolute values add up to at most a radius: the l1 ball.

With the signs of its nearest point, a cell is a box cut by one inequality: absolute values are at least zero, and their
sum is at most the radius (J. Duchi et al., ICML 2008). An entry never changes its sign by the projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from affinet.blocks.convex import choose_by_cell, numbers_of_cells
from affinet.blocks.cut_boxes import FAINT, Problem, Solution, solve
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers


class SumFace(NamedTuple):
    """Marks of entries that stay zero, of those that are counted as positive, and of cells (cells, 1) at the radius.

    Its points have `Σ ± w = radius` over the entries that do not stay zero. Where a cell is not at the radius, all
    its entries are free.
    """

    zero: Array
    positive: Array
    row: Array


@dataclass(frozen=True, eq=False)
class AbsoluteSums:
    """`Σ |w| ≤ radius` in the cells of an array (cells, width); `radius` > 0 broadcasts to (cells, 1)."""

    shape: tuple[int, int]
    radius: Floats

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def only(self, cells: Integers) -> AbsoluteSums:
        return AbsoluteSums((len(cells), self.shape[1]), numbers_of_cells(self.radius, cells, 2))

    def count(self) -> int:
        return self.shape[1]

    @property
    def rounds_tangents(self) -> bool:
        return True

    def bounds(self) -> tuple[Floats, Floats]:
        return -self.radius, self.radius

    def choose(self, xp: Namespace, condition: Array, first: SumFace, second: SumFace) -> SumFace:
        return choose_by_cell(xp, condition, first, second)

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: SumFace | None = None
    ) -> tuple[Array, SumFace]:
        unit, zero, far = (xp.array(number, x) for number in (1.0, 0.0, np.inf))
        slope = unit if metric is None else unit / metric
        solution = solve(xp, Problem(abs(x), unit, slope, zero, far, xp.array(self.radius, x), equation=False), None)
        force = abs(x) if metric is None else metric * abs(x)
        positive = x >= 0.0
        return _signed(xp, solution.x, positive), self._face(xp, force, positive, solution)

    def marks(self, xp: Namespace, face: SumFace) -> tuple[Array, ...]:
        return face

    def clipped(self, xp: Namespace, x: Array) -> Array:
        return x

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        total, radius = xp.sum(abs(x), (1,)), xp.array(self.radius, x)
        return total - radius <= u * (total + radius)

    def onto(self, xp: Namespace, x: Array, face: SumFace) -> Array:
        fixed, free = face.zero & face.row, ~face.zero & face.row
        z = xp.where(fixed, xp.array(0.0, x), x)
        for _ in range(2):
            z = z - self._share(xp, z, xp.array(self.radius, x), free, face.positive)
        return z

    def tangent_part(self, xp: Namespace, x: Array, face: SumFace) -> Array:
        zero = xp.array(0.0, x)
        inside = xp.where(face.zero & face.row, zero, x)
        return inside - self._share(xp, inside, zero, ~face.zero & face.row, face.positive)

    def land(
        self, xp: Namespace, z: Array, y: Array, tau: Array, face: SumFace, u: float
    ) -> tuple[Array, Array, SumFace]:
        """As the protocol says, in the variables `± x`, with the signs of `z / τ + y`.

        The room for their sum is the slack, less twice each `z / τ` whose sign changes: no other `z / τ` is added up.
        """
        zero, far, unit = (xp.array(number, y) for number in (0.0, np.inf, 1.0))
        counted = xp.where(face.row, face.positive, z >= 0.0)
        scaled = z / tau
        positive = scaled + y >= 0.0
        changed = xp.where(positive == counted, zero, _signed(xp, scaled, positive))
        room = self._room(xp, z, counted, face, u) / tau - 2.0 * xp.sum(changed, (1,))
        least = -_signed(xp, scaled, positive)
        solution = solve(xp, Problem(_signed(xp, y, positive), unit, unit, least, far, room, equation=False), None)
        moved = xp.maximum(_signed(xp, z, positive) + tau * solution.x, zero)
        size = xp.where(solution.lower, zero, moved)
        excess = xp.maximum(xp.sum(size, (1,)) - xp.array(self.radius, z), zero)
        free = xp.where(size > 0.0, unit, zero)
        share = excess / xp.maximum(xp.sum(free, (1,)), unit)
        size = xp.maximum(size - share * free, zero)
        multiplier = _signed(xp, solution.t + zero * y, positive)
        normal = xp.where(solution.lower, y - _signed(xp, solution.x, positive), multiplier)
        return _signed(xp, size, positive), normal, self._face(xp, abs(normal), positive, solution)

    def normal(self, xp: Namespace, w: Array, v: Array, face: SumFace | None, u: float) -> tuple[Array, SumFace]:
        zero, far, unit = (xp.array(number, v) for number in (0.0, np.inf, 1.0))
        positive = xp.where(w == 0.0, v >= 0.0, w > 0.0)
        room = self._room(xp, w, w >= 0.0, face, u)
        problem = Problem(
            _signed(xp, v, positive),
            unit,
            unit,
            xp.where(w == 0.0, zero, -far),
            far,
            xp.where(room <= 0.0, zero, far),
            equation=False,
        )
        solution = solve(xp, problem, None)
        multiplier = _signed(xp, solution.t + zero * v, positive)
        # Away from the radius nothing pushes, not even on entries that are zero.
        normal = xp.where(solution.lower & (solution.t > 0.0), v, multiplier)
        return normal, self._face(xp, abs(normal), positive, solution)

    def _room(self, xp: Namespace, z: Array, positive: Array, face: SumFace | None, u: float) -> Array:
        """`radius − Σ ± z`, exactly zero on a face at the radius and where it is rounding."""
        radius = xp.array(self.radius, z)
        room = radius - xp.sum(_signed(xp, z, positive), (1,))
        at_rounding = abs(room) <= u * (xp.sum(abs(z), (1,)) + radius)
        return xp.where(at_rounding if face is None else at_rounding | face.row, xp.array(0.0, room), room)

    def _share(self, xp: Namespace, x: Array, total: Array, free: Array, positive: Array) -> Array:
        """What each free entry has to give so that `Σ ± x` over them is the total."""
        unit, zero = xp.array(1.0, x), xp.array(0.0, x)
        signs = xp.where(free, _signed(xp, unit + zero * x, positive), zero)
        count = xp.maximum(xp.sum(abs(signs), (1,)), unit)
        return signs * ((xp.sum(signs * x, (1,)) - total) / count)

    def _face(self, xp: Namespace, force: Array, positive: Array, solution: Solution) -> SumFace:
        """The face of a point; `force` is the size of its normal vector, which is smaller on entries that stay zero."""
        faint = max(FAINT, 8.0 * xp.spacing(force)) * solution.t
        row = solution.t > 0.0
        return SumFace(solution.lower & row & (solution.t - force > faint), positive, row)


def _signed(xp: Namespace, x: Array, positive: Array) -> Array:
    return xp.where(positive, x, -x)
