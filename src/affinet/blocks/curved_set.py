"""The set of nonlinear equations `c(w) = 0` in equal cells, as a convex set of inequalities is one: by its projections.

The set is curved. Its face at a point is its tangent plane there, which belongs to the point: `along` projects onto it,
and `onto` follows a step in it and returns to the set by Gauss and Newton's method, with the derivatives of each point
that it comes to. A step from which there is no way back, or only a way that is much longer than the step, is shortened.

Source of the rest points: at rest the projected step is zero, so that the gradient is a combination of the rows of J,
whatever the optimizer made of it (docs/theory.md). This is local: another branch of the set may have a lower value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from affinet.blocks.cell_programs import CellProgram
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats

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
KICK, KICKS = 1e-3, 4
"""Size and number of the random moves by which a start is left from which there is no way to the set."""
DECREASE = 1e-4
"""Share of the linear decrease of a violation that a step of the return must reach, or be halved."""
HALVINGS = 12
"""Most halvings of one step of the return."""


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

    def count(self) -> int:
        return self.program.width

    def bounds(self) -> tuple[Floats, Floats]:
        return np.full((1,), -np.inf), np.full((1,), np.inf)

    def choose(self, xp: Namespace, condition: Array, first: CurvedFace, second: CurvedFace) -> CurvedFace:
        by_matrix = xp.reshape(condition, (condition.shape[0], 1, 1))
        return CurvedFace(
            xp.where(condition, first.point, second.point),
            xp.where(by_matrix, first.rows, second.rows),
            xp.where(by_matrix, first.inverse, second.inverse),
        )

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: CurvedFace | None = None
    ) -> tuple[Array, CurvedFace]:
        """A point of the set near x, x itself in cells from which no return arrives, and the tangent plane there."""
        point, arrives = self.returned(xp, x, 4 * RETURNS)
        starts = (np.zeros((1, self.program.width)), *self._kicks)
        for kick in starts if xp.any(~arrives) else ():
            away = KICK * (1.0 + self.norm(xp, x) * self.program.width**-0.5) * xp.array(kick, x)
            kicked, arrived = self.returned(xp, x + away, 4 * RETURNS, damped=True)
            point, arrives = xp.where(arrived & ~arrives, kicked, point), arrives | arrived
            if not xp.any(~arrives):
                break
        point = xp.where(arrives, point, x)
        return point, self.face(xp, point)

    @property
    def learns(self) -> bool:
        return False

    def marks(self, xp: Namespace, face: CurvedFace) -> tuple[Array, ...]:
        return ()

    @property
    def always_found(self) -> bool:
        return False

    def clipped(self, xp: Namespace, x: Array) -> Array:
        return x

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        return self._excess(xp, *self.program.linearized(xp, x), x, u) <= 1.0

    def onto(self, xp: Namespace, x: Array, face: CurvedFace) -> Array:
        """The point of the set to which a step from the point of the face to x leads, or that point itself."""
        move = self.along(xp, x - face.point, face)
        result, unfinished = face.point, self.norm(xp, move) > 0.0
        for _ in range(SHORTENINGS + 1):
            landed, arrives = self.returned(xp, face.point + move, RETURNS)
            is_near = self.norm(xp, landed - face.point) <= FARTHEST * self.norm(xp, move) + _noise(
                xp, self, face.point
            )
            arrived = unfinished & arrives & is_near
            result = xp.where(arrived, landed, result)
            unfinished = unfinished & ~(arrives & is_near)
            if not xp.any(unfinished):
                break
            move = 0.25 * move
        return result

    def along(self, xp: Namespace, x: Array, face: CurvedFace) -> Array:
        """`P x`, applied twice: the second time removes what rounding of the first left."""
        for _ in range(2):
            x = x - self._across(xp, self._products(xp, x, face), face)
        return x

    def land(
        self, xp: Namespace, z: Array, y: Array, tau: Array, face: CurvedFace, u: float
    ) -> tuple[Array, Array, CurvedFace]:
        """The point z itself, the normal part of y there, and the tangent plane there."""
        return z, y, self.face(xp, z)

    def normal(self, xp: Namespace, w: Array, v: Array, face: CurvedFace | None, u: float) -> tuple[Array, CurvedFace]:
        plane = self.face(xp, w)
        return v - self.along(xp, v, plane), plane

    @cached_property
    def _kicks(self) -> tuple[Floats, ...]:
        """Directions (1, width) away from points where the gradients vanish or depend on each other."""
        return tuple(np.random.default_rng(k).standard_normal((1, self.program.width)) for k in range(KICKS))

    def face(self, xp: Namespace, w: Array) -> CurvedFace:
        """The tangent plane at a point."""
        return self._plane(xp, w, self.program.linearized(xp, w)[2])[0]

    def returned(self, xp: Namespace, x: Array, most: int, *, damped: bool = False) -> tuple[Array, Array]:
        """The point to which Gauss and Newton's method leads from x, and a mark (cells, 1) where it holds there.

        With damping, that of Levenberg and Marquardt in proportion to the square of the violation: near solutions at
        which the derivatives lose rank it converges quadratically all the same (N. Yamashita, M. Fukushima, Computing
        Supplement 15, 2001).
        """
        u = 0.5 * xp.spacing(x)
        values, sizes, derivatives = self.program.linearized(xp, x)
        excess = self._excess(xp, values, sizes, derivatives, x, u)
        for _ in range(most):
            searched = (excess > 1.0) & (excess < float("inf"))
            if not xp.any(searched):
                break
            face, norms = self._plane(xp, x, derivatives)
            scaled = values / norms
            if damped:
                face = face._replace(inverse=_damped_inverse(xp, face.rows, self.norm(xp, scaled), self.norm(xp, x)))
            step = self._across(xp, scaled, face)
            x, excess, (values, sizes, derivatives) = self._shortened(
                xp, x, step, searched, excess, (values, sizes, derivatives), u
            )
        return x, excess <= 1.0

    def _shortened(
        self,
        xp: Namespace,
        x: Array,
        step: Array,
        searched: Array,
        excess: Array,
        known: tuple[Array, Array, Array],
        u: float,
    ) -> tuple[Array, Array, tuple[Array, Array, Array]]:
        """The point x − α step with the first α = 1, ½, ¼ … by which the violation falls enough; x where none does."""
        share, norms = xp.where(searched, xp.array(1.0, x), xp.array(0.0, x)), _norms(xp, known[2])
        before = self.norm(xp, known[0] / norms)
        halvings = 0
        while True:
            trial = x - share * step
            computed = self.program.linearized(xp, trial)
            after = self.norm(xp, computed[0] / norms)
            falls = after <= (1.0 - DECREASE * share) * before
            falls = falls | (self._excess(xp, *computed, trial, u) <= 1.0)
            halvings += 1
            if halvings > HALVINGS or not xp.any(searched & ~falls):
                break
            share = xp.where(searched & ~falls, 0.5 * share, share)
        moved = searched & falls
        by_matrix = xp.reshape(moved, (moved.shape[0], 1, 1))
        point = xp.where(moved, trial, x)
        values, sizes = (xp.where(moved, new, old) for new, old in zip(computed[:2], known[:2], strict=True))
        derivatives = xp.where(by_matrix, computed[2], known[2])
        new_excess = self._excess(xp, values, sizes, derivatives, point, u)
        # A cell that no share of the step improves ends here: it is at a point where the gradients vanish.
        return point, xp.where(searched & ~moved, xp.array(float("inf"), x), new_excess), (values, sizes, derivatives)

    def _excess(self, xp: Namespace, values: Array, sizes: Array, derivatives: Array, x: Array, u: float) -> Array:
        """The largest violation of a cell in units of what rounding may leave; infinite where it is not a number."""
        weighted = abs(derivatives) * abs(xp.reshape(x, (x.shape[0], 1, x.shape[1])))
        reach = xp.reshape(xp.sum(weighted, (2,)), values.shape)
        limit = TOLERANCE * u * (sizes + reach)
        zero, far = xp.array(0.0, values), xp.array(float("inf"), values)
        ratio = xp.where(values == 0.0, zero, abs(values) / limit)
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


def _noise(xp: Namespace, convex: CurvedSet, w: Array) -> Array:
    return 32.0 * xp.spacing(w) * convex.norm(xp, w)
