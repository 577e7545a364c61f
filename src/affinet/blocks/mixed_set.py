"""The set of nonlinear equations and inequalities on the same weights, by polyhedra of the moves from a point.

At a point of the set, nonlinear equations and inequalities are replaced by their linear parts. With affine inequalities
as they are, the moves from the point make a polyhedron, whose projections say along which face a step stays and where
it lands. From there the weights return to the equations, with the inequalities that are active or violated as further
equations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from affinet.blocks.curved_set import (
    DECREASE,
    HALVINGS,
    NEAR_SET,
    RETURNS,
    SLOW,
    SLOW_RATIOS,
    TOLERANCE,
    random_moves,
)
from affinet.blocks.polyhedral_set import PolyhedralSet
from affinet.blocks.programs.equation_program import EquationProgram
from affinet.blocks.programs.linear_part import linear_part
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


class Gaps(NamedTuple):
    """Rows of a cell at a point: derivatives of norm one (rows, n), left sides minus right sides, and sizes of terms.

    Equations come first. Rows of zeros stay so. `norms` are those by which the numbers were divided.
    """

    rows: Floats
    values: Floats
    sizes: Floats
    norms: Floats


@dataclass(frozen=True, eq=False)
class MixedSet:
    """Cells of one size: equations and inequalities by programs, `matrix x ≤ rhs` (cells, m, n), and bounds (cells, n).

    The last `inequalities` outputs of a program are those of inequalities `≤ 0`. Bounds may be infinite.
    """

    programs: tuple[EquationProgram, ...]
    matrix: Floats
    rhs: Floats
    lower: Floats
    upper: Floats
    inequalities: int = 0
    memory: Memory = field(default_factory=lambda: Memory())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lower.shape

    @property
    def equations(self) -> int:
        """Equations of a cell."""
        return self.programs[0].equations - self.inequalities

    def polyhedra(self, points: Floats, roundoff: float) -> PolyhedralSet:
        """The moves from points (cells, n) that change no equation to first order and keep the inequalities.

        Inequalities and bounds within rounding of the points, to `roundoff`, are at their bound, and so are those that
        it violates. Those of the last points are kept.
        """
        known = self.memory.polyhedra
        if known is not None and known[0] == roundoff and np.array_equal(known[1], points):
            return known[2]
        cells = self._linear_parts(points)
        rows = np.stack([gaps.rows for gaps in cells])
        rhs = np.stack([-gaps.values for gaps in cells])
        rhs[:, : self.equations] = 0.0
        rhs[rhs <= TOLERANCE * max(roundoff, UNIT) * np.stack([gaps.sizes for gaps in cells])] = 0.0
        lower, upper = (_gaps_to(bound, points, roundoff) for bound in (self.lower, self.upper))
        made = PolyhedralSet(rows, rhs, self.equations, lower, upper)
        self.memory.polyhedra = roundoff, points.copy(), made
        return made

    def _linear_parts(self, points: Floats) -> list[Gaps]:
        """The rows of all cells at points; those of the last points are kept."""
        known = self.memory.parts
        if known is not None and np.array_equal(known[0], points):
            return known[1]
        parts = [self._at(cell, point) for cell, point in enumerate(points)]
        self.memory.parts = points.copy(), parts
        return parts

    def excess(self, points: Floats, roundoff: float) -> Floats:
        """The largest violation of each cell in units of what rounding may leave; bounds must hold exactly."""
        worst = np.array([self._excess(self._at(cell, point), roundoff) for cell, point in enumerate(points)])
        outside = ((points < self.lower) | (points > self.upper)).any(axis=1)
        return np.where(outside, np.inf, worst)

    def clipped(self, points: Floats) -> Floats:
        """Entries moved between their own bounds."""
        return np.clip(points, self.lower, self.upper)

    def returned(self, cell: int, x: Floats, active: np.ndarray, sides: np.ndarray) -> Back:
        """Where Gauss and Newton's method leads from x.

        `active` marks the inequalities that hold with equality there, `sides` (n,) the entries at a bound.
        Violated ones join them on the way.
        """
        used = np.concatenate([np.ones(self.equations, bool), active])
        below, above = sides < 0, sides > 0
        before, run, longest = np.inf, 0, 0
        for _ in range(RETURNS):
            x = np.where(below, self.lower[cell], np.where(above, self.upper[cell], x))
            gaps = self._at(cell, x)
            far = TOLERANCE * UNIT * gaps.sizes
            used |= gaps.values > far
            distance = length(gaps.values[used])
            if not (np.abs(gaps.values[used]) > far[used]).any() and np.isfinite(gaps.values).all():
                return Back(x, True, longest >= SLOW_RATIOS)
            is_near = (np.abs(gaps.values[used]) <= NEAR_SET * gaps.sizes[used]).all()
            alike = is_near and SLOW[0] * before < distance < SLOW[1] * before
            run = run + 1 if alike else 0
            before, longest = distance, max(run, longest)
            step = self._step(gaps, used, ~(below | above))
            if not np.isfinite(step).all():
                break
            x = x - (2.0 if run >= SLOW_RATIOS else 1.0) * step
            below, above = below | (x < self.lower[cell]), above | (x > self.upper[cell])
        return Back(x, False, longest >= SLOW_RATIOS)

    def nearest(self, points: Floats) -> Floats:
        """Points of the set near these, found cell by cell; a point itself where none is found."""
        result = points.copy()
        for cell, start in enumerate(points):
            back = self._directly(cell, start)
            if back.arrives:
                result[cell] = back.point
                continue
            for move in random_moves(len(start)):
                away = (1.0 + length(start) * len(start) ** -0.5) * move
                candidate, arrives = self._reached(cell, start + away)
                if arrives:
                    result[cell] = candidate
                    break
        return result

    def _directly(self, cell: int, x: Floats) -> Back:
        """Onto the bounds of violated nonlinear inequalities, and not far beyond them as a shortest step may lead."""
        x = np.clip(x, self.lower[cell], self.upper[cell])
        violated = self._violated(self._at(cell, x))[self.equations :]
        if not violated[: self.inequalities].any():
            return Back(x, False, False)
        return self.returned(cell, x, violated, np.zeros(len(x)))

    def _reached(self, cell: int, x: Floats) -> tuple[Floats, bool]:
        """Follow the steps of Gauss and Newton that lower equations and violated inequalities, shortened where needed.

        Entries stay between their bounds.
        """
        x = np.clip(x, self.lower[cell], self.upper[cell])
        for _ in range(4 * RETURNS):
            gaps = self._at(cell, x)
            if self._excess(gaps, UNIT) <= 1.0:
                return x, True
            before = self._violation(gaps)
            if not np.isfinite(before):
                break
            used = self._violated(gaps)
            move, share, free = None, 1.0, np.ones(len(x), bool)
            step = np.zeros(len(x))
            for _ in range(len(x)):  # entries at a bound towards which the step leads stay there
                step = self._step(gaps, used, free)
                blocked = free & (((x == self.lower[cell]) & (step > 0.0)) | ((x == self.upper[cell]) & (step < 0.0)))
                if not blocked.any():
                    break
                free &= ~blocked
            for _ in range(HALVINGS + 8):
                trial = np.clip(x - share * step, self.lower[cell], self.upper[cell])
                new = self._at(cell, trial)
                if self._violation(new) <= (1.0 - DECREASE * share) * before or self._excess(new, UNIT) <= 1.0:
                    move = trial
                    break
                share *= 0.5
            if move is None:
                break
            x = move
        return x, False

    def _step(self, gaps: Gaps, used: np.ndarray, free: np.ndarray) -> Floats:
        """The shortest step over free entries that closes the gaps of the used rows to first order."""
        rows, values = gaps.rows[used] * free, gaps.values[used]
        if not np.isfinite(rows).all() or not np.isfinite(values).all() or not len(rows):
            return np.zeros(len(free)) if not len(rows) else np.full(len(free), np.nan)
        u, s, vt = lapack.svd(rows, full_matrices=False)
        usable = s > RANK * s.max(initial=0.0)
        step: Floats = vt[usable].T @ ((u[:, usable].T @ values) / s[usable])
        return step

    def _violated(self, gaps: Gaps) -> np.ndarray:
        """The equations, and the inequalities that are beyond rounding of their bound."""
        violated: np.ndarray = gaps.values > TOLERANCE * UNIT * gaps.sizes
        violated[: self.equations] = True
        return violated

    def _violation(self, gaps: Gaps) -> float:
        """The norm of the equations and of violated inequalities, in units as written."""
        values = gaps.values * gaps.norms
        values[self.equations :] = np.maximum(values[self.equations :], 0.0)
        return length(values)

    def _excess(self, gaps: Gaps, roundoff: float) -> float:
        """The largest violation in units of what rounding may leave; infinite where it is not a number."""
        values = gaps.values.copy()
        values[: self.equations] = np.abs(values[: self.equations])
        with np.errstate(all="ignore"):
            ratio = np.where(values <= 0.0, 0.0, values / (TOLERANCE * roundoff * gaps.sizes))
        return float(np.where(np.isnan(ratio), np.inf, ratio).max(initial=0.0))

    def _at(self, cell: int, x: Floats) -> Gaps:
        part = linear_part(self.programs[cell], self._written[cell], x)
        norms = self._norms[cell]
        values = (self.matrix[cell] @ x - self.rhs[cell]) / norms
        sizes = (np.abs(self.matrix[cell]) @ np.abs(x) + np.abs(self.rhs[cell])) / norms
        return Gaps(
            np.concatenate([part.dense(), self.matrix[cell] / norms[:, None]]),
            np.concatenate([part.values, values]),
            np.concatenate([part.limits, sizes]),
            np.concatenate([part.norms, norms]),
        )

    @cached_property
    def _norms(self) -> Floats:
        norms = np.sqrt((self.matrix * self.matrix).sum(axis=2))
        return np.where(norms > 0.0, norms, 1.0)

    @cached_property
    def _written(self) -> tuple[WrittenDerivatives | None, ...]:
        return tuple(written_out(program, MOST_WRITTEN) for program in self.programs)


class Back(NamedTuple):
    """Where a return ended, whether the rules hold there, and whether it was as slow as where rank is lost."""

    point: Floats
    arrives: bool
    slow: bool


@dataclass(eq=False)
class Memory:
    """The last points and their linear parts, and their polyhedra for a roundoff; each is replaced as a whole."""

    parts: tuple[Floats, list[Gaps]] | None = None
    polyhedra: tuple[float, Floats, PolyhedralSet] | None = None


def _gaps_to(bounds: Floats, points: Floats, roundoff: float) -> Floats:
    """`bounds − points`, zero where rounding of the points may have made it."""
    gaps = bounds - points
    touching = np.isfinite(bounds) & (np.abs(gaps) <= roundoff * (np.abs(bounds) + np.abs(points)))
    return np.where(touching, 0.0, gaps)
