"""A convex set of cells whose entries lie between bounds and satisfy one equation or one inequality together.

All verbs solve one problem in every cell: the nearest point to `v` in a metric `d`, between bounds, with `a·x = β` or
`a·x ≤ β`. For the right multiplier t of this row it is `x = clip(v − t a / d)`, and `a·x` falls as t grows. Newton's
method finds t, inside a bracket that shrinks (R. Cominetti, W. Mascarenhas, P. Silva, Mathematical Programming
Computation 6, 2014). It starts at the multiplier of a face that is probably right, and ends where the residual of the
row is rounding of its terms; that the set of clipped entries repeats would not be enough. The entries that are not
clipped are then moved onto the row once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from affinet.blocks.convex import choose_by_cell, numbers_of_cells
from affinet.blocks.entry_bounds import at_bounds, clipped, slacks
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers

MOST = 200
"""Steps of Newton's method: each fourth halves the bracket, so that 60 find a float64 in all but absurd data."""
POLISHES = 2
"""Times that the free entries move onto the row: the first removes what rounding of large `v` left, the second what
rounding of the first left."""
FAINT = 1e-12
"""A multiplier below this fraction of the largest of its cell is rounding."""


class CutFace(NamedTuple):
    """Marks of the entries at their lower and their upper bound, and of the cells whose inequality is active."""

    lower: Array
    upper: Array
    row: Array


class Problem(NamedTuple):
    """`argmin ½ Σ d (x − v)²` with `lower ≤ x ≤ upper` and `a·x = β`, or `≤` where t has a floor of zero.

    `slope` is `a / d`.
    """

    v: Array
    a: Array
    slope: Array
    lower: Array
    upper: Array
    rhs: Array
    equation: bool


class Solution(NamedTuple):
    """The nearest point x, the multiplier t of the row, and marks of entries at their lower and upper bound."""

    x: Array
    t: Array
    lower: Array
    upper: Array


@dataclass(frozen=True, eq=False)
class CutBoxes:
    """`row · w = rhs`, or `row · w ≤ rhs`, and `lower ≤ w ≤ upper`, in cells of an array (cells, width).

    `row`, `lower` and `upper` broadcast to the array, `rhs` to (cells, 1); bounds may be infinite.
    """

    shape: tuple[int, int]
    row: Floats
    rhs: Floats
    equation: bool
    lower: Floats
    upper: Floats

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def only(self, cells: Integers) -> CutBoxes:
        row, rhs, lower, upper = (
            numbers_of_cells(numbers, cells, 2) for numbers in (self.row, self.rhs, self.lower, self.upper)
        )
        shape = (len(cells), self.shape[1])
        return replace(self, shape=shape, row=row, rhs=rhs, lower=lower, upper=upper)

    def count(self) -> int:
        return self.shape[1]

    @property
    def rounds_tangents(self) -> bool:
        return True

    def bounds(self) -> tuple[Floats, Floats]:
        return self.lower, self.upper

    def choose(self, xp: Namespace, condition: Array, first: CutFace, second: CutFace) -> CutFace:
        return choose_by_cell(xp, condition, first, second)

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: CutFace | None = None
    ) -> tuple[Array, CutFace]:
        a, rhs, lower, upper = self._numbers(xp, x)
        slope = a if metric is None else a / metric
        solution = solve(xp, Problem(x, a, slope, lower, upper, rhs, self.equation), guess)
        force = x - solution.x
        return solution.x, self._face(xp, force if metric is None else metric * force, a, solution)

    def marks(self, xp: Namespace, face: CutFace) -> tuple[Array, ...]:
        return face

    def clipped(self, xp: Namespace, x: Array) -> Array:
        return clipped(xp, x, xp.array(self.lower, x), xp.array(self.upper, x))

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        terms, rhs = xp.array(self.row, x) * x, xp.array(self.rhs, x)
        excess = xp.sum(terms, (1,)) - rhs
        return (abs(excess) if self.equation else excess) <= u * (xp.sum(abs(terms), (1,)) + abs(rhs))

    def onto(self, xp: Namespace, x: Array, face: CutFace) -> Array:
        a, rhs, lower, upper = self._numbers(xp, x)
        z = xp.where(face.lower, lower, xp.where(face.upper, upper, x))
        free = ~(face.lower | face.upper)
        for _ in range(POLISHES):
            z = z - self._share(xp, a, xp.sum(a * z, (1,)) - rhs, free, face)
        return z

    def tangent_part(self, xp: Namespace, x: Array, face: CutFace) -> Array:
        a, free = xp.array(self.row, x), ~(face.lower | face.upper)
        inside = xp.where(free, x, xp.array(0.0, x))
        return inside - self._share(xp, a, xp.sum(a * inside, (1,)), free, face)

    def land(
        self, xp: Namespace, z: Array, y: Array, tau: Array, face: CutFace, u: float
    ) -> tuple[Array, Array, CutFace]:
        a, rhs, lower, upper = self._numbers(xp, z)
        below, above = slacks(xp, z, lower, upper, face, u)
        room = xp.array(0.0, tau) if self.equation else self._room(xp, z, face, u) / tau
        problem = Problem(y, a, a, below / tau, above / tau, room, self.equation)
        x, t, at_lower, at_upper = solution = solve(xp, problem, face)
        w = clipped(xp, z + tau * x, lower, upper)
        w = xp.where(at_lower, lower, xp.where(at_upper, upper, w))
        active = CutFace(at_lower, at_upper, t != 0.0)
        gap = xp.sum(a * w, (1,)) - rhs
        w = clipped(xp, w - self._share(xp, a, gap, ~(at_lower | at_upper), active), lower, upper)
        normal = self._normal(xp, y - x, a, solution)
        return w, normal, self._face(xp, normal, a, solution)

    def normal(self, xp: Namespace, w: Array, v: Array, face: CutFace | None, u: float) -> tuple[Array, CutFace]:
        a, _, lower, upper = self._numbers(xp, w)
        at_lower, at_upper = at_bounds(xp, w, lower, upper, face, u)
        zero, far = xp.array(0.0, v), xp.array(np.inf, v)
        room = xp.sum(zero * w, (1,))
        if not self.equation:
            room = xp.where(self._room(xp, w, face, u) <= 0.0, room, far)
        problem = Problem(v, a, a, xp.where(at_lower, zero, -far), xp.where(at_upper, zero, far), room, self.equation)
        solution = solve(xp, problem, face)
        normal = self._normal(xp, v - solution.x, a, solution)
        return normal, self._face(xp, normal, a, solution)

    def _numbers(self, xp: Namespace, x: Array) -> tuple[Array, Array, Array, Array]:
        return xp.array(self.row, x), xp.array(self.rhs, x), xp.array(self.lower, x), xp.array(self.upper, x)

    def _room(self, xp: Namespace, z: Array, face: CutFace | None, u: float) -> Array:
        """`rhs − row · z`, exactly zero on a face that has the row and where it is rounding."""
        terms, rhs = xp.array(self.row, z) * z, xp.array(self.rhs, z)
        room = rhs - xp.sum(terms, (1,))
        at_rounding = abs(room) <= u * (xp.sum(abs(terms), (1,)) + abs(rhs))
        return xp.where(at_rounding if face is None else at_rounding | face.row, xp.array(0.0, z), room)

    def _share(self, xp: Namespace, a: Array, gap: Array, free: Array, face: CutFace) -> Array:
        """`a gap / a·a` over the free entries: what removes a gap of an active row. Zero without free entries."""
        zero = xp.array(0.0, gap)
        weights = xp.where(free, a, zero)
        squares = xp.sum(weights * weights, (1,))
        usable = squares > 0.0 if self.equation else (squares > 0.0) & face.row
        return weights * xp.where(usable, gap / xp.where(usable, squares, xp.array(1.0, gap)), zero)

    def _normal(self, xp: Namespace, force: Array, a: Array, solution: Solution) -> Array:
        """`v − x`, from the multiplier where an entry is free, so that nothing cancels."""
        return xp.where(solution.lower | solution.upper, force, solution.t * a)

    def _face(self, xp: Namespace, force: Array, a: Array, solution: Solution) -> CutFace:
        """The inequalities with a multiplier that is more than rounding; `force` is `d (v − x)`."""
        of_row, zero = solution.t * a, xp.array(0.0, force)
        pull = force - of_row
        below = xp.where(solution.lower, -pull, zero)
        above = xp.where(solution.upper, pull, zero)
        row = xp.largest(abs(of_row) + 0.0 * force, (1,))
        largest = xp.largest(xp.maximum(xp.maximum(below, above), row), (1,))
        faint = max(FAINT, 8.0 * xp.spacing(force)) * largest
        return CutFace(below > faint, above > faint, (row > faint) & (solution.t > 0.0))


def solve(xp: Namespace, problem: Problem, guess: CutFace | None) -> Solution:
    """Solve the problem in every cell. `guess` is a face that is probably right, where the search starts."""
    t = _multiplier(xp, problem, _start(xp, problem, guess))
    x = clipped(xp, problem.v - t * problem.slope, problem.lower, problem.upper)
    at_lower, at_upper = x <= problem.lower, x >= problem.upper
    weights = xp.where(at_lower | at_upper, xp.array(0.0, x), problem.slope)
    squares = xp.sum(weights * problem.a, (1,))
    usable = squares > 0.0 if problem.equation else (squares > 0.0) & (t > 0.0)
    for _ in range(POLISHES):
        gap = xp.sum(problem.a * x, (1,)) - problem.rhs
        step = xp.where(usable, gap / xp.where(usable, squares, xp.array(1.0, t)), xp.array(0.0, t))
        t, x = t + step, clipped(xp, x - step * weights, problem.lower, problem.upper)
    if not problem.equation:
        t = xp.maximum(t, xp.array(0.0, t))
    vertex = ~(squares > 0.0) if problem.equation else ~(squares > 0.0) & (t > 0.0)
    known = t
    middle = xp.either(vertex, lambda: _middle(xp, problem, known, at_lower, at_upper), lambda: known)
    return Solution(x, xp.where(vertex, middle, t), at_lower, at_upper)


def _start(xp: Namespace, problem: Problem, guess: CutFace | None) -> Array:
    """The multiplier with which the row holds on a face; without a guess, as if no entry were clipped."""
    v, a, slope, lower, upper, rhs, equation = problem
    zero, unit = xp.array(0.0, v), xp.array(1.0, v)
    if guess is None:
        terms, squares = xp.sum(a * v, (1,)), xp.sum(a * slope + zero * v, (1,))
    else:
        x = xp.where(guess.lower, lower, xp.where(guess.upper, upper, v))
        terms = xp.sum(a * x, (1,))
        squares = xp.sum(xp.where(guess.lower | guess.upper, zero, a * slope), (1,))
    usable = squares > 0.0
    t = xp.where(usable, (terms - rhs) / xp.where(usable, squares, unit), zero)
    t = xp.where(abs(t) < np.inf, t, zero)
    return t if equation else xp.maximum(t, zero)


def _multiplier(xp: Namespace, problem: Problem, t: Array) -> Array:
    """The root of `a · clip(v − t slope) − β`, which falls as t grows; at least 0 for an inequality."""
    zero = xp.array(0.0, t)
    width = problem.v.shape[1]
    rounding = xp.spacing(t) * (4.0 + width**0.5)
    everywhere = t == t
    search = _Search(t, xp.array(-np.inf, t) + zero * t, xp.array(np.inf, t) + zero * t, everywhere | ~everywhere)
    return xp.loop(
        search,
        lambda state: state.searched,
        lambda number, state: _narrowed(xp, problem, rounding, number, state),
        MOST,
    ).t


class _Search(NamedTuple):
    """The multiplier of each cell, the bracket of its root, and marks of the cells that are still searched."""

    t: Array
    left: Array
    right: Array
    searched: Array


def _narrowed(xp: Namespace, problem: Problem, rounding: float, number: int, search: _Search) -> _Search:
    """A step of Newton's method where it stays inside the bracket, or its middle."""
    v, a, slope, lower, upper, rhs, equation = problem
    t, left, right, _ = search
    zero, unit = xp.array(0.0, t), xp.array(1.0, t)
    shift = t * slope
    x = clipped(xp, v - shift, lower, upper)
    free = (x > lower) & (x < upper)
    gap = xp.sum(a * x, (1,)) - rhs
    terms = xp.sum(abs(a) * (abs(x) + xp.where(free, abs(v) + abs(shift), zero)), (1,)) + abs(rhs)
    ends = abs(gap) <= rounding * terms
    if not equation:
        ends = ends | ((t <= 0.0) & (gap <= 0.0))
    searched = ~ends & (gap == gap)
    left, right = xp.where(gap > 0.0, t, left), xp.where(gap < 0.0, t, right)
    squares = xp.sum(xp.where(free, a * slope, zero), (1,))
    steep = squares > 0.0
    newton = t + gap / xp.where(steep, squares, unit)
    onward = xp.either(searched & ~steep, lambda: _off_plateau(xp, problem, t, gap, x), lambda: t)
    newton = xp.where(steep, newton, onward)
    if not equation:
        newton = xp.where(left < 0.0, xp.maximum(newton, zero), newton)
    bracketed = (left > -np.inf) & (right < np.inf)
    middle = xp.where(bracketed, 0.5 * left + 0.5 * right, t)
    inside = (newton > left) & (newton < right) & (~bracketed | (number % 4 != 3))
    proposed = xp.where(inside, newton, middle)
    searched = searched & (proposed != t)
    return _Search(xp.where(searched, proposed, t), left, right, searched)


def _breakpoints(xp: Namespace, problem: Problem, at_lower: Array, at_upper: Array) -> tuple[Array, Array, Array]:
    """The t at which a clipped entry comes off its bound, and marks of those that do so as t grows, and as it falls."""
    v, slope, lower, upper = problem.v, problem.slope, problem.lower, problem.upper
    moving = (slope != 0.0) & (at_lower | at_upper)
    safe = xp.where(moving, slope + 0.0 * v, xp.array(1.0, v))
    bound = xp.where(moving, xp.where(at_lower, lower, upper), xp.array(0.0, v))
    grows = moving & ((at_upper & (slope > 0.0)) | (at_lower & ~at_upper & (slope < 0.0)))
    return (v - bound) / safe, grows, moving & ~grows


def _off_plateau(xp: Namespace, problem: Problem, t: Array, gap: Array, x: Array) -> Array:
    """Where every entry is clipped: the t at which the first one that comes off its bound has closed the gap."""
    v, a, slope = problem.v, problem.a, problem.slope
    zero, far = xp.array(0.0, v), xp.array(np.inf, v)
    points, grows, falls = _breakpoints(xp, problem, x <= problem.lower, x >= problem.upper)
    weight = a * slope + zero * v
    reached = points + gap / xp.where(weight > 0.0, weight, xp.array(1.0, v))
    up = -xp.largest(xp.where(grows, -reached, -far), (1,))
    down = xp.largest(xp.where(falls, reached, -far), (1,))
    onward = xp.where(gap > 0.0, up, down)
    return xp.where(abs(onward) < np.inf, onward, t)


def _middle(xp: Namespace, problem: Problem, t: Array, at_lower: Array, at_upper: Array) -> Array:
    """At a vertex, the middle of the multipliers of the row that leave all others positive."""
    zero, far = xp.array(0.0, problem.v), xp.array(np.inf, problem.v)
    points, grows, falls = _breakpoints(xp, problem, at_lower, at_upper)
    right = -xp.largest(xp.where(grows, -points, -far), (1,))
    left = xp.largest(xp.where(falls, points, -far), (1,))
    if not problem.equation:
        left = xp.maximum(left, zero)
    both = (left > -np.inf) & (right < np.inf)
    return xp.where(both, 0.5 * left + 0.5 * right, xp.where(left > -np.inf, left, xp.where(right < np.inf, right, t)))
