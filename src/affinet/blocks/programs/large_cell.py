"""Solve quadratic programs of one large cell, of dense or sparse rows, in NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import sparse

from affinet.blocks.entry_sets import Mask
from affinet.blocks.programs.crossover import finished
from affinet.blocks.programs.dual_newton import Problem, nearest
from affinet.blocks.programs.gram_factor import EPSILON, GramFactor, Rows, gram_of
from affinet.blocks.programs.small_cells import Sides
from affinet.language.calculus.terms import Floats
from affinet.system import lapack

MOST_GRAM = 2_048
"""Most rows whose products among each other are kept: 32 MB."""
CONDITIONED = 1e-3
"""Least diagonal of a Cholesky factor of rows that counts as well conditioned: their squares then keep ten digits."""
RESOLVED = 32.0 * EPSILON
"""Gap of a row of norm one that is rounding, as a share of the norm of the vector."""
MOST_ORTHOGONALISED = 2**24
"""Most coefficients of nearly dependent rows of a face that are orthogonalised: 128 MB, and some seconds."""
INDEPENDENT = 1e-12
"""Least diagonal of a pivoted QR factor of rows of norm one that counts as a row of its own."""


@dataclass(frozen=True, eq=False)
class LargeCell:
    """Rows of norm one (m, n), dense or a csr_array; the first of them are equations.

    Arrays have the axes of many cells, the first of length one.
    """

    rows: Rows
    equations: int
    _faces: dict[bytes, FaceParts] = field(default_factory=dict)
    _chosen: dict[bytes, Rows] = field(default_factory=dict)

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
        m, n = self.rows.shape
        ease = np.ones(n) if metric is None else 1.0 / metric[0]
        gram = self._gram if metric is None else None
        coarse = np.zeros(m) if blur is None else blur[0]
        problem = Problem(
            self.rows, self.equations, rhs[0], lower[0], upper[0], targets[0], ease, coarse, gram, self._chosen
        )  # fmt: skip
        at, rows = guess[0, m:], guess[0, :m] != 0
        bounds = np.where(at > 0, upper[0], np.where(at < 0, lower[0], 0.0))
        at_bound = (at != 0) & np.isfinite(bounds)
        solution = nearest(problem, rows & np.isfinite(rhs[0]), at_bound, np.where(at_bound, bounds, 0.0))
        if not solution.solved:
            solution = finished(problem, solution)
        pull = (problem.v - solution.x) / ease - solution.pull
        clipped = (solution.x == lower[0]) | (solution.x == upper[0])
        pull = np.where(clipped, pull, 0.0)
        multipliers = np.concatenate([np.abs(solution.u), np.abs(pull) * np.sqrt(ease)])
        sides = np.concatenate([solution.u != 0.0, np.where(solution.x == upper[0], pull > 0.0, -1 * (pull < 0.0))])
        return solution.x[None], multipliers[None], sides.astype(np.int8)[None]

    def products(self, x: Floats) -> Floats:
        return np.asarray(self.rows @ x[0])[None]

    def rounded(self, x: Floats, slack: Floats, rhs: Floats, u: float) -> Mask:
        """Which slacks (1, m) are at most u times the size of their terms; the size of rows of norm one is bounded."""
        small: Mask = np.abs(slack[0]) <= u * (float(np.linalg.norm(x)) + np.abs(rhs[0]))
        rows = np.flatnonzero(small)
        sizes = np.asarray(abs(self.rows[rows]) @ np.abs(x[0])) + np.abs(rhs[0, rows])
        small[rows] = np.abs(slack[0, rows]) <= u * sizes
        return small[None]

    def onto(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        at = face[0, len(rhs[0]) :]
        point = np.where(at > 0, upper[0], np.where(at < 0, lower[0], x[0]))
        return self._parts(face).onto(point, rhs[0])[None]

    def tangent(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        return self._parts(face).tangent(x[0])[None]

    def _parts(self, face: Sides) -> FaceParts:
        """The factor of a face; that of the last face is kept, which changes no bit of it."""
        key = face.tobytes()
        if key not in self._faces:
            m = self.rows.shape[0]
            active = (face[0, :m] != 0) | (np.arange(m) < self.equations)
            parts = FaceParts(self.rows, active, face[0, m:] == 0)
            self._faces.clear()
            self._faces[key] = parts
        return self._faces[key]

    @cached_property
    def _gram(self) -> Floats | None:
        """The products of all rows with each other, which serve while no entry is at a bound."""
        if sparse.issparse(self.rows) or self.rows.shape[0] > MOST_GRAM:
            return None
        return np.asarray(self.rows @ self.rows.T)


@dataclass(frozen=True, eq=False)
class LargeCells:
    """Several large cells of one size, one after the other."""

    cells: tuple[LargeCell, ...]

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
        solved = []
        for k, cell in enumerate(self.cells):
            at = slice(k, k + 1)
            options = {"metric": metric if metric is None else metric[at], "blur": blur if blur is None else blur[at]}
            solved.append(cell.solve(rhs[at], lower[at], upper[at], targets[at], guess[at], **options))
        points, multipliers, active = (np.concatenate(parts) for parts in zip(*solved, strict=True))
        return points, multipliers, active

    def products(self, x: Floats) -> Floats:
        return np.concatenate([cell.products(x[k : k + 1]) for k, cell in enumerate(self.cells)])

    def rounded(self, x: Floats, slack: Floats, rhs: Floats, u: float) -> Mask:
        cells = enumerate(self.cells)
        return np.concatenate([cell.rounded(x[k : k + 1], slack[k : k + 1], rhs[k : k + 1], u) for k, cell in cells])

    def onto(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        parts, cells = (x, face, rhs, lower, upper), enumerate(self.cells)
        return np.concatenate([cell.onto(*(part[k : k + 1] for part in parts)) for k, cell in cells])

    def tangent(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        parts, cells = (x, face, rhs, lower, upper), enumerate(self.cells)
        return np.concatenate([cell.tangent(*(part[k : k + 1] for part in parts)) for k, cell in cells])


class FaceParts:
    """The projections onto some rows over the free entries.

    Well-conditioned rows go by the factor of their Gram matrix, refined once. Others are orthogonalised with pivoting,
    or, where they are too many or sparse, solved by refinement, which leaves rows that nearly depend on others to about
    the square root of rounding.
    """

    def __init__(self, rows: Rows, active: Mask, free: Mask) -> None:
        self._active, self._free = active, free
        chosen = rows[active]
        masked = free.astype(np.float64)
        self._rows = sparse.csr_array(chosen.multiply(masked[None])) if sparse.issparse(rows) else chosen * masked
        self._full = chosen
        self._basis: Floats | None = None
        self._triangle = np.zeros((0, 0))
        self._order = np.zeros(0, np.int64)
        self._factor = self._factored(chosen) if active.any() else None

    def _factored(self, chosen: Rows) -> GramFactor | None:
        squares = np.asarray((chosen * chosen).sum(axis=1)).ravel()
        factor = GramFactor(gram_of(self._rows, np.ones(chosen.shape[1])), squares)
        numbers = chosen.shape[0] * chosen.shape[1]
        conditioned = factor.lower is not None and factor.lower.diagonal().min() >= CONDITIONED
        if conditioned or numbers > MOST_ORTHOGONALISED or self._resolves(factor):
            return factor
        dense = self._rows.toarray() if sparse.issparse(self._rows) else self._rows
        basis, triangle, order = lapack.qr(dense[:, self._free].T, mode="economic", pivoting=True)
        rank = int((np.abs(triangle.diagonal()) > INDEPENDENT).sum())
        self._basis = np.zeros((rank, dense.shape[1]))
        self._basis[:, self._free] = basis[:, :rank].T
        self._triangle, self._order = triangle[:rank, :rank], order[:rank]
        return None

    def _resolves(self, factor: GramFactor) -> bool:
        """Whether the factor projects any vector to rounding: it does so where rows are dependent, but not nearly."""
        probe = np.where(self._free, np.random.default_rng(0).standard_normal(len(self._free)), 0.0)
        moved = probe
        for _ in range(2):
            moved = moved - self._rows.T @ factor.solve(self._rows @ moved)
        gap = float(np.abs(self._rows @ moved).max(initial=0.0))
        return gap <= RESOLVED * float(np.linalg.norm(probe))

    def tangent(self, x: Floats) -> Floats:
        """The part of x that moves none of the rows, zero in the entries that are not free."""
        moved = np.where(self._free, x, 0.0)
        for _ in range(2):
            if self._basis is not None:
                moved = moved - self._basis.T @ (self._basis @ moved)
            elif self._factor is not None:
                moved = moved - self._rows.T @ self._factor.solve(self._rows @ moved)
        return moved

    def onto(self, x: Floats, rhs: Floats) -> Floats:
        """The nearest point to x with the same entries where they are not free."""
        limits = rhs[self._active]
        for _ in range(2):
            if self._basis is not None:
                gap = (self._full @ x - limits)[self._order]
                x = x - self._basis.T @ lapack.solve_triangular(self._triangle, gap, trans=1)
            elif self._factor is not None:
                x = x - self._rows.T @ self._factor.solve(self._full @ x - limits)
        return x
