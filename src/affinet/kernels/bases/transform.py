"""Transforms along one axis of a box that compute its entries from its free numbers, the same in every cell."""

from __future__ import annotations

from math import sqrt
from typing import Protocol

import numpy as np

from affinet.kernels.bases.operations import Array, Constant, Operations
from affinet.language.calculus.terms import Floats, Integers
from affinet.system import lapack

PIVOT_WEIGHT = 1e6
"""Factor by which columns that must become pivots are scaled before pivoting."""


class Transform(Protocol):
    """A matrix with `size` rows and `free` columns, applied along the middle axis of (before, ·, after)."""

    size: int
    free: int

    def linear(self, xp: Operations, x: Array) -> Array:
        """From (before, free, after) to (before, size, after)."""

    def adjoint(self, xp: Operations, g: Array) -> Array:
        """From (before, size, after) to (before, free, after)."""

    def picked(self, xp: Operations, x: Array) -> Array:
        """The left inverse of `linear`."""


class Reflected:
    """Orthonormal complement of r orthonormal rows by r Householder reflectors, in O(size · r) per cell.

    `Qᵀ = H R` with `H = I − V T Vᵀ`; the complement is the last size − r columns of H. A row of zeros (a component of
    smaller rank) reflects nothing, and its column of H is in the complement too: `batch` has these first.
    Source: compact WY form (Schreiber and Van Loan 1989; Golub and Van Loan, 4th ed., 5.1.7).
    """

    def __init__(self, basis: Floats) -> None:
        rows, self.size = basis.shape
        self.free = self.size - rows
        factors, triangle = reflectors(basis[None])
        self._head, self._tail = Constant(factors[0, :rows]), Constant(factors[0, rows:])
        self._triangle = Constant(triangle[0])

    def linear(self, xp: Operations, x: Array) -> Array:
        products = _times(xp, self._triangle, _times(xp, self._tail, x, transposed=True))
        return xp.concat([-_times(xp, self._head, products), x - _times(xp, self._tail, products)], 1)

    def adjoint(self, xp: Operations, g: Array) -> Array:
        rows = self.size - self.free
        head, tail = g[:, :rows], g[:, rows:]
        products = _times(xp, self._head, head, transposed=True) + _times(xp, self._tail, tail, transposed=True)
        return tail - _times(xp, self._tail, _times(xp, self._triangle, products, transposed=True))

    def picked(self, xp: Operations, x: Array) -> Array:
        return self.adjoint(xp, x)


class ReflectedSum:
    """Orthonormal complement of one row of equal numbers: a single reflector with a known vector, in O(size).

    `v = (1, c, …, c)` with `c = 1 / (1 + √n)` and `τ = 1 + 1 / √n`: the sign that avoids cancellation.
    """

    def __init__(self, size: int) -> None:
        self.size, self.free = size, size - 1
        self._c, self._scale = 1.0 / (1.0 + sqrt(size)), 1.0 + 1.0 / sqrt(size)

    def linear(self, xp: Operations, x: Array) -> Array:
        product = xp.sum(x, 1) * (self._scale * self._c)
        return xp.concat([-product, xp.add(x, product, -self._c)], 1)

    def adjoint(self, xp: Operations, g: Array) -> Array:
        head, tail = g[:, :1], g[:, 1:]
        product = (head + self._c * xp.sum(tail, 1)) * self._scale
        return xp.add(tail, product, -self._c)

    def picked(self, xp: Operations, x: Array) -> Array:
        return self.adjoint(xp, x)


class Eliminated:
    """Entries at pivots follow from all other entries, which are free: `x_p = S x_f`.

    Pivots are chosen by QR with column pivoting, so that the numbers of S stay moderate; `following` are places that
    must become pivots, each of them in a separate equation.
    """

    def __init__(self, basis: Floats, following: Integers) -> None:
        rows, self.size = basis.shape
        self.free = self.size - rows
        first = np.ones(self.size)
        first[following] = PIVOT_WEIGHT
        _, order = lapack.qr(basis * first, mode="r", pivoting=True)
        pivots, free = np.sort(order[:rows]), np.sort(order[rows:])
        self._follow = Constant(-lapack.solve(basis[:, pivots], basis[:, free]) if rows else np.zeros((0, self.size)))
        self._free_places, self._pivots = Constant(free), Constant(pivots)
        self._order = Constant(np.argsort(np.concatenate([free, pivots])))

    def linear(self, xp: Operations, x: Array) -> Array:
        return xp.take(xp.concat([x, _times(xp, self._follow, x)], 1), self._order, 1)

    def adjoint(self, xp: Operations, g: Array) -> Array:
        return self.picked(xp, g) + _times(xp, self._follow, xp.take(g, self._pivots, 1), transposed=True)

    def picked(self, xp: Operations, x: Array) -> Array:
        return xp.take(x, self._free_places, 1)


class EliminatedSum:
    """The last entry of a plain sum follows from the preceding entries, which are free."""

    def __init__(self, size: int) -> None:
        self.size, self.free = size, size - 1

    def linear(self, xp: Operations, x: Array) -> Array:
        return xp.concat([x, -xp.sum(x, 1)], 1)

    def adjoint(self, xp: Operations, g: Array) -> Array:
        return g[:, :-1] - g[:, -1:]

    def picked(self, xp: Operations, x: Array) -> Array:
        return x[:, :-1]


def reflectors(basis: Floats) -> tuple[Floats, Floats]:
    """`V` (k, n, r) and `T` (k, r, r) of the QR factorisations of `basis_kᵀ`, rows of (k, r, n) of norm one or zero."""
    count, rows, size = basis.shape
    if not rows or not count:
        return np.zeros((count, size, rows)), np.zeros((count, rows, rows))
    packed, scales = lapack.batched_qr(basis.swapaxes(1, 2), mode="raw")
    factors = np.tril(packed.swapaxes(1, 2), -1)[..., :rows] + np.eye(size, rows)
    # A reflector of scale 0 is the identity: its vector is set to zero, so that its diagonal does not matter.
    identity_reflectors = scales == 0.0
    factors = np.where(identity_reflectors[:, None, :], 0.0, factors)
    diagonal = np.eye(rows) / np.where(identity_reflectors, 1.0, scales)[:, None]
    inverse = np.triu(factors.swapaxes(1, 2) @ factors, 1) + diagonal
    triangle = np.asarray(lapack.solve(inverse, np.broadcast_to(np.eye(rows), inverse.shape)), np.float64)
    return factors, triangle


def orthonormal(basis: Floats) -> Transform:
    """The orthonormal complement of orthonormal rows."""
    return ReflectedSum(basis.shape[1]) if _even(basis) else Reflected(basis)


def eliminated(basis: Floats, following: Integers) -> Transform:
    """The complement in which each free number is an entry outside `following`."""
    return EliminatedSum(basis.shape[1]) if _even(basis) and not len(following) else Eliminated(basis, following)


def indices(values: Integers) -> Constant:
    """Places as a constant."""
    return Constant(values.astype(np.int64))


def _even(basis: Floats) -> bool:
    return len(basis) == 1 and bool((basis == basis[0, 0]).all())


def _times(xp: Operations, matrix: Constant, x: Array, *, transposed: bool = False) -> Array:
    """`matrix @ x` along the middle axis of (before, ·, after)."""
    wide = xp.exact(x)
    factor = xp.numbers(matrix, wide)
    if x.shape[2] == 1:
        return xp.cast(xp.matmul(wide[:, :, 0], factor if transposed else xp.transposed(factor))[:, :, None], x)
    return xp.cast(xp.matmul(xp.transposed(factor) if transposed else factor, wide), x)
