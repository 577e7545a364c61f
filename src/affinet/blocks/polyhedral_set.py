"""The convex set of equations, inequalities and bounds `{A x = b, G x ≤ h, lower ≤ x ≤ upper}` in equal cells.

The verbs run on the host, in NumPy and float64, and round once to the dtype of what they were given: no array library
has searches for active constraints. A compiler that traces arrays cannot run them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from affinet.blocks.convex import choose_by_cell, numbers_of_cells
from affinet.blocks.entry_bounds import clipped
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.programs.large_cell import LargeCell, LargeCells
from affinet.blocks.programs.small_cells import Program, Sides, SmallCells
from affinet.language.calculus.terms import Floats, Integers
from affinet.system.norms import norms_of_rows, norms_of_runs

NEGLIGIBLE = 1e-12
"""Multipliers up to this share of the largest of the cell are zero."""
MOST_SMALL = 512
"""Most entries of cells that are searched one by one: 4 MB of factors, which fit a cache."""
ROUNDED = 4.0 * 2.0**-53
"""Share of the numbers that an entry was computed from, within which it is where a bound is: a few roundings."""


class PolyhedralFace(NamedTuple):
    """The inequalities that hold with equality: rows (cells, m), and entries (cells, n) at a bound.

    Rows of equations are not set, nor are entries whose bounds are equal.
    """

    rows: Array
    lower: Array
    upper: Array


@dataclass(frozen=True, eq=False)
class PolyhedralSet:
    """Cells of one size: `matrix` (cells or 1, m, n), `rhs` (cells, m), `lower` and `upper` (cells, n), or infinite.

    One cell may have a csr_array (m, n) instead.
    The first `equations` rows are equations, the others are `≤`.
    """

    matrix: Floats | Any
    rhs: Floats
    equations: int
    lower: Floats
    upper: Floats
    most_small: int = MOST_SMALL

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lower.shape

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def only(self, cells: Integers) -> PolyhedralSet | None:
        """None for large cells, which are few and have solvers of their own."""
        if sparse.issparse(self.matrix) or self.lower.shape[1] > self.most_small:
            return None
        matrix = numbers_of_cells(self.matrix, cells, 3)
        rhs, lower, upper = self.rhs[cells], self.lower[cells], self.upper[cells]
        return replace(self, matrix=matrix, rhs=rhs, lower=lower, upper=upper)

    def count(self) -> int:
        return int(self.lower.shape[1])

    @property
    def rounds_tangents(self) -> bool:
        return True

    def bounds(self) -> tuple[Floats, Floats]:
        return self.lower, self.upper

    def choose(self, xp: Namespace, condition: Array, first: PolyhedralFace, second: PolyhedralFace) -> PolyhedralFace:
        return choose_by_cell(xp, condition, first, second)

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: PolyhedralFace | None = None
    ) -> tuple[Array, PolyhedralFace]:
        weights = None if metric is None else xp.host(metric)
        sides = self._sides(xp, guess)
        target = xp.host(x)
        point, multipliers, active = self._solver(xp).solve(
            self._rhs, self.lower, self.upper, target, sides, metric=weights
        )
        return xp.array(self._at_bounds(point, active, np.abs(target)), x), self._face(xp, multipliers, active, x)

    def marks(self, xp: Namespace, face: PolyhedralFace) -> tuple[Array, ...]:
        return face

    def clipped(self, xp: Namespace, x: Array) -> Array:
        return clipped(xp, x, xp.array(self.lower, x), xp.array(self.upper, x))

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        point = xp.host(x)
        slack = self._rhs - self._solver(xp).products(point)
        inside = slack >= 0.0
        inside[:, : self.equations] = False
        satisfied = inside | self._solver(xp).rounded(point, slack, self._rhs, u)
        return xp.array(satisfied.all(axis=1, keepdims=True).astype(np.float64), x) > 0.0

    def onto(self, xp: Namespace, x: Array, face: PolyhedralFace) -> Array:
        sides = self._sides(xp, face)
        return xp.array(self._solver(xp).onto(xp.host(x), sides, self._rhs, self.lower, self.upper), x)

    def tangent_part(self, xp: Namespace, x: Array, face: PolyhedralFace) -> Array:
        sides = self._sides(xp, face)
        return xp.array(self._solver(xp).tangent(xp.host(x), sides, self._rhs, self.lower, self.upper), x)

    def land(
        self, xp: Namespace, z: Array, y: Array, tau: Array, face: PolyhedralFace, u: float
    ) -> tuple[Array, Array, PolyhedralFace]:
        sides = self._sides(xp, face)
        point, vector, reach = xp.host(z), xp.host(y), xp.host(tau)
        slack, below, above = self._slacks(xp, point, sides, u)
        # Slacks that are not exactly zero are known to rounding: at a vertex of many rows they contradict the others.
        noise = (
            (slack != 0.0) * (2.0 * u + ROUNDED) * (np.linalg.norm(point, axis=1, keepdims=True) + np.abs(self._rhs))
        )
        with np.errstate(over="ignore"):
            limits = slack / reach, -below / reach, above / reach
            x, multipliers, active = self._solver(xp).solve(*limits, vector, sides, blur=noise / reach)
        w = self._at_bounds(point + reach * x, active, np.abs(point) + reach * np.abs(vector))
        return xp.array(w, z), xp.array(vector - x, y), self._face(xp, multipliers, active, z)

    def normal(
        self, xp: Namespace, w: Array, v: Array, face: PolyhedralFace | None, u: float
    ) -> tuple[Array, PolyhedralFace]:
        sides = self._sides(xp, face)
        vector = xp.host(v)
        slacks = self._slacks(xp, xp.host(w), sides, u)
        slack, below, above = (np.where(part <= 0.0, 0.0, np.inf) for part in slacks)
        x, multipliers, active = self._solver(xp).solve(slack, -below, above, vector, sides)
        return xp.array(vector - x, v), self._face(xp, multipliers, active, w)

    def _at_bounds(self, x: Floats, active: Sides, sizes: Floats) -> Floats:
        """Entries at an active bound, or within rounding of one, exactly there; no entry beyond a bound.

        `sizes` are those of the numbers that x was computed from.
        """
        if not self._has_bounds:
            return x
        at, noise = active[:, self.rhs.shape[1] :], ROUNDED * (sizes + np.abs(x))
        capped = np.where((at > 0) | (x >= self.upper - noise), self.upper, x)
        snapped: Floats = np.where((at < 0) | (x <= self.lower + noise), self.lower, capped)
        return snapped

    def _slacks(self, xp: Namespace, point: Floats, sides: Sides, u: float) -> tuple[Floats, Floats, Floats]:
        """`h − G z`, `z − lower` and `upper − z`: zero for equations, on the face, and within rounding of zero."""
        m = self.rhs.shape[1]
        slack = self._rhs - self._solver(xp).products(point)
        slack[sides[:, :m] != 0] = np.inf
        slack[self._solver(xp).rounded(point, slack, self._rhs, u) | (sides[:, :m] != 0)] = 0.0
        slack[:, : self.equations] = 0.0
        if not self._has_bounds:
            far = np.broadcast_to(np.inf, point.shape)
            return slack, far, far
        below, above = point - self.lower, self.upper - point
        at = sides[:, m:]
        for gap, bound, side in ((below, self.lower, -1), (above, self.upper, 1)):
            touching = np.isfinite(bound) & (np.abs(gap) <= u * (np.abs(point) + np.abs(bound)))
            gap[touching | (at == side) | (self.lower == self.upper)] = 0.0
        return slack, below, above

    def _sides(self, xp: Namespace, face: PolyhedralFace | None) -> Sides:
        """The active constraints (cells, m + n) of a face; entries of one value are active always."""
        cells, m = self.rhs.shape
        sides = np.zeros((cells, m + self.lower.shape[1]), np.int8)
        if face is not None:
            sides[:, :m] = xp.host(face.rows)
        if face is not None and self._has_bounds:
            sides[:, m:] = xp.host(face.upper) - xp.host(face.lower)
        if self._has_bounds:
            sides[:, m:][self.lower == self.upper] = 1
        return sides

    def _face(self, xp: Namespace, multipliers: Floats, active: Sides, like: Array) -> PolyhedralFace:
        """The inequalities with a multiplier above the negligible, by what the solver found active."""
        m = self.rhs.shape[1]
        inequalities = multipliers.copy() if self._has_bounds else multipliers[:, :m].copy()
        inequalities[:, : self.equations] = 0.0
        if not self._has_bounds:
            positive = inequalities > NEGLIGIBLE * inequalities.max(axis=1, keepdims=True, initial=0.0)
            at_none = xp.array(self._zeros, like) > 0.0
            return PolyhedralFace(xp.array(positive.astype(np.float64), like) > 0.0, at_none, at_none)
        inequalities[:, m:][self.lower == self.upper] = 0.0
        positive = inequalities > NEGLIGIBLE * inequalities.max(axis=1, keepdims=True, initial=0.0)
        parts = (positive[:, :m], positive[:, m:] & (active[:, m:] < 0), positive[:, m:] & (active[:, m:] > 0))
        return PolyhedralFace(*(xp.array(part.astype(np.float64), like) > 0.0 for part in parts))

    @cached_property
    def _has_bounds(self) -> bool:
        """Whether any entry has a bound of its own."""
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    @cached_property
    def _zeros(self) -> Floats:
        return np.zeros(self.lower.shape)

    @cached_property
    def _norms(self) -> Floats:
        """Norms of the rows (cells or 1, m), 1 for rows of zeros."""
        if isinstance(self.matrix, sparse.csr_array):
            norms = norms_of_runs(self.matrix.data, self.matrix.indptr)[None]
        else:
            norms = norms_of_rows(self.matrix)
        return np.where(norms > 0.0, norms, 1.0)

    @cached_property
    def _rhs(self) -> Floats:
        return np.ascontiguousarray(self.rhs / self._norms)

    def _solver(self, xp: Namespace) -> Program:
        return self._program.computing(xp)

    @cached_property
    def _program(self) -> Program:
        """The solver: entries of small cells are searched one by one, large cells by Newton's method."""
        cells, n = self.lower.shape
        if sparse.issparse(self.matrix):
            scale = sparse.diags_array(1.0 / self._norms[0])
            return LargeCell(sparse.csr_array(scale @ self.matrix), self.equations)
        rows = np.ascontiguousarray(self.matrix / self._norms[..., None])
        if n <= self.most_small:
            return SmallCells(rows, self.equations)
        large = [LargeCell(each, self.equations) for each in rows]
        return large[0] if cells == 1 else LargeCells(tuple(large if len(large) > 1 else large * cells))
