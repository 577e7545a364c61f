"""Solve quadratic programs of one large cell, of dense or sparse rows, in NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from affinet.blocks.entry_sets import Mask
from affinet.blocks.namespace import NumPy
from affinet.blocks.programs.crossover import finished
from affinet.blocks.programs.dual_newton import SMALL, Chosen, Problem, nearest
from affinet.blocks.programs.gram_factor import EPSILON, GramFactor, gram_of
from affinet.blocks.programs.row_products import Multiply, RowProducts, Rows, length
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
    multiply: Multiply = field(default_factory=NumPy)
    memory: Memory = field(default_factory=lambda: Memory())

    def computing(self, multiply: Multiply) -> LargeCell:
        return replace(self, multiply=multiply)

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
        parts = (self.memory.chosen, self.multiply)
        problem = Problem(
            self.rows, self.equations, rhs[0], lower[0], upper[0], targets[0], ease, coarse, gram, *parts
        )  # fmt: skip
        rows = (guess[0, :m] != 0) & np.isfinite(rhs[0])
        if problem.unbounded:
            solution = nearest(problem, rows, np.zeros(n, bool), problem.v)
        else:
            at = guess[0, m:]
            bounds = np.where(at > 0, upper[0], np.where(at < 0, lower[0], 0.0))
            at_bound = (at != 0) & np.isfinite(bounds)
            solution = nearest(problem, rows, at_bound, np.where(at_bound, bounds, 0.0))
        if not solution.solved:
            solution = finished(problem, solution)
        if problem.unbounded:
            multipliers = np.concatenate([np.abs(solution.u), np.zeros(n)])
            return solution.x[None], multipliers[None], (multipliers != 0.0).astype(np.int8)[None]
        pull = (problem.v - solution.x) / ease - solution.pull
        clipped = (solution.x == lower[0]) | (solution.x == upper[0])
        pull = np.where(clipped, pull, 0.0)
        multipliers = np.concatenate([np.abs(solution.u), np.abs(pull) * np.sqrt(ease)])
        sides = np.concatenate([solution.u != 0.0, np.where(solution.x == upper[0], pull > 0.0, -1 * (pull < 0.0))])
        return solution.x[None], multipliers[None], sides.astype(np.int8)[None]

    def products(self, x: Floats) -> Floats:
        point, image = self.memory.image
        if not np.array_equal(point, x[0]):
            image = RowProducts(self.rows, self.multiply).times(x[0])
        return image[None].copy()

    def rounded(self, x: Floats, slack: Floats, rhs: Floats, u: float) -> Mask:
        """Which slacks (1, m) are at most u times the size of their terms; the size of rows of norm one is bounded."""
        small: Mask = np.abs(slack[0]) <= u * (length(x[0]) + np.abs(rhs[0]))
        rows = np.flatnonzero(small)
        sizes = np.asarray(abs(self.rows[rows]) @ np.abs(x[0])) + np.abs(rhs[0, rows])
        small[rows] = np.abs(slack[0, rows]) <= u * sizes
        return small[None]

    def onto(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        at = face[0, len(rhs[0]) :]
        point = np.where(at > 0, upper[0], np.where(at < 0, lower[0], x[0]))
        parts, gram = self._parts(face), self._gram
        if gram is None or not parts.plain:
            return parts.onto(point, rhs[0], self.multiply)[None]
        # By the products of rows with each other, one product with all rows serves the face and the slacks.
        image = RowProducts(self.rows, self.multiply).times(point)
        moved, multipliers = parts.moved(point, image[parts.active] - rhs[0, parts.active], self.multiply)
        if np.abs(multipliers).sum() > SMALL * length(point):
            return parts.onto(moved, rhs[0], self.multiply)[None]
        self.memory.image = moved.copy(), image - gram[:, parts.active] @ multipliers
        return moved[None]

    def tangent(self, x: Floats, face: Sides, rhs: Floats, lower: Floats, upper: Floats) -> Floats:
        return self._parts(face).tangent(x[0], self.multiply)[None]

    def _parts(self, face: Sides) -> FaceParts:
        """The factor of a face; that of the last face is kept, which changes no bit of it."""
        key, last = face.tobytes(), self.memory.face
        if last is None or last[0] != key:
            m = self.rows.shape[0]
            active = (face[0, :m] != 0) | (np.arange(m) < self.equations)
            chosen, gram = self.memory.chosen.of(self.rows, np.flatnonzero(active)), self._gram
            last = key, FaceParts(chosen, active, face[0, m:] == 0, None if gram is None else gram[active][:, active])
            self.memory.face = last
        return last[1]

    @property
    def _gram(self) -> Floats | None:
        """The products of all rows with each other, which serve while no entry is at a bound."""
        if sparse.issparse(self.rows) or self.rows.shape[0] > MOST_GRAM:
            return None
        if self.memory.gram is None:
            self.memory.gram = np.asarray(self.rows @ self.rows.T)
        return self.memory.gram


@dataclass(eq=False)
class Memory:
    """What is computed once for some rows, and what was computed last: each is replaced as a whole.

    `image` is a point and its products with all rows.
    """

    face: tuple[bytes, FaceParts] | None = None
    chosen: Chosen = field(default_factory=Chosen)
    gram: Floats | None = None
    image: tuple[Floats, Floats] = field(default_factory=lambda: (np.zeros(0), np.zeros(0)))


@dataclass(frozen=True, eq=False)
class LargeCells:
    """Several large cells of one size, one after the other."""

    cells: tuple[LargeCell, ...]

    def computing(self, multiply: Multiply) -> LargeCells:
        return LargeCells(tuple(cell.computing(multiply) for cell in self.cells))

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

    def __init__(self, chosen: Rows, active: Mask, free: Mask, gram: Floats | None) -> None:
        """`chosen` are the active rows; `gram` their products with each other over all entries, if known."""
        self.active, self._free, all_free = active, free, bool(free.all())
        masked = free.astype(np.float64)
        self._rows = chosen
        if not all_free:
            of_free = chosen.multiply(masked[None]) if sparse.issparse(chosen) else chosen * masked
            self._rows = sparse.csr_array(of_free) if sparse.issparse(chosen) else of_free
        self._full = chosen
        self._basis: Floats | None = None
        self._triangle = np.zeros((0, 0))
        self._order = np.zeros(0, np.int64)
        self._factor = self._factored(chosen, gram if all_free else None) if active.any() else None
        self.plain = all_free and self._basis is None
        """Whether all entries are free and the rows go by the factor of their Gram matrix."""

    def _factored(self, chosen: Rows, gram: Floats | None) -> GramFactor | None:
        if gram is None:
            squares = np.asarray((chosen * chosen).sum(axis=1)).ravel()
            factor = GramFactor(gram_of(self._rows, np.ones(chosen.shape[1])), squares)
        else:
            factor = GramFactor(gram, gram.diagonal())
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
        return gap <= RESOLVED * length(probe)

    def tangent(self, x: Floats, multiply: Multiply) -> Floats:
        """The part of x that moves none of the rows, zero in the entries that are not free."""
        moved = x if self.plain else np.where(self._free, x, 0.0)
        if self._basis is not None:
            basis = RowProducts(self._basis, multiply)
            for _ in range(2):
                moved = moved - basis.combined(basis.times(moved))
        if self._factor is not None:
            rows = RowProducts(self._rows, multiply)
            multipliers = self._factor.solve(rows.times(moved))
            moved, gaps = rows.descend(multipliers, moved)
            if np.abs(multipliers).sum() > SMALL * length(moved):
                moved = moved - rows.combined(self._factor.solve(gaps))
        return moved

    def onto(self, x: Floats, rhs: Floats, multiply: Multiply) -> Floats:
        """The nearest point to x with the same entries where they are not free."""
        limits, full = rhs[self.active], RowProducts(self._full, multiply)
        for _ in range(2):
            if self._basis is not None:
                gap = (full.times(x) - limits)[self._order]
                solved = lapack.solve_triangular(self._triangle, gap, trans=1)
                x = x - RowProducts(self._basis, multiply).combined(solved)
            elif self._factor is not None:
                x = self.moved(x, full.times(x) - limits, multiply)[0]
        return x

    def moved(self, x: Floats, gap: Floats, multiply: Multiply) -> tuple[Floats, Floats]:
        """Close the gaps of the rows by their factor; also returns the multipliers of the rows."""
        if self._factor is None:
            return x, np.zeros(0)
        multipliers = self._factor.solve(gap)
        return x - RowProducts(self._rows, multiply).combined(multipliers), multipliers
