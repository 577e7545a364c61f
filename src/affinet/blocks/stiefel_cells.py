"""The set of matrices with orthonormal rows, `W Wᵀ = I`: tangent planes and returns in a few products of matrices.

The tangent part of G is `G − sym(G Wᵀ) W`. A point returns by the iteration of Newton and Schulz,
`X ← X − ½ (X Xᵀ − I) X`, which is Gauss and Newton's method with the Gram matrix at the set, and converges to the
nearest point. From farther away than its radius of convergence the singular value decomposition gives that point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from affinet.blocks.namespace import Array, Namespace

CONVERGES = 0.9
"""Newton and Schulz's iteration converges where the norm of `X Xᵀ − I` is below 1."""
MOST = 30
"""Iterations of a return; four come from 0.9 to rounding."""


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
        ratio = abs(_excess(xp, rows)) - u * (3.0 * sizes + xp.array(np.eye(rows.shape[1]), x))
        return xp.largest(ratio, (1, 2)) <= 0.0

    def along(self, xp: Namespace, x: Array, face: StiefelFace) -> Array:
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
        excess = _excess(xp, x)
        size = xp.sum(excess * excess, (1, 2)) ** 0.5
        finite = size < float("inf")
        far = finite & (size > CONVERGES)
        if xp.any(far):
            x = xp.where(far, xp.polar(x), x)
            excess = _excess(xp, x)
        last = xp.spacing(x) ** 0.5
        for _ in range(MOST):
            x = x - 0.5 * xp.matmul(excess, x)
            # The next violation is about the square of this one.
            if not xp.any(finite & (xp.largest(abs(excess), (1, 2)) > last)):
                break
            excess = _excess(xp, x)
        return x


def _excess(xp: Namespace, x: Array) -> Array:
    return xp.matmul(x, _turned(xp, x)) - xp.array(np.eye(x.shape[1]), x)


def _turned(xp: Namespace, x: Array) -> Array:
    return xp.permute(x, (0, 2, 1))
