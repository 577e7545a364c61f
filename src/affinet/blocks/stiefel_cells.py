"""The set of matrices with orthonormal rows, `W Wᵀ = I`: tangent planes and returns in a few products of matrices.

The tangent part of G is `G − sym(G Wᵀ) W`. With `E = X Xᵀ − I` a point returns to the nearest one, which is
`(I + E)^−½ X`, by the first terms of its series: `X − ½ E X`, the iteration of Newton and Schulz, where E is so small
that this ends at rounding, and otherwise with the next term, `⅜ E² X`. From farther away than the radius of convergence
the singular value decomposition gives that point.

Square matrices turn: the tangent part of G is `Ω W` with `Ω = skew(G Wᵀ)`, and a step leads to `R W` with a rotation
`R = I + Ω + ½ Ω² + …`, of which the powers are half as long to compute as other products, since they are symmetric or
skew. From the nearest point to `(I + Ω) W` this differs by the order of Ω³.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats

CONVERGES = 0.9
"""The series converges where the norm of E is below 1."""
MOST = 30
"""Iterations of a return; three come from 0.9 to rounding."""
THIRD = 1.0 / 8.0
"""The coefficient of Ω³ with which `R = I + Ω + ½ Ω² + ⅛ Ω³` has `R Rᵀ − I = −Ω⁶ / 64`."""
THIRD_OF_FOUR = 0.5 - 0.125**0.5
FOURTH_OF_FOUR = THIRD_OF_FOUR - 0.125
"""The coefficients of Ω³ and Ω⁴ with which the terms of R up to Ω⁴ have `R Rᵀ − I` a multiple of Ω⁸: t² is `FOURTH`."""
NEAR = 0.03
"""Size of the term of Ω⁴ above which R is not used: it may turn by more than a radian, where its terms alternate."""


class StiefelFace(NamedTuple):
    """The point of each cell, which spans its tangent plane (cells, rows, columns)."""

    point: Array


@dataclass(frozen=True, eq=False)
class StiefelCells:
    """Orthonormal rows of every matrix of an array `shape` (cells, rows, columns); with `of_columns`, columns."""

    shape: tuple[int, int, int]
    of_columns: bool

    @property
    def equations(self) -> int:
        """Independent equations of a cell."""
        size = self.shape[2] if self.of_columns else self.shape[1]
        return size * (size + 1) // 2

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1, 2)) ** 0.5

    def count(self) -> int:
        return self.shape[1] * self.shape[2]

    def terms(self) -> int:
        return self.shape[1] if self.of_columns else self.shape[2]

    def choose(self, xp: Namespace, condition: Array, first: StiefelFace, second: StiefelFace) -> StiefelFace:
        return StiefelFace(xp.where(condition, first.point, second.point))

    @property
    def always_found(self) -> bool:
        return True

    def nearest(self, xp: Namespace, x: Array) -> Array:
        """The polar factor. Of a matrix without full rank one of the nearest points."""
        return self._rows(xp, self._back(xp, self._rows(xp, x)))

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        rows = self._rows(xp, x)
        sizes = xp.matmul(abs(rows), _turned(xp, abs(rows)))
        limit = u * xp.where(self._diagonal(xp, x), 3.0 * sizes + 1.0, 3.0 * sizes)
        return xp.largest(abs(self._excess(xp, rows)) - limit, (1, 2)) <= 0.0

    def tangent_part(self, xp: Namespace, x: Array, face: StiefelFace) -> Array:
        return self._rows(xp, self._tangent(xp, self._rows(xp, x), self._rows(xp, face.point)))

    def followed(self, xp: Namespace, x: Array, face: StiefelFace) -> tuple[Array, StiefelFace, None]:
        start = self._rows(xp, face.point)
        step = self._rows(xp, x) - start
        if self.shape[1] == self.shape[2]:
            landed = self._turned_by(xp, step, start)
        else:
            landed = self._back(xp, start + self._tangent(xp, step, start))
        point = self._rows(xp, landed)
        return point, StiefelFace(point), None

    def face(self, xp: Namespace, w: Array) -> StiefelFace:
        """The tangent plane at a point."""
        return StiefelFace(w)

    def _rows(self, xp: Namespace, x: Array) -> Array:
        """Matrices whose rows are orthonormal on the set, from those of the weights, and back."""
        return _turned(xp, x) if self.of_columns else x

    def _tangent(self, xp: Namespace, x: Array, point: Array) -> Array:
        products = xp.matmul(x, _turned(xp, point))
        if self.shape[1] == self.shape[2]:
            return xp.matmul(xp.mirrored_part(products, -1.0), point)
        return x - xp.matmul(xp.mirrored_part(products, 1.0), point)

    def _turned_by(self, xp: Namespace, step: Array, start: Array) -> Array:
        """The square matrices `R start`, with the rotation R whose first terms are `I + Ω`, `Ω = skew(step startᵀ)`.

        R ends where `R Rᵀ − I` is rounding. With what `start startᵀ` differs from I, that is corrected on the way.
        """
        goal = 0.25 * xp.spacing(step)
        turn = xp.mirrored_part(xp.matmul(step, _turned(xp, start)), -1.0)
        length, series = _longest_row(xp, turn), turn
        square = xp.mirrored_product(turn, turn, 1.0)  # −Ω²
        # Entries of R Rᵀ − I, which is a product of two equal powers of Ω, by the norms of their rows.
        missed = 0.25 * _longest_row(xp, square) ** 2
        if _is_above(xp, missed, goal):
            cube = xp.mirrored_product(turn, square, -1.0)  # −Ω³
            missed = (THIRD * _longest_row(xp, cube)) ** 2
            if _is_above(xp, missed, goal):
                fourth = xp.mirrored_product(square, square, 1.0)
                fourth *= FOURTH_OF_FOUR
                missed = _longest_row(xp, fourth) ** 2
                if _is_above(xp, self.norm(xp, fourth), NEAR):
                    return self._back(xp, start + xp.matmul(turn, start))
                cube *= THIRD_OF_FOUR
                series += fourth
            else:
                cube *= THIRD
            series -= cube
        square *= 0.5
        series -= square
        excess = self._excess(xp, start)
        drift = _longest_row(xp, excess)
        is_near = not _is_above(xp, drift * (length + drift), 4.0 * goal)
        if is_near:
            excess *= 0.5
            series -= excess
        landed = xp.matmul(series, start)
        landed += start
        return landed if is_near and not _is_above(xp, missed, goal) else self._back(xp, landed)

    def _back(self, xp: Namespace, x: Array) -> Array:
        """The nearest matrices with orthonormal rows; numbers that are not finite stay."""
        excess = self._excess(xp, x)
        size = self.norm(xp, excess)
        if _is_above(xp, size, CONVERGES):  # the root of the norm of E² is a closer bound
            size = xp.minimum(size, self.norm(xp, xp.mirrored_product(excess, excess, 1.0)) ** 0.5)
        far = (size > CONVERGES) & (size < float("inf"))
        if xp.any(far):
            x = xp.where(far, xp.polar(x), x)
            excess = self._excess(xp, x)
        goal = 0.25 * xp.spacing(x)
        for _ in range(MOST):
            # Entries of E² and E³, by the norms of the rows of the factors.
            longest = _longest_row(xp, excess)
            if not _is_above(xp, longest**2, goal):
                return x - 0.5 * xp.matmul(excess, x)
            square = xp.mirrored_product(excess, excess, 1.0)
            missed = longest * _longest_row(xp, square)
            square *= 0.375
            excess *= 0.5
            excess -= square
            x = x - xp.matmul(excess, x)
            if not _is_above(xp, missed, goal):
                break
            excess = self._excess(xp, x)
        return x

    def _excess(self, xp: Namespace, x: Array) -> Array:
        """`X Xᵀ − I`."""
        return xp.add_diagonal(xp.mirrored_product(x, x, 1.0), -1.0)

    def _diagonal(self, xp: Namespace, x: Array) -> Array:
        first, second = self._numbers
        return xp.array(first, x) == xp.array(second, x)

    @cached_property
    def _numbers(self) -> tuple[Floats, Floats]:
        """The numbers of the orthonormal rows, along two axes."""
        numbers: Floats = np.arange(self.shape[2] if self.of_columns else self.shape[1], dtype=np.float64)
        return numbers[:, None], numbers[None]


def _turned(xp: Namespace, x: Array) -> Array:
    return xp.permute(x, (0, 2, 1))


def _longest_row(xp: Namespace, x: Array) -> Array:
    """The largest norm of a row of each matrix."""
    return xp.largest(xp.sum(x * x, (2,)), (1, 2)) ** 0.5


def _is_above(xp: Namespace, x: Array, limit: float) -> bool:
    """Whether a number is above the limit, and finite."""
    return xp.any((x > limit) & (x < float("inf")))
