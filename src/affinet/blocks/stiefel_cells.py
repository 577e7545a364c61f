"""The set of matrices with orthonormal rows, `W Wᵀ = I`: tangent planes and returns in a few products of matrices.

The tangent part of G is `G − sym(G Wᵀ) W`. With `E = X Xᵀ − I` a point returns to the nearest one, which is
`(I + E)^−½ X`, by the first terms of its series: `X − ½ E X`, the iteration of Newton and Schulz, where E is so small
that this ends at rounding, and otherwise with the next term, `⅜ E² X`. From farther away than the radius of convergence
the singular value decomposition gives that point.
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
        moved = start + self._tangent(xp, self._rows(xp, x) - start, start)
        point = self._rows(xp, self._back(xp, moved))
        return point, StiefelFace(point), None

    def face(self, xp: Namespace, w: Array) -> StiefelFace:
        """The tangent plane at a point."""
        return StiefelFace(w)

    def _rows(self, xp: Namespace, x: Array) -> Array:
        """Matrices whose rows are orthonormal on the set, from those of the weights, and back."""
        return _turned(xp, x) if self.of_columns else x

    def _tangent(self, xp: Namespace, x: Array, point: Array) -> Array:
        products = xp.matmul(x, _turned(xp, point))
        return x - xp.matmul(0.5 * (products + _turned(xp, products)), point)

    def _back(self, xp: Namespace, x: Array) -> Array:
        """The nearest matrices with orthonormal rows; numbers that are not finite stay."""
        excess = self._excess(xp, x)
        size = xp.sum(excess * excess, (1, 2)) ** 0.5
        far = (size > CONVERGES) & (size < float("inf"))
        if xp.any(far):
            x = xp.where(far, xp.polar(x), x)
            excess = self._excess(xp, x)
        goal = 0.25 * xp.spacing(x)
        for _ in range(MOST):
            # Entries of E² and E³, by the norms of rows and by a bound of the spectral norm.
            square = xp.largest(xp.sum(excess * excess, (2,)), (1, 2))
            cube = square * xp.largest(xp.sum(abs(excess), (2,)), (1, 2))
            if not xp.any((square > goal) & (square < float("inf"))):
                return x - 0.5 * xp.matmul(excess, x)
            series = 0.5 * excess
            series -= 0.375 * xp.matmul(excess, excess)
            x = x - xp.matmul(series, x)
            if not xp.any((cube > goal) & (cube < float("inf"))):
                break
            excess = self._excess(xp, x)
        return x

    def _excess(self, xp: Namespace, x: Array) -> Array:
        """`X Xᵀ − I`."""
        products = xp.matmul(x, _turned(xp, x))
        return xp.where(self._diagonal(xp, x), products - 1.0, products)

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
