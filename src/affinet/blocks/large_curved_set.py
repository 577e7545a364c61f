"""The set of nonlinear equations `c(w) = 0` of one large component, by sparse derivatives or products with them.

The verbs are those of `blocks/curved_set.py`, whose cells hold their derivatives as dense matrices. They run on the
host, in NumPy and float64, and round once to the dtype of what they were given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from affinet.blocks.curved_cells import Outcome, choose_each
from affinet.blocks.curved_set import (
    DECREASE,
    FARTHEST,
    HALVINGS,
    NEAR_SET,
    RETURNS,
    SHORTENINGS,
    SLOW,
    SLOW_RATIOS,
    TOLERANCE,
    random_moves,
)
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.programs.equation_program import EquationProgram
from affinet.blocks.programs.linear_part import LinearPart, linear_part
from affinet.blocks.programs.row_products import length
from affinet.blocks.programs.tangent_solver import CLOSE, EPSILON, GramFactor, NoFactor, factored, projected, step_back
from affinet.blocks.programs.written_derivatives import WrittenDerivatives
from affinet.language.calculus.terms import Floats, Integers

UNIT = 0.5 * EPSILON
"""The unit roundoff in which the verbs compute."""


class LargePlane(NamedTuple):
    """The tangent plane at a point (1, width), from which it follows."""

    point: Array


class Way(NamedTuple):
    """Where a return ended, with the linear part there.

    `slow` where the violation fell as it does for equations that lose rank.
    """

    point: Floats
    part: LinearPart
    arrives: bool
    slow: bool


@dataclass(frozen=True, eq=False)
class LargeCurvedSet:
    """The entries that satisfy the equations of a program.

    `written` where derivatives are written out as a sparse matrix, `factors` where its Gram matrix is factored.
    """

    program: EquationProgram
    written: WrittenDerivatives | None
    factors: bool
    memory: Memory = field(default_factory=lambda: Memory())

    @property
    def shape(self) -> tuple[int, ...]:
        return 1, self.program.width

    @property
    def equations(self) -> int:
        return self.program.equations

    @property
    def always_found(self) -> bool:
        return False

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def only(self, cells: Integers) -> None:
        """None: it is one cell."""

    def count(self) -> int:
        return self.program.width

    def terms(self) -> int:
        return self.program.width

    def choose(self, xp: Namespace, condition: Array, first: LargePlane, second: LargePlane) -> LargePlane:
        chosen: LargePlane = choose_each(xp, condition, first, second)
        return chosen

    def face(self, xp: Namespace, w: Array) -> LargePlane:
        return LargePlane(w)

    def tangent_part(self, xp: Namespace, x: Array, plane: LargePlane) -> Array:
        part, factor = self._linear_at(xp.host(plane.point)[0])
        with np.errstate(all="ignore"):
            return xp.array(projected(part, xp.host(x)[0], factor)[None], x)

    def followed(self, xp: Namespace, x: Array, plane: LargePlane) -> tuple[Array, LargePlane, Outcome | None]:
        start = xp.host(plane.point)[0]
        part, factor = self._linear_at(start)
        with np.errstate(all="ignore"):
            move = projected(part, xp.host(x)[0] - start, factor, CLOSE)
            reach = FARTHEST * length(move) + 64.0 * EPSILON * length(start)
            shortenings, way = 0, None
            while length(move) > 0.0 and shortenings <= SHORTENINGS:
                trial = self.returned(start + move, RETURNS, factor)
                if trial.arrives and length(trial.point - start) <= reach:
                    way = trial
                    break
                move, reach, shortenings = 0.25 * move, 0.25 * reach, shortenings + 1
        like = self.norm(xp, x)
        if way is None:
            refused = xp.array(float(length(move) > 0.0), like)
            flags = xp.array(float(min(shortenings, SHORTENINGS)), like), refused, xp.array(0.0, like)
            return plane.point, plane, _outcome(xp, like, *flags) if shortenings else None
        self.memory.part = way.point, way.part
        landed = xp.array(way.point[None], x)
        outcome = None
        if shortenings or way.slow:
            flags = xp.array(float(shortenings), like), xp.array(0.0, like), xp.array(float(way.slow), like)
            outcome = _outcome(xp, like, *flags)
        return landed, LargePlane(landed), outcome

    def nearest(self, xp: Namespace, x: Array) -> Array:
        """A point of the set near x, x itself where no return arrives."""
        start = xp.host(x)[0]
        with np.errstate(all="ignore"):
            way = self.returned(start, 4 * RETURNS)
            for move in random_moves(len(start)) if not way.arrives else ():
                if way.arrives:
                    break
                away = (1.0 + length(start) * len(start) ** -0.5) * move
                way = self.returned(start + away, 4 * RETURNS, damped=True)
        return xp.array(way.point[None], x) if way.arrives else x

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        point = xp.host(x)[0]
        excess = self._part_at(point).excess(TOLERANCE * u)
        return xp.array(np.full((1, 1), float(excess <= 1.0)), x) > 0.0

    def returned(
        self, x: Floats, most: int, factor: GramFactor | NoFactor | None = None, *, damped: bool = False
    ) -> Way:
        """The point to which Gauss and Newton's method leads from x: as that of `CurvedSet`, for one component.

        `factor` is that of a point nearby; without it, one is computed at each point.
        """
        part = linear_part(self.program, self.written, x)
        run = longest = 0
        for _ in range(most):
            excess = part.excess(TOLERANCE * UNIT)
            if not 1.0 < excess < np.inf:
                break
            share = length(part.values) / (length(part.values) + length(x))
            used = self._factor(part) if factor is None else factor
            step = step_back(part, share * share if damped else 0.0, used)
            if run >= SLOW_RATIOS and not damped:
                step = 2.0 * step
            before = length(part.values)
            moved = self._shortened(x, step, part, before)
            if moved is None:
                break
            x, new = moved
            ratio = length(new.values * (new.norms / part.norms)) / before
            is_near = excess * (TOLERANCE * UNIT) < NEAR_SET
            run = run + 1 if SLOW[0] < ratio < SLOW[1] and is_near else 0
            part, longest = new, max(longest, run)
        return Way(x, part, part.excess(TOLERANCE * UNIT) <= 1.0, longest >= SLOW_RATIOS)

    def _shortened(self, x: Floats, step: Floats, part: LinearPart, before: float) -> tuple[Floats, LinearPart] | None:
        """The point x − α step with the first α = 1, ½, ¼ … by which the violation falls enough; None for none."""
        share = 1.0
        for _ in range(HALVINGS + 1):
            trial = x - share * step
            new = linear_part(self.program, self.written, trial)
            after = length(new.values * (new.norms / part.norms))
            if after <= (1.0 - DECREASE * share) * before or new.excess(TOLERANCE * UNIT) <= 1.0:
                return trial, new
            share = 0.5 * share
        return None

    def _linear_at(self, point: Floats) -> tuple[LinearPart, GramFactor | NoFactor]:
        """The linear part at a point and its factor; those of the last point are kept, which changes no bit of them."""
        part, known = self._part_at(point), self.memory.factor
        if known is None or known[0] is not part:
            with np.errstate(all="ignore"):
                known = self.memory.factor = part, self._factor(part)
        return part, known[1]

    def _part_at(self, point: Floats) -> LinearPart:
        known = self.memory.part
        if known is None or not np.array_equal(known[0], point):
            known = self.memory.part = point.copy(), linear_part(self.program, self.written, point)
        return known[1]

    def _factor(self, part: LinearPart) -> GramFactor | NoFactor:
        return factored(part) if self.factors else NoFactor()


@dataclass(eq=False)
class Memory:
    """What was computed last: each is replaced as a whole."""

    part: tuple[Floats, LinearPart] | None = None
    factor: tuple[LinearPart, GramFactor | NoFactor] | None = None


def _outcome(xp: Namespace, like: Array, shortenings: Array, refused: Array, slow: Array) -> Outcome:
    """The outcome of one cell, in the shape of a norm."""
    zeros = 0.0 * like
    return Outcome(zeros + shortenings, zeros + refused > 0.0, zeros + slow > 0.0)
