"""The set of nonlinear equations and affine inequalities on the same weights, by polyhedra of the moves from a point.

At a point of the set, the equations are replaced by their linear parts. With the inequalities as they are, the moves
from the point make a polyhedron, whose projections say along which face a step stays and where it lands. From there the
weights return to the equations, with the inequalities that are active or violated as further equations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from affinet.blocks.curved_set import DECREASE, HALVINGS, RETURNS, TOLERANCE, random_moves
from affinet.blocks.polyhedral_set import PolyhedralSet
from affinet.blocks.programs.equation_program import EquationProgram
from affinet.blocks.programs.linear_part import LinearPart, linear_part
from affinet.blocks.programs.row_products import length
from affinet.blocks.programs.written_derivatives import WrittenDerivatives, written_out
from affinet.language.calculus.terms import Floats
from affinet.system import lapack

UNIT = 2.0**-53
"""The unit roundoff in which the verbs compute."""
RANK = 1e-10
"""Singular values of rows of norm one below this share of the largest are zero in a return."""
MOST_WRITTEN = 2**22
"""Most products from which the derivatives of a cell are computed as a sparse matrix."""


@dataclass(frozen=True, eq=False)
class MixedSet:
    """Cells of one size: equations by programs, `matrix x ≤ rhs` (cells, m, n), and bounds (cells, n), or infinite."""

    programs: tuple[EquationProgram, ...]
    matrix: Floats
    rhs: Floats
    lower: Floats
    upper: Floats
    memory: Memory = field(default_factory=lambda: Memory())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lower.shape

    @property
    def equations(self) -> int:
        """Equations of a cell."""
        return self.programs[0].equations

    def polyhedra(self, points: Floats) -> PolyhedralSet:
        """The moves from points (cells, n) that change no equation to first order and keep the inequalities.

        Inequalities within rounding of their bound are at it. Those of the last points are kept.
        """
        known = self.memory.polyhedra
        if known is not None and np.array_equal(known[0], points):
            return known[1]
        parts = [self._linear(cell, point) for cell, point in enumerate(points)]
        jacobian = np.stack([self._dense(part) for part in parts])
        gaps = self.rhs - self._products(points)
        gaps[np.abs(gaps) <= TOLERANCE * UNIT * self._sizes(points)] = 0.0
        rhs = np.concatenate([np.zeros((len(points), self.equations)), gaps], axis=1)
        rows = np.concatenate([jacobian, self.matrix], axis=1)
        made = PolyhedralSet(rows, rhs, self.equations, self.lower - points, self.upper - points)
        self.memory.polyhedra = points.copy(), made
        return made

    def excess(self, points: Floats, roundoff: float) -> Floats:
        """The largest violation of each cell in units of what rounding may leave; bounds must hold exactly."""
        worst = np.array([self._linear(cell, point).excess(TOLERANCE * roundoff) for cell, point in enumerate(points)])
        with np.errstate(all="ignore"):
            beyond = (self._products(points) - self.rhs) / (TOLERANCE * roundoff * self._sizes(points))
        worst = np.maximum(worst, np.nan_to_num(beyond, nan=np.inf).max(axis=1, initial=0.0))
        outside = ((points < self.lower) | (points > self.upper)).any(axis=1)
        return np.where(outside, np.inf, worst)

    def clipped(self, points: Floats) -> Floats:
        """Entries moved between their own bounds."""
        return np.clip(points, self.lower, self.upper)

    def returned(self, cell: int, x: Floats, active: np.ndarray, sides: np.ndarray) -> tuple[Floats, bool]:
        """The point of the set to which Gauss and Newton's method leads from x, and whether it is one.

        `active` marks the inequalities that hold with equality there, `sides` (n,) the entries at a bound.
        Violated ones join them on the way.
        """
        active, below, above = active.copy(), sides < 0, sides > 0
        for _ in range(RETURNS):
            x = np.where(below, self.lower[cell], np.where(above, self.upper[cell], x))
            part, gap, size = self._at(cell, x)
            active |= gap > TOLERANCE * UNIT * size
            is_violated = np.abs(gap[active]) > TOLERANCE * UNIT * size[active]
            if part.excess(TOLERANCE * UNIT) <= 1.0 and not is_violated.any():
                return x, True
            step = self._step(cell, part, gap, active, ~(below | above))
            if not np.isfinite(step).all():
                break
            x = x - step
            below, above = below | (x < self.lower[cell]), above | (x > self.upper[cell])
        return x, False

    def nearest(self, points: Floats) -> Floats:
        """Points of the set near these, found cell by cell; a point itself where none is found."""
        result = points.copy()
        for cell, start in enumerate(points):
            for move in random_moves(len(start)):
                away = (1.0 + length(start) * len(start) ** -0.5) * move
                candidate, arrives = self._reached(cell, start + away)
                if arrives:
                    result[cell] = candidate
                    break
        return result

    def _reached(self, cell: int, x: Floats) -> tuple[Floats, bool]:
        """Follow the steps of Gauss and Newton that lower equations and violated inequalities, shortened where needed.

        Entries stay between their bounds.
        """
        x = np.clip(x, self.lower[cell], self.upper[cell])
        for _ in range(4 * RETURNS):
            part, gap, size = self._at(cell, x)
            violated = gap > TOLERANCE * UNIT * size
            if part.excess(TOLERANCE * UNIT) <= 1.0 and not violated.any():
                return x, True
            before = self._violation(part, gap)
            if not np.isfinite(before):
                break
            move, share, free = None, 1.0, np.ones(len(x), bool)
            step = np.zeros(len(x))
            for _ in range(len(x)):  # entries at a bound towards which the step leads stay there
                step = self._step(cell, part, gap, violated, free)
                blocked = free & (((x == self.lower[cell]) & (step > 0.0)) | ((x == self.upper[cell]) & (step < 0.0)))
                if not blocked.any():
                    break
                free &= ~blocked
            for _ in range(HALVINGS + 8):
                trial = np.clip(x - share * step, self.lower[cell], self.upper[cell])
                new, new_gap, _ = self._at(cell, trial)
                if self._violation(new, new_gap) <= (1.0 - DECREASE * share) * before:
                    move = trial
                    break
                share *= 0.5
            if move is None:
                break
            x = move
        return x, False

    def _step(self, cell: int, part: LinearPart, gap: Floats, active: np.ndarray, free: np.ndarray) -> Floats:
        """The shortest step over free entries that closes equations and active gaps to first order."""
        rows = np.concatenate([self._dense(part), self.matrix[cell, active] / self._norms[cell, active, None]]) * free
        values = np.concatenate([part.values, gap[active] / self._norms[cell, active]])
        if not np.isfinite(rows).all() or not np.isfinite(values).all() or not len(rows):
            return np.zeros(len(free)) if not len(rows) else np.full(len(free), np.nan)
        u, s, vt = lapack.svd(rows, full_matrices=False)
        used = s > RANK * s.max(initial=0.0)
        step: Floats = vt[used].T @ ((u[:, used].T @ values) / s[used])
        return step

    def _violation(self, part: LinearPart, gap: Floats) -> float:
        """The norm of the equations, in units as written, and of violated inequalities."""
        return float(np.hypot(length(part.values * part.norms), length(np.maximum(gap, 0.0))))

    def _at(self, cell: int, x: Floats) -> tuple[LinearPart, Floats, Floats]:
        """The linear part, `matrix x − rhs`, and the sizes of its terms."""
        products = self.matrix[cell] @ x
        sizes = np.abs(self.matrix[cell]) @ np.abs(x) + np.abs(self.rhs[cell])
        return self._linear(cell, x), products - self.rhs[cell], sizes

    def _linear(self, cell: int, x: Floats) -> LinearPart:
        return linear_part(self.programs[cell], self._written[cell], x)

    def _dense(self, part: LinearPart) -> Floats:
        return np.array([part.transposed(unit) for unit in np.eye(self.equations)]).reshape(self.equations, -1)

    def _products(self, points: Floats) -> Floats:
        return np.asarray((self.matrix @ points[..., None])[..., 0])

    def _sizes(self, points: Floats) -> Floats:
        return np.asarray((np.abs(self.matrix) @ np.abs(points)[..., None])[..., 0] + np.abs(self.rhs))

    @cached_property
    def _norms(self) -> Floats:
        norms = np.sqrt((self.matrix * self.matrix).sum(axis=2))
        return np.where(norms > 0.0, norms, 1.0)

    @cached_property
    def _written(self) -> tuple[WrittenDerivatives | None, ...]:
        return tuple(written_out(program, MOST_WRITTEN) for program in self.programs)


@dataclass(eq=False)
class Memory:
    """The last points and their polyhedra, replaced as a whole."""

    polyhedra: tuple[Floats, PolyhedralSet] | None = None
