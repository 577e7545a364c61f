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
from affinet.language.calculus.terms import Floats, Integers

CONVERGES = 0.9
"""The series converges where the norm of E is below 1."""
MOST = 30
"""Iterations of a return; three come from 0.9 to rounding."""
THIRD = 1.0 / 8.0
"""The coefficient of Ω³ with which `R = I + Ω + ½ Ω² + ⅛ Ω³` has `R Rᵀ − I = −Ω⁶ / 64`."""
THIRD_OF_FOUR = 0.5 - 0.125**0.5
FOURTH_OF_FOUR = THIRD_OF_FOUR - 0.125
"""The coefficients of Ω³ and Ω⁴ with which the terms of R up to Ω⁴ have `R Rᵀ − I` a multiple of Ω⁸: t² is `FOURTH`."""
LONG = 2.0
"""Length of a row of Ω above which R is not computed, since its powers may leave the range of the numbers."""
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

    def only(self, cells: Integers) -> StiefelCells:
        return StiefelCells((len(cells), *self.shape[1:]), self.of_columns)

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
        length = _longest_row(xp, turn)
        series, missed, size = xp.either(
            _is_above(length, LONG), lambda: (turn, length, length), lambda: self._rotation(xp, turn, goal)
        )
        is_far = _is_above(size, NEAR)
        series = xp.either(is_far, lambda: turn, lambda: series)
        excess = self._excess(xp, start)
        drift = _longest_row(xp, excess)
        # What the correction of the start misses, by the norms of the rows of its factors.
        is_off = _is_above(drift * (length + drift), 4.0 * goal)
        series = xp.either(is_off, lambda: series, lambda: series - 0.5 * excess)
        landed = xp.matmul(series, start)
        landed += start
        return xp.either(is_far | is_off | _is_above(missed, goal), lambda: self._back(xp, landed), lambda: landed)

    def _rotation(self, xp: Namespace, turn: Array, goal: float) -> tuple[Array, Array, Array]:
        """`R − I` by the powers of Ω, a bound for the entries of `R Rᵀ − I`, and the size of the term of Ω⁴.

        `R Rᵀ − I` is the product of two equal powers of Ω: entries are bounded by the norms of the rows of the power.
        """
        square = xp.mirrored_product(turn, turn, 1.0)  # −Ω²
        short = (0.5 * _longest_row(xp, square)) ** 2

        def by_two() -> tuple[Array, Array, Array]:
            series = -0.5 * square
            series += turn
            return series, short, 0.0 * short

        def by_more() -> tuple[Array, Array, Array]:
            cube = xp.mirrored_product(turn, square, -1.0)  # −Ω³
            missed = (THIRD * _longest_row(xp, cube)) ** 2
            series = by_two()[0]

            def by_three() -> tuple[Array, Array, Array]:
                return series - THIRD * cube, missed, 0.0 * missed

            def by_four() -> tuple[Array, Array, Array]:
                fourth = FOURTH_OF_FOUR * xp.mirrored_product(square, square, 1.0)
                rotated = series - THIRD_OF_FOUR * cube
                rotated += fourth
                return rotated, _longest_row(xp, fourth) ** 2, self.norm(xp, fourth)

            return xp.either(_is_above(missed, goal), by_four, by_three)

        return xp.either(_is_above(short, goal), by_more, by_two)

    def _back(self, xp: Namespace, x: Array) -> Array:
        """The nearest matrices with orthonormal rows; numbers that are not finite stay."""
        excess = self._excess(xp, x)
        size = self.norm(xp, excess)

        def closer() -> Array:
            """A closer bound of the largest eigenvalue: the root of the norm of E²."""
            return xp.minimum(size, self.norm(xp, xp.mirrored_product(excess, excess, 1.0)) ** 0.5)

        far = _is_above(xp.either(_is_above(size, CONVERGES), closer, lambda: size), CONVERGES)

        def by_values() -> tuple[Array, Array]:
            polar = xp.where(far, xp.polar(x), x)
            return polar, self._excess(xp, polar)

        x, excess = xp.either(far, by_values, lambda: (x, excess))
        goal = 0.25 * xp.spacing(x)
        State = tuple[Array, Array, Array]

        def advance(_: int, state: State) -> State:
            """The next matrices, E there, and a bound of its entries: by the norms of the rows of the factors."""
            x, excess, _bound = state
            longest = _longest_row(xp, excess)

            def by_one() -> State:
                return x - 0.5 * xp.matmul(excess, x), excess, 0.0 * longest

            def by_two() -> State:
                square = xp.mirrored_product(excess, excess, 1.0)
                missed = longest * _longest_row(xp, square)
                series = 0.5 * excess
                series -= 0.375 * square
                moved = x - xp.matmul(series, x)
                return (
                    moved,
                    xp.either(_is_above(missed, goal), lambda: self._excess(xp, moved), lambda: excess),
                    missed,
                )

            return xp.either(_is_above(longest**2, goal), by_two, by_one)

        longest = _longest_row(xp, excess)
        every = xp.where(longest < 0.0, longest, xp.array(1.0, longest))
        return xp.loop((x, excess, every), lambda state: _is_above(state[2], goal), advance, MOST)[0]

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


def _is_above(x: Array, limit: float) -> Array:
    """Where a number is above the limit, and finite."""
    return (x > limit) & (x < float("inf"))
