"""A convex set of cells whose entries ascend by at least given gaps, between a lower and an upper bound.

All verbs solve one problem in every cell: the nearest point to `y` in a metric `d` with `x[i+1] ≥ x[i] − drop[i]`, by
pooling adjacent violators (M. Best, N. Chakravarti, Mathematical Programming 47, 1990). Entries of a pool keep their
distances, `x = mean + offset`, with offsets from the first entry of the pool. So no drop outside a pool is added to
anything: drops may be as large as slack / τ. All pools that violate are merged at once until none does; the order of
merging changes rounding only. Pools below the lower bound then move up to it, and those above the upper bound down to
it, which is exact, because the bounds hold everywhere once they hold for the first and for the last entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from affinet.blocks.convex import choose_by_cell, numbers_of_cells
from affinet.blocks.entry_bounds import clipped
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers

FAINT = 1e-12
"""A multiplier below this fraction of the largest of its cell is rounding."""


class PoolFace(NamedTuple):
    """Marks of the neighbours at their gap (cells, width − 1), and of first and last entries at a bound (cells, 1)."""

    links: Array
    first: Array
    last: Array


class Problem(NamedTuple):
    """`argmin ½ Σ d (x − y)²` with `x[i+1] ≥ x[i] − drop[i]`, `x[0] ≥ low` and `x[-1] ≤ high`."""

    y: Array
    d: Array
    drop: Array
    low: Array
    high: Array


class Solution(NamedTuple):
    """The nearest point x, marks of the links inside pools, and of the entries at the lower and at the upper bound."""

    x: Array
    joined: Array
    at_low: Array
    at_high: Array


@dataclass(frozen=True, eq=False)
class PooledCells:
    """`w[i+1] − w[i] ≥ gap[i]` and `lower ≤ w ≤ upper` in the cells of an array (cells, width).

    `gap` broadcasts to (cells, width − 1), `lower` and `upper` to (cells, 1) and may be infinite. Where a bound is
    finite, gaps are not negative: the bounds then follow from those of the first and of the last entry.
    """

    shape: tuple[int, int]
    gap: Floats
    lower: Floats
    upper: Floats

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def only(self, cells: Integers) -> PooledCells:
        gap, lower, upper = (numbers_of_cells(numbers, cells, 2) for numbers in (self.gap, self.lower, self.upper))
        return PooledCells((len(cells), self.shape[1]), gap, lower, upper)

    def count(self) -> int:
        return self.shape[1]

    @property
    def rounds_tangents(self) -> bool:
        return True

    def bounds(self) -> tuple[Floats, Floats]:
        return self.lower, self.upper

    def choose(self, xp: Namespace, condition: Array, first: PoolFace, second: PoolFace) -> PoolFace:
        return choose_by_cell(xp, condition, first, second)

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: PoolFace | None = None
    ) -> tuple[Array, PoolFace]:
        gap, lower, upper = self._numbers(xp, x)
        weights = xp.array(1.0, x) + 0.0 * x if metric is None else metric
        solution = solve(xp, Problem(x, weights, -gap, lower, upper), guess)
        return self._ascending(xp, solution.x, lower, upper), face_of(xp, weights * (x - solution.x), solution)

    def marks(self, xp: Namespace, face: PoolFace) -> tuple[Array, ...]:
        return face

    def clipped(self, xp: Namespace, x: Array) -> Array:
        gap, lower, upper = self._numbers(xp, x)
        inside = clipped(xp, x, lower, upper)
        disordered = (gap == 0.0) & (inside[:, 1:] < inside[:, :-1])
        descends = xp.largest(xp.where(disordered, xp.array(1.0, x), xp.array(0.0, x)), (1,)) > 0.0
        return xp.where(descends, xp.either(descends, lambda: self.nearest(xp, x)[0], lambda: inside), inside)

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        gap, before, after = self._numbers(xp, x)[0], x[:, :-1], x[:, 1:]
        return xp.largest(gap - (after - before) - u * (abs(gap) + abs(before) + abs(after)), (1,)) <= 0.0

    def onto(self, xp: Namespace, x: Array, face: PoolFace) -> Array:
        gap, lower, upper = self._numbers(xp, x)
        pools = _Pools.of(xp, face.links)
        offset = pools.offsets(xp, gap)
        level = pools.means(xp, x - offset, None)
        from_upper = upper - (offset[:, -1:] - offset)
        level = xp.where(face.last & pools.with_last(xp), from_upper, level + offset)
        return xp.where(face.first & pools.with_first(xp), lower + offset, level)

    def tangent_part(self, xp: Namespace, x: Array, face: PoolFace) -> Array:
        pools = _Pools.of(xp, face.links)
        fixed = (face.first & pools.with_first(xp)) | (face.last & pools.with_last(xp))
        return xp.where(fixed, xp.array(0.0, x), pools.means(xp, x, None))

    def land(
        self, xp: Namespace, z: Array, y: Array, tau: Array, face: PoolFace, u: float
    ) -> tuple[Array, Array, PoolFace]:
        _, lower, upper = self._numbers(xp, z)
        drop, below, above = (slack / tau for slack in self._slacks(xp, z, face, u))
        solution = solve(xp, Problem(y, xp.array(1.0, y) + 0.0 * y, drop, below, above), face)
        landed = PoolFace(_linked(solution), solution.at_low[:, :1], solution.at_high[:, -1:])
        w = self._ascending(xp, self.onto(xp, z + tau * solution.x, landed), lower, upper)
        normal = y - solution.x
        return w, normal, face_of(xp, normal, solution)

    def normal(self, xp: Namespace, w: Array, v: Array, face: PoolFace | None, u: float) -> tuple[Array, PoolFace]:
        drop, below, above = self._slacks(xp, w, face, u)
        zero, far = xp.array(0.0, v), xp.array(np.inf, v)
        problem = Problem(
            v,
            xp.array(1.0, v) + 0.0 * v,
            xp.where(drop <= 0.0, zero, far),
            xp.where(below >= 0.0, zero, -far),
            xp.where(above <= 0.0, zero, far),
        )
        solution = solve(xp, problem, face)
        normal = v - solution.x
        return normal, face_of(xp, normal, solution)

    @cached_property
    def _level(self) -> bool:
        """Whether all gaps are zero, so that entries ascend to the bit."""
        return not self.gap.any()

    def _numbers(self, xp: Namespace, x: Array) -> tuple[Array, Array, Array]:
        gap = xp.broadcast(xp.array(self.gap, x), (self.shape[0], self.shape[1] - 1))
        return gap, xp.array(self.lower, x), xp.array(self.upper, x)

    def _slacks(self, xp: Namespace, z: Array, face: PoolFace | None, u: float) -> tuple[Array, Array, Array]:
        """`z[i+1] − z[i] − gap[i]`, `lower − z[0]` and `upper − z[-1]`, zero on a face and where they are rounding."""
        gap, lower, upper = self._numbers(xp, z)
        first, last, before, after = z[:, :1], z[:, -1:], z[:, :-1], z[:, 1:]
        slack, below, above = after - before - gap, lower - first, upper - last
        at = PoolFace(
            abs(slack) <= u * (abs(after) + abs(before) + abs(gap)),
            abs(below) < u * (abs(first) + abs(lower)),
            abs(above) < u * (abs(last) + abs(upper)),
        )
        if face is not None:
            at = PoolFace(*(at_rounding | marked for at_rounding, marked in zip(at, face, strict=True)))
        zero = xp.array(0.0, z)
        return xp.where(at.links, zero, slack), xp.where(at.first, zero, below), xp.where(at.last, zero, above)

    def _ascending(self, xp: Namespace, w: Array, lower: Array, upper: Array) -> Array:
        """`w` between its bounds and, where all gaps are zero, ascending to the bit: rounding may undo either."""
        w = xp.maximum(xp.minimum(w, upper), lower)
        return xp.running_max(w) if self._level else w


class _Pools(NamedTuple):
    """Entries of cells in pools: the pool of each entry, which entries begin one, and which links lie inside one."""

    of_entry: Array
    begins: Array
    joined: Array

    @staticmethod
    def of(xp: Namespace, joined: Array) -> _Pools:
        cells, width = joined.shape[0], joined.shape[1] + 1
        begins = xp.concat([xp.broadcast(xp.array(np.True_, joined), (cells, 1)), ~joined])
        return _Pools(xp.running_sum(xp.reshape(begins, (cells * width,))) - 1, begins, joined)

    def totals(self, xp: Namespace, x: Array) -> Array:
        """At every entry, the sum of x over its pool."""
        cells, width = self.begins.shape
        flat = xp.reshape(x, (cells * width,))
        return xp.reshape(xp.take(xp.segment_sum(flat, self.of_entry, cells * width), self.of_entry), (cells, width))

    def means(self, xp: Namespace, x: Array, weights: Array | None) -> Array:
        """At every entry, the mean of x over its pool, once more as a change: equal numbers are their own mean."""
        weighting = xp.array(1.0, x) + 0.0 * x if weights is None else weights
        scale = self.totals(xp, weighting)
        mean = self.totals(xp, weighting * x) / scale
        return mean + self.totals(xp, weighting * (x - mean)) / scale

    def offsets(self, xp: Namespace, steps: Array) -> Array:
        """At every entry, the sum of the steps (cells, width − 1) from the first entry of its pool."""
        zero = xp.array(0.0, steps)
        inside = xp.running_sum(xp.where(self.joined, steps, zero))
        along_cell = xp.concat([xp.broadcast(zero, (self.begins.shape[0], 1)), inside])
        return along_cell - self.totals(xp, xp.where(self.begins, along_cell, zero))

    def with_first(self, xp: Namespace) -> Array:
        """Marks of the entries in the pool of the first entry of their cell."""
        return xp.running_sum(self.begins) == 1

    def with_last(self, xp: Namespace) -> Array:
        """Marks of the entries in the pool of the last entry of their cell."""
        number = xp.running_sum(self.begins)
        return number == number[:, -1:]


def solve(xp: Namespace, problem: Problem, guess: PoolFace | None) -> Solution:
    """Solve the problem in every cell. `guess` is a face that is probably right; its valid pools are merged at once."""
    y, d, drop, low, high = problem

    def pooled(joined: Array) -> tuple[Array, Array, Array]:
        """Links inside pools, the nearest point with these pools, and the links that it violates."""
        pools = _Pools.of(xp, joined)
        offset = pools.offsets(xp, -drop)
        x = pools.means(xp, y - offset, d) + offset
        return joined, x, ~joined & (x[:, 1:] < x[:, :-1] - drop)

    start = _valid(xp, problem, guess.links) if guess is not None else drop != drop
    joined, x, _ = xp.loop(
        pooled(start), lambda state: state[2], lambda _, state: pooled(state[0] | state[2]), drop.shape[1]
    )
    cells = x.shape[0]
    nothing = xp.broadcast(xp.array(0.0, x), (cells, 1))
    least = low - xp.concat([nothing, xp.running_sum(drop)])
    most = high + xp.flip(xp.concat([nothing, xp.running_sum(xp.flip(drop, (1,)))]), (1,))
    at_low, at_high = x <= least, x >= most
    return Solution(xp.where(at_low, least, xp.where(at_high, most, x)), joined, at_low, at_high)


def _valid(xp: Namespace, problem: Problem, links: Array) -> Array:
    """The links of those pools in which every link pushes: merging violators would form such a pool, too."""
    pools = _Pools.of(xp, links)
    offset = pools.offsets(xp, xp.where(links, -problem.drop, xp.array(0.0, problem.y)))
    gap = problem.y - offset
    push = xp.running_sum(problem.d * (gap - pools.means(xp, gap, problem.d)))
    zero = xp.array(0.0, push)
    before = xp.concat([xp.broadcast(zero, (push.shape[0], 1)), push[:, :-1]])
    push = push - pools.totals(xp, xp.where(pools.begins, before, zero))
    end = xp.broadcast(xp.array(np.False_, links), (push.shape[0], 1))
    pulls = xp.concat([links & ~(push[:, :-1] > 0.0), end])
    return links & (pools.totals(xp, xp.where(pulls, xp.array(1.0, push), zero)) == 0.0)[:, :-1]


def _linked(solution: Solution) -> Array:
    """Marks of the neighbours at their gap: inside a pool, or moved to the same bound."""
    low, high = solution.at_low, solution.at_high
    return solution.joined | (low[:, 1:] & low[:, :-1]) | (high[:, 1:] & high[:, :-1])


def face_of(xp: Namespace, force: Array, solution: Solution) -> PoolFace:
    """The inequalities with a multiplier that is more than rounding; `force` is `d (y − x)`.

    A force is the multiplier of the link to the next entry less that of the link before it. The forces of a pool that
    is at no bound add up to zero; at the lower bound, the bound takes what they add up to.
    """
    zero = xp.array(0.0, force)
    first = xp.maximum(-xp.sum(xp.where(solution.at_low, force, zero), (1,)), zero)
    last = xp.maximum(xp.sum(xp.where(solution.at_high, force, zero), (1,)), zero)
    pushes = xp.where(_linked(solution), first + xp.running_sum(force)[:, :-1], zero)
    largest = xp.largest(xp.concat([pushes, first, last]), (1,))
    faint = max(FAINT, 4.0 * force.shape[1] ** 0.5 * xp.spacing(force)) * largest
    return PoolFace(pushes > faint, first > faint, last > faint)
