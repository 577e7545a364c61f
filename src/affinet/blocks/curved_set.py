"""The set of nonlinear equations `c(w) = 0` in equal cells, by programs that compute values and derivatives of cells.

A step in the tangent plane is followed by a return to the set by Gauss and Newton's method, with the derivatives of
each point that it comes to. The derivatives of the last point make the next tangent plane. A step from which there is
no way back, or only a way that is much longer than the step, is shortened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from affinet.blocks.cell_programs import CellProgram
from affinet.blocks.curved_cells import Outcome
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers

TOLERANCE = 8.0
"""An equation holds within this many roundoffs of its terms and of its derivatives times the weights."""
RETURNS = 25
"""Most iterations of a return: near the set each squares the distance."""
SHORTENINGS = 8
"""Times that a step is divided by four before it is given up."""
FARTHEST = 4.0
"""A return that moves weights by more than this many lengths of the step has jumped to another part of the set."""
RANK = 1e-13
"""Eigenvalues of the Gram matrix of rows of norm one below this share of the largest are zero: σ ratios of 3e-7."""
KICKS = (0.0, 1e-3, 1e-3, 1e-3, 1e-3, 0.1, 0.1, 1.0, 1.0)
"""Sizes of the random moves by which a start is left from which there is no way to the set: a small one is enough where
the gradients vanish, larger ones leave a least violation that is not zero."""
DECREASE = 1e-4
"""Share of the linear decrease of a violation that a step of the return must reach, or be halved."""
HALVINGS = 12
"""Most halvings of one step of the return."""
NEAR_SET = 0.05
"""Share of its terms, and of its derivatives times the weights, below which a violation is near the set: far from it
Newton's method goes half of the way at each step, whatever the rank."""
SLOW, SLOW_RATIOS = (0.2, 0.5), 5
"""So many successive ratios of violations in this range tell equations whose derivatives lose rank at the solution.

Where a double root is approached, each iteration leaves ¼ of the violation, and elsewhere hardly anything."""


class Return(NamedTuple):
    """Where a return ended.

    `point` and `derivatives` there, and marks (cells, 1): where the equations hold, and where the violation fell as it
    does for equations that lose rank.
    """

    point: Array
    derivatives: Array
    arrives: Array
    slow: Array


class _Way(NamedTuple):
    """A return: the point, values, sizes and derivatives there, its excess, and marks of cells that go no further.

    `run` counts the last slow ratios, `longest` the most in a row.
    """

    point: Array
    linear: tuple[Array, Array, Array]
    excess: Array
    given_up: Array
    run: Array
    longest: Array


class _Trial(NamedTuple):
    """A share of a step, the point there, values, sizes and derivatives, and marks of cells that fall enough there."""

    share: Array
    point: Array
    linear: tuple[Array, Array, Array]
    falls: Array


class _Attempts(NamedTuple):
    """Points and derivatives of the cells that arrived, marks of those that did not yet, and what happened so far."""

    point: Array
    derivatives: Array
    searched: Array
    shortenings: Array
    slow: Array


class CurvedFace(NamedTuple):
    """The tangent plane at a point (cells, width).

    `rows` are those of the derivatives, of norm one (cells, rows, width), `inverse` is the pseudo-inverse of their Gram
    matrix (cells, rows, rows).
    """

    point: Array
    rows: Array
    inverse: Array


@dataclass(frozen=True, eq=False)
class CurvedSet:
    """The cells whose entries satisfy the equations of a program."""

    program: CellProgram

    @property
    def shape(self) -> tuple[int, ...]:
        return self.program.cells, self.program.width

    @property
    def equations(self) -> int:
        """Equations of a cell."""
        return self.program.outputs.rows

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def only(self, cells: Integers) -> CurvedSet | None:
        program = self.program.only(cells)
        return None if program is None else CurvedSet(program)

    def count(self) -> int:
        return self.program.width

    def terms(self) -> int:
        return self.program.width

    def choose(self, xp: Namespace, condition: Array, first: CurvedFace, second: CurvedFace) -> CurvedFace:
        return CurvedFace(
            xp.where(condition, first.point, second.point),
            _where(xp, condition, first.rows, second.rows),
            _where(xp, condition, first.inverse, second.inverse),
        )

    @property
    def always_found(self) -> bool:
        return False

    def nearest(self, xp: Namespace, x: Array) -> Array:
        """A point of the set near x, x itself in cells from which no return arrives."""
        arrived = self.returned(xp, x, 4 * RETURNS)
        size, moves = 1.0 + self.norm(xp, x) * self.program.width**-0.5, xp.array(self._moves, x)

        def kicked(number: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
            point, arrives = state
            way = self.returned(xp, x + size * moves[number], 4 * RETURNS, damped=True)
            return xp.where(way.arrives & ~arrives, way.point, point), arrives | way.arrives

        point, arrives = xp.loop((arrived.point, arrived.arrives), lambda state: ~state[1], kicked, len(KICKS))
        return xp.where(arrives, point, x)

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        return self._excess(xp, *self.program.linearized(xp, x), x, u) <= 1.0

    def followed(self, xp: Namespace, x: Array, plane: CurvedFace) -> tuple[Array, CurvedFace, Outcome]:
        move = self.tangent_part(xp, x - plane.point, plane)
        length = self.norm(xp, move)
        reach = FARTHEST * length + 32.0 * xp.spacing(x) * self.norm(xp, plane.point)

        def attempt(number: int, state: _Attempts) -> _Attempts:
            quarterings = xp.array(number, x)
            share = xp.array(4.0, x) ** (-quarterings)
            back = self.returned(xp, plane.point + share * move, RETURNS, state.searched)
            distance = self.norm(xp, back.point - plane.point)
            arrived = state.searched & back.arrives & (distance <= share * reach)
            return _Attempts(
                xp.where(arrived, back.point, state.point),
                _where(xp, arrived, back.derivatives, state.derivatives),
                state.searched & ~arrived,
                xp.where(state.searched, xp.array(1.0, length) * quarterings, state.shortenings),
                state.slow | (back.slow & arrived),
            )

        start = _Attempts(plane.point, plane.rows, length > 0.0, 0.0 * length, length != length)
        point, derivatives, refused, shortenings, slow = xp.loop(
            start, lambda state: state.searched, attempt, SHORTENINGS + 1
        )
        moved = (length > 0.0) & ~refused
        landed = self.choose(xp, moved, self._plane(xp, point, derivatives)[0], plane)
        return point, landed, Outcome(shortenings, refused, slow)

    def tangent_part(self, xp: Namespace, x: Array, face: CurvedFace) -> Array:
        """`P x`, applied twice: the second time removes what rounding of the first left."""
        for _ in range(2):
            x = x - self._across(xp, self._products(xp, x, face), face)
        return x

    def face(self, xp: Namespace, w: Array) -> CurvedFace:
        """The tangent plane at a point."""
        return self._plane(xp, w, self.program.linearized(xp, w)[2])[0]

    def returned(
        self, xp: Namespace, x: Array, most: int, searched: Array | None = None, *, damped: bool = False
    ) -> Return:
        """The point to which Gauss and Newton's method leads from x, in the cells that are `searched`.

        With damping, that of Levenberg and Marquardt in proportion to the square of the violation: near solutions at
        which the derivatives lose rank it converges quadratically all the same (N. Yamashita, M. Fukushima, Computing
        Supplement 15, 2001). Without, a step is doubled after SLOW_RATIOS slow ones: at solutions at which the
        derivatives lose rank, Newton's method goes half of the way at each step (C. T. Kelley, R. Suresh, SIAM Journal
        on Numerical Analysis 20, 1983).
        """
        u = 0.5 * xp.spacing(x)
        linear = self.program.linearized(xp, x)
        excess = self._excess(xp, *linear, x, u)
        given_up = excess != excess if searched is None else ~searched

        def remaining(way: _Way) -> Array:
            return (way.excess > 1.0) & (way.excess < float("inf")) & ~way.given_up

        def advance(_: int, way: _Way) -> _Way:
            values, _sizes, derivatives = way.linear
            face, norms = self._plane(xp, way.point, derivatives)
            scaled = values / norms
            before = self.norm(xp, scaled)
            if damped:
                damping = _damped_inverse(xp, face.rows, before, self.norm(xp, way.point))
                face = face._replace(inverse=damping)
            step = self._across(xp, scaled, face)
            if not damped:
                step = xp.where(way.run >= SLOW_RATIOS, 2.0 * step, step)
            searched = remaining(way)
            point, moved, linear = self._shortened(xp, way.point, step, searched, way.linear, u)
            ratio = self.norm(xp, linear[0] / norms) / xp.where(before > 0.0, before, xp.array(1.0, before))
            alike = searched & (ratio > SLOW[0]) & (ratio < SLOW[1]) & (way.excess * (TOLERANCE * u) < NEAR_SET)
            run = xp.where(alike, way.run + 1.0, xp.array(0.0, way.run))
            return _Way(
                point,
                linear,
                self._excess(xp, *linear, point, u),
                way.given_up | (searched & ~moved),
                run,
                xp.maximum(way.longest, run),
            )

        none = xp.where(given_up, xp.array(0.0, excess), xp.array(0.0, excess))
        way = xp.loop(_Way(x, linear, excess, given_up, none, none), remaining, advance, most)
        return Return(way.point, way.linear[2], way.excess <= 1.0, way.longest >= SLOW_RATIOS)

    def _shortened(
        self,
        xp: Namespace,
        x: Array,
        step: Array,
        searched: Array,
        known: tuple[Array, Array, Array],
        u: float,
    ) -> tuple[Array, Array, tuple[Array, Array, Array]]:
        """The point x − α step with the first α = 1, ½, ¼ … by which the violation falls enough.

        A cell in which none does stays, and is not marked as moved: the gradients vanish at its point.
        """
        norms = _norms(xp, known[2])
        before = self.norm(xp, known[0] / norms)

        def tried(share: Array) -> _Trial:
            point = x - share * step
            linear = self.program.linearized(xp, point)
            falls = self.norm(xp, linear[0] / norms) <= (1.0 - DECREASE * share) * before
            return _Trial(share, point, linear, falls | (self._excess(xp, *linear, point, u) <= 1.0))

        def halved(_: int, trial: _Trial) -> _Trial:
            return tried(xp.where(searched & ~trial.falls, 0.5 * trial.share, trial.share))

        full = xp.where(searched, xp.array(1.0, before), xp.array(0.0, before))
        trial = xp.loop(tried(full), lambda trial: searched & ~trial.falls, halved, HALVINGS)
        moved = searched & trial.falls
        point = xp.where(moved, trial.point, x)
        values, sizes = (xp.where(moved, new, old) for new, old in zip(trial.linear[:2], known[:2], strict=True))
        return point, moved, (values, sizes, _where(xp, moved, trial.linear[2], known[2]))

    @cached_property
    def _moves(self) -> Floats:
        """All random moves (moves, width)."""
        return np.stack(list(random_moves(self.program.width)))

    def _excess(self, xp: Namespace, values: Array, sizes: Array, derivatives: Array, x: Array, u: float) -> Array:
        """The largest violation of a cell in units of what rounding may leave; infinite where it is not a number."""
        weighted = abs(derivatives) * abs(xp.reshape(x, (x.shape[0], 1, x.shape[1])))
        reach = xp.reshape(xp.sum(weighted, (2,)), values.shape)
        limit = TOLERANCE * u * (sizes + reach)
        zero, far = xp.array(0.0, values), xp.array(float("inf"), values)
        ratio = xp.where(values == 0.0, zero, abs(values) / xp.where(limit == 0.0, xp.array(1.0, limit), limit))
        return xp.largest(xp.where(ratio == ratio, ratio, far), (1,))

    def _plane(self, xp: Namespace, w: Array, derivatives: Array) -> tuple[CurvedFace, Array]:
        norms = _norms(xp, derivatives)
        rows = derivatives / xp.reshape(norms, (*norms.shape, 1))
        rows = xp.where(rows == rows, rows, xp.array(0.0, rows))
        return CurvedFace(w, rows, _pseudo_inverse(xp, rows)), norms

    def _products(self, xp: Namespace, x: Array, face: CurvedFace) -> Array:
        columns = xp.reshape(x, (x.shape[0], x.shape[1], 1))
        return xp.reshape(xp.matmul(face.rows, columns), (x.shape[0], face.rows.shape[1]))

    def _across(self, xp: Namespace, values: Array, face: CurvedFace) -> Array:
        """`rowsᵀ (rows rowsᵀ)⁺ values`."""
        columns = xp.reshape(values, (*values.shape, 1))
        solved = xp.reshape(xp.matmul(face.inverse, columns), (values.shape[0], 1, values.shape[1]))
        return xp.reshape(xp.matmul(solved, face.rows), (values.shape[0], face.rows.shape[2]))


def random_moves(width: int) -> Iterator[Floats]:
    """Moves (width,) from where no way to the set was found, relative to the size of the entries; none at first."""
    for seed, size in enumerate(KICKS):
        yield size * np.random.default_rng(seed).standard_normal(width)


def _norms(xp: Namespace, derivatives: Array) -> Array:
    """The norms of the rows (cells, rows), 1 for rows of zeros."""
    norms = xp.reshape(xp.sum(derivatives * derivatives, (2,)) ** 0.5, derivatives.shape[:2])
    return xp.where(norms > 0.0, norms, xp.array(1.0, norms))


def _pseudo_inverse(xp: Namespace, rows: Array) -> Array:
    """`(rows rowsᵀ)⁺` (cells, rows, rows), without directions that the rows reach by rounding alone."""
    gram = xp.matmul(rows, xp.permute(rows, (0, 2, 1)))
    zero, unit = xp.array(0.0, gram), xp.array(1.0, gram)
    if gram.shape[1] == 1:
        usable = gram > 0.0
        return xp.where(usable, unit / xp.where(usable, gram, unit), zero)
    values, vectors = xp.eigh(gram)
    usable = values > RANK * values[:, -1:]
    inverse = xp.where(usable, 1.0 / xp.where(usable, values, unit), zero)
    scaled = vectors * xp.reshape(inverse, (inverse.shape[0], 1, inverse.shape[1]))
    return xp.matmul(scaled, xp.permute(vectors, (0, 2, 1)))


def _damped_inverse(xp: Namespace, rows: Array, violation: Array, size: Array) -> Array:
    """`(rows rowsᵀ + μ)⁻¹`, μ being the largest eigenvalue times the square of the violation relative to weights."""
    values, vectors = xp.eigh(xp.matmul(rows, xp.permute(rows, (0, 2, 1))))
    zero, unit, total = xp.array(0.0, values), xp.array(1.0, values), violation + size
    share = violation / xp.where(total > 0.0, total, unit)
    shifted = xp.maximum(values, zero) + (share * share + RANK) * values[:, -1:]
    inverse = unit / xp.where(shifted > 0.0, shifted, unit)
    scaled = vectors * xp.reshape(inverse, (inverse.shape[0], 1, inverse.shape[1]))
    return xp.matmul(scaled, xp.permute(vectors, (0, 2, 1)))


def _where(xp: Namespace, condition: Array, first: Array, second: Array) -> Array:
    """Matrices (cells, rows, columns) chosen by a condition on cells (cells, 1)."""
    return xp.where(xp.reshape(condition, (condition.shape[0], 1, 1)), first, second)
