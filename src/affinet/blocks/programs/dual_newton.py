"""The nearest point of one large polyhedron, by Newton's method on the multipliers of its rows.

    minimise ½ Σ (x_i − v_i)² / ease_i  subject to  rows x = rhs, rows x ≤ rhs, lower ≤ x ≤ upper

For multipliers u of the rows, `x(u) = clip(v − ease · rowsᵀ u, lower, upper)` has the right multipliers of the bounds,
however many they are. The dual function of u is concave and piecewise quadratic, and its gradient `rows x(u) − rhs` is
the violation. Each step goes towards the best multipliers of the present piece, as far as the dual function rises; once
the last piece is found, the step is exact. Rows that no point within reach violates are added when one does.

Source: X. Li, D. Sun, K.-C. Toh, SIAM Journal on Optimization 30 (2020), for such steps on projections onto polyhedra.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import sparse

from affinet.blocks.entry_sets import Mask
from affinet.blocks.namespace import NumPy
from affinet.blocks.programs.gram_factor import EPSILON, GramFactor, gram_of
from affinet.blocks.programs.row_products import Multiply, RowProducts, Rows, length
from affinet.blocks.programs.small_cells import SmallCells
from affinet.language.calculus.terms import Floats, Integers

VIOLATED = 16.0 * EPSILON
"""A row holds if its gap is at most this share of |x| + |v| + |rhs|."""
POLISHED = 0.25
"""Share of that noise below which a gap is not worth another step."""
MOST_SEARCHED = 512
"""Most active rows whose signs are found exactly in every step: 4 MB of factors."""
MOST_STEPS = 50
SMALL = 0.125
"""Multipliers whose sum is at most this share of the norm of the target do not multiply the rounding of the products
of rows with each other to more than that of the target."""
FEW = 0.25
"""Share of the rows up to which these are copied for a product, instead of a product with all."""
ENOUGH = 0.3
"""A point of the way is good enough where the slope of the dual function has fallen to this share."""


class Chosen:
    """Copies some of the rows, and keeps the last copy: the face of a training rarely changes."""

    def __init__(self) -> None:
        self._last: tuple[bytes, Rows] | None = None

    def of(self, rows: Rows, chosen: Integers) -> Rows:
        """`rows[chosen]`, which may be `rows` itself; not to be written to."""
        if len(chosen) == rows.shape[0]:
            return rows
        key, last = chosen.tobytes(), self._last
        if last is None or last[0] != key:
            last = (key, rows[chosen])
            self._last = last
        return last[1]


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows of norm one, the first `equations` of which are equations; right-hand sides may be infinite.

    `blur` is the rounding error of the right-hand sides, `gram` the products of all rows with each other, if known:
    every entry then has an ease of one. `chosen` keeps the rows that were chosen last, for the next problem.
    """

    rows: Rows
    equations: int
    rhs: Floats
    lower: Floats
    upper: Floats
    v: Floats
    ease: Floats
    blur: Floats
    gram: Floats | None = None
    chosen: Chosen = field(default_factory=lambda: Chosen())
    multiply: Multiply = field(default_factory=NumPy)

    @cached_property
    def size(self) -> float:
        """The norm of the target."""
        return length(self.v)

    @cached_property
    def unbounded(self) -> bool:
        """Whether no entry has a bound and the products of all rows are known: the search then needs these alone."""
        return self.gram is not None and not np.isfinite(self.lower).any() and not np.isfinite(self.upper).any()

    @cached_property
    def image(self) -> Floats:
        """`rows v`."""
        return self.products.times(self.v)

    @property
    def products(self) -> RowProducts:
        """The products of the rows with vectors."""
        return RowProducts(self.rows, self.multiply)

    def part(self, chosen: Integers) -> Problem:
        """The problem with these rows alone, all equations among them."""
        gram = None if self.gram is None else self.gram[np.ix_(chosen, chosen)]
        bounds, limits = (self.lower, self.upper), (self.rhs[chosen], self.blur[chosen])
        rows = self.chosen.of(self.rows, chosen)
        return Problem(
            rows, self.equations, limits[0], *bounds, self.v, self.ease, limits[1], gram, multiply=self.multiply
        )  # fmt: skip

    def point(self, pull: Floats) -> Floats:
        """`x(u)` for `pull = rowsᵀ u`."""
        if self.unbounded:
            return self.v - pull
        return np.clip(self.v - self.ease * pull, self.lower, self.upper)

    def noise(self, x: Floats) -> Floats:
        """Gaps of rows up to this are rounding."""
        return self.noise_of(length(x))

    def noise_of(self, size: float) -> Floats:
        """As `noise`, for a point of this norm."""
        return VIOLATED * (size + self.size + np.abs(self.rhs)) + self.blur

    def curved(self, step: Floats, ease: Floats) -> Floats:
        """`rows diag(ease) rowsᵀ step`: by how much gaps fall along a step of the multipliers."""
        if self.unbounded and self.gram is not None:
            return np.asarray(self.gram @ step)
        return self.products.times(ease * self.products.combined(step))

    def factor(self, active: Mask, free: Mask) -> GramFactor:
        """The factor of the active rows over the free entries."""
        if self.gram is not None and free.all():
            gram = self.gram[np.ix_(active, active)]
        else:
            gram = gram_of(self.rows[active], np.where(free, self.ease, 0.0))
        return GramFactor(gram, self.squares[active])

    @cached_property
    def squares(self) -> Floats:
        """`Σ ease rows²` of each row."""
        if self.gram is not None:
            return np.asarray(self.gram.diagonal())
        if sparse.issparse(self.rows):
            return np.asarray((self.rows * self.rows) @ self.ease)
        return np.asarray(np.einsum("mn,mn,n->m", self.rows, self.rows, self.ease))


@dataclass(frozen=True, eq=False)
class Solution:
    """The nearest point, the multipliers u of the rows, `pull = rowsᵀ u`, and whether all rows hold to rounding."""

    x: Floats
    u: Floats
    pull: Floats
    solved: bool


def nearest(problem: Problem, rows: Mask, at_bound: Mask, bounds: Floats) -> Solution:
    """The nearest point; the guess is that these rows are active, and these entries at these bounds."""
    m = len(problem.rhs)
    u = np.zeros(m)
    chosen = np.flatnonzero(rows | (np.arange(m) < problem.equations))
    part = problem.part(chosen)
    x = np.where(at_bound, bounds, problem.v)
    u[chosen] = _first_multipliers(part, x, ~at_bound)
    pull = np.zeros(len(x))
    for _ in range(m + 1):
        part_u, pull, solved = _maximised(part, u[chosen])
        u[:] = 0.0
        u[chosen] = part_u
        x = problem.point(pull)
        violated = _violated(problem, x, chosen)
        if not len(violated):
            return Solution(x, u, pull, solved)
        chosen = np.union1d(chosen, violated)
        part = problem.part(chosen)
    return Solution(x, u, pull, False)


def _violated(problem: Problem, x: Floats, chosen: Integers) -> Integers:
    """Rows outside `chosen` that x violates; where they are more than the entries, the most violated ones.

    No point needs more rows than it has entries. A row of norm one cannot exceed the norm of x.
    """
    within_reach = problem.rhs <= length(x)
    within_reach[chosen] = False
    rows = np.flatnonzero(within_reach)
    if len(rows) > FEW * len(problem.rhs):
        products = problem.products.times(x)[rows]
    else:
        products = RowProducts(problem.rows[rows], problem.multiply).times(x)
    gaps = products - problem.rhs[rows]
    violated = np.flatnonzero(gaps > problem.noise(x)[rows])
    if len(violated) > len(x):
        violated = np.sort(violated[np.argpartition(-gaps[violated], len(x))[: len(x)]])
    numbers: Integers = rows[violated]
    return numbers


def _first_multipliers(part: Problem, x: Floats, free: Mask) -> Floats:
    """Those of a guess: all rows active, these entries free. Negative ones become zero."""
    if not len(part.rhs):
        return np.zeros(0)
    image = part.image if part.unbounded else part.products.times(x)
    u = part.factor(np.ones(len(part.rhs), bool), free).solve(image - part.rhs)
    u[part.equations :] = np.maximum(u[part.equations :], 0.0)
    return u


def _maximised(part: Problem, u: Floats) -> tuple[Floats, Floats, bool]:
    """The multipliers with the largest dual function, `rowsᵀ u`, and whether their point holds to rounding."""
    if part.unbounded:
        u, solved = _climbed(part, u, _InRows(part))
        if solved and np.abs(u).sum() <= SMALL * part.size:
            return u, part.products.combined(u), True
    space = _InEntries(part)
    u, solved = _climbed(part, u, space)
    return u, space.pull, solved


def _climbed(part: Problem, u: Floats, space: _InRows | _InEntries) -> tuple[Floats, bool]:
    """The multipliers with the largest dual function, and whether their point holds to rounding."""
    inequality = np.arange(len(u)) >= part.equations
    factors, polished = LastFactor(part), np.inf
    for _ in range(MOST_STEPS):
        gap, noise, free = space.moved(u)
        active = ~inequality | (u > 0.0) | (gap > noise)
        holds = bool((np.abs(gap[active]) <= noise[active]).all())
        size = float((np.abs(gap) / noise)[active].max(initial=0.0))
        if holds and (size <= POLISHED or size >= 0.5 * polished):
            return u, True
        polished = size if holds else np.inf
        step = _step(factors.of(active, free), part, u, gap, active, free)
        slope = float(gap @ step)
        if not slope > 0.0:
            return u, holds
        length_of_step = space.length(step, slope)
        if not length_of_step > 0.0:
            return u, holds
        u = u + length_of_step * step
        u[inequality] = np.maximum(u[inequality], 0.0)
    space.moved(u)
    return u, False


class _InRows:
    """The points of multipliers where no entry has a bound, known by their products with the rows alone."""

    def __init__(self, part: Problem) -> None:
        assert part.gram is not None
        self._part, self._gram = part, part.gram

    def moved(self, u: Floats) -> tuple[Floats, Floats, Mask]:
        """The gaps of the rows at the point of u, their rounding, and which entries are free there."""
        part, pulled = self._part, self._gram @ u
        square = part.size**2 - 2.0 * float(u @ part.image) + float(u @ pulled)
        free: Mask = np.ones(len(part.v), bool)
        return part.image - pulled - part.rhs, part.noise_of(max(square, 0.0) ** 0.5), free

    def length(self, step: Floats, slope: float) -> float:
        """How far the dual function rises along a step, at most all the way."""
        curvature = float(step @ (self._gram @ step))
        return 1.0 if curvature <= slope else slope / curvature


class _InEntries:
    """The points of multipliers, entry by entry."""

    def __init__(self, part: Problem) -> None:
        self._part, self.pull = part, np.zeros(len(part.v))

    def moved(self, u: Floats) -> tuple[Floats, Floats, Mask]:
        """As `_InRows.moved`."""
        part = self._part
        if part.unbounded:
            x, products = part.products.descend(u, part.v)
            self.pull = part.v - x
            return products - part.rhs, part.noise(x), np.ones(len(x), bool)
        self.pull = part.products.combined(u)
        x = part.point(self.pull)
        free: Mask = (x > part.lower) & (x < part.upper)
        return part.products.times(x) - part.rhs, part.noise(x), free

    def length(self, step: Floats, slope: float) -> float:
        """How far to go along a step."""
        part = self._part
        return _length(part, self.pull, part.products.combined(step), float(part.rhs @ step), slope)


class LastFactor:
    """The factor of the active rows over the free entries, kept for the next step where these are the same."""

    def __init__(self, part: Problem) -> None:
        self._part = part
        self._key = b""
        self._factor: GramFactor | None = None

    def of(self, active: Mask, free: Mask) -> GramFactor:
        key = active.tobytes() + free.tobytes()
        if self._factor is None or key != self._key:
            self._key, self._factor = key, self._part.factor(active, free)
        return self._factor


def _step(factor: GramFactor, part: Problem, u: Floats, gap: Floats, active: Mask, free: Mask) -> Floats:
    """To the best multipliers of the present piece: those of inequalities are nonnegative there too."""
    step, inequality = np.zeros(len(u)), np.arange(len(u)) >= part.equations
    step[active] = factor.solve(gap[active])
    if (active & inequality & (u + step < 0.0)).any():
        signed = _signed if factor.lower is not None and len(factor.lower) <= MOST_SEARCHED else _dropping
        step = signed(factor, part, u, gap, active, free)
    if float(gap @ step) > 0.0:
        return step
    # Uphill in any case: each multiplier by its own violation.
    uphill = np.where(active, gap / np.maximum(part.squares, 1e-300), 0.0)
    return np.where(inequality, np.maximum(uphill, -u), uphill)


def _dropping(factor: GramFactor, part: Problem, u: Floats, gap: Floats, active: Mask, free: Mask) -> Floats:
    """For many rows: multipliers that would become negative go to zero, until none does."""
    step, ease = np.zeros(len(u)), np.where(free, part.ease, 0.0)
    inequality: Mask = np.arange(len(u)) >= part.equations
    ended: Mask = np.zeros(len(u), bool)
    while True:
        rows = active & ~ended
        wanted = gap - part.curved(np.where(ended, step, 0.0), ease)
        step[rows] = (part.factor(rows, free) if ended.any() else factor).solve(wanted[rows])
        negative = rows & inequality & (u + step < 0.0)
        if not negative.any():
            return step
        step[negative] = -u[negative]
        ended[negative] = True


def _signed(factor: GramFactor, part: Problem, u: Floats, gap: Floats, active: Mask, free: Mask) -> Floats:
    """Exactly: the piece is the dual of a smaller problem, the nearest point to zero in the space of the factor."""
    step, chosen = np.zeros(len(u)), np.flatnonzero(active)
    assert factor.lower is not None
    norms = np.linalg.norm(factor.lower, axis=1)
    target = -(gap[chosen] + factor.gram @ u[chosen]) * factor.scale / norms
    far, guess = np.full((1, len(chosen)), np.inf), np.zeros((1, 2 * len(chosen)), np.int8)
    guess[0, : len(chosen)] = u[chosen] > 0.0
    small = SmallCells((factor.lower / norms[:, None])[None], int((chosen < part.equations).sum()))
    multipliers, sides = small.solve(target[None], -far, far, np.zeros((1, len(chosen))), guess)[1:]
    step[chosen] = (multipliers * sides)[0, : len(chosen)] * factor.scale / norms - u[chosen]
    return step


def _length(part: Problem, pull: Floats, pushed: Floats, level: float, slope: float) -> float:
    """How far to go along a step: all the way, or to where the slope of the dual function has nearly vanished."""

    def slope_at(length: float) -> float:
        return float(pushed @ part.point(pull + length * pushed)) - level

    low, high, at_low, at_high = 0.0, 1.0, slope, slope_at(1.0)
    if at_high >= -1e-9 * slope:
        return 1.0
    for turn in range(100):
        # The secant is exact on the last piece; halving ends the search where it creeps.
        length = low + (high - low) * (at_low / (at_low - at_high) if turn % 3 < 2 else 0.5)
        slope_here = slope_at(length)
        if 0.0 <= slope_here <= ENOUGH * slope:
            return length
        if slope_here > 0.0:
            low, at_low = length, slope_here
        else:
            high, at_high = length, slope_here
    return low
