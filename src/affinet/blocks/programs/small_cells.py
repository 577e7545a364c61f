"""Solve quadratic programs of many small cells, or of a cell of up to some thousand entries, in NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from affinet.blocks.entry_sets import Mask
from affinet.blocks.programs.row_products import Multiply
from affinet.language.calculus.terms import Floats
from affinet.system.norms import norms_of_rows

Sides = np.ndarray
"""Active constraints (cells, m + n) as int8: 1 for rows; for entries the side of the bound, −1 lower and 1 upper."""


class Program(Protocol):
    """A solver for cells with the same rows, of norm one, and changing targets and right-hand sides."""

    def computing(self, multiply: Multiply) -> Program:
        """The same solver, which multiplies large dense rows in this way."""

    def solve(
        self,
        rhs: Floats,
        lower: Floats,
        upper: Floats,
        targets: Floats,
        guess: Sides,
        *,
        metric: Floats | None = None,
        blur: Floats | None = None,
    ) -> tuple[Floats, Floats, Sides]:
        """The nearest points (cells, n), multipliers (cells, m + n) of the scaled constraints, and the active ones.

        With a metric (cells, n), multipliers are those of constraints of norm one in the metric. `blur` (cells, m) is
        the rounding error of the right-hand sides.
        """

    def products(self, x: Floats) -> Floats:
        """`rows x` (cells, m)."""

    def rounded(self, x: Floats, slack: Floats, rhs: Floats, u: float) -> Mask:
        """Which slacks (cells, m) are at most u times the size of their terms."""

    def onto(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        """The nearest points at which the equations and the active constraints of faces hold with equality."""

    def tangent(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        """The nearest vectors that change none of these constraints."""


@dataclass(frozen=True, eq=False)
class SmallCells:
    """Rows of norm one (cells, m, n), or (1, m, n) for all cells; the first of them are equations."""

    rows: Floats
    equations: int

    def computing(self, multiply: Multiply) -> SmallCells:
        return self

    def solve(
        self,
        rhs: Floats,
        lower: Floats,
        upper: Floats,
        targets: Floats,
        guess: Sides,
        *,
        metric: Floats | None = None,
        blur: Floats | None = None,
    ) -> tuple[Floats, Floats, Sides]:
        from affinet.blocks.programs import dual_active_set

        rows, root = self.rows, None
        blur = np.zeros(rhs.shape) if blur is None else blur
        if metric is not None:
            root = np.sqrt(metric)
            rows = self.rows / root[:, None]
            norms = norms_of_rows(rows)
            norms[norms == 0.0] = 1.0
            rows, rhs, blur = rows / norms[..., None], rhs / norms, blur / norms
            lower, upper, targets = lower * root, upper * root, targets * root
        cells, n = targets.shape
        m = rows.shape[1]
        x, multipliers, active = np.empty((cells, n)), np.empty((cells, m + n)), np.empty((cells, m + n), np.int8)
        rhs, lower, upper, targets = (np.ascontiguousarray(part) for part in (rhs, lower, upper, targets))
        dual_active_set.solve_cells(
            self.equations,
            rows,
            rhs,
            lower,
            upper,
            targets,
            guess,
            np.ascontiguousarray(blur),
            x,
            multipliers,
            active,
            dual_active_set.memory(m, n),
        )
        return x if root is None else x / root, multipliers, active

    def products(self, x: Floats) -> Floats:
        return np.asarray(np.matmul(self.rows, x[..., None])[..., 0])

    def rounded(self, x: Floats, slack: Floats, rhs: Floats, u: float) -> Mask:
        sizes = np.matmul(np.abs(self.rows), np.abs(x)[..., None])[..., 0] + np.abs(rhs)
        return np.asarray(np.abs(slack) <= u * sizes)

    def onto(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        return self._moved(x, face, rhs, lower, upper, affine=True)

    def tangent(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        return self._moved(x, face, rhs, lower, upper, affine=False)

    def _moved(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats, *, affine: bool) -> Floats:
        from affinet.blocks.programs import dual_active_set

        moved = np.array(x, np.float64)
        work = dual_active_set.memory(self.rows.shape[1], x.shape[1])
        dual_active_set.face_parts(self.equations, self.rows, rhs, lower, upper, face, moved, affine, work)
        return moved
