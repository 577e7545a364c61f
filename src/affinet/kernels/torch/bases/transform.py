"""Transforms along one axis of a box that compute its entries from its free numbers, the same in every cell."""

from __future__ import annotations

from math import sqrt
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from affinet.kernels.torch.bases.basis import Constant
from affinet.kernels.torch.precision import exact_matmul
from affinet.language.calculus.terms import Floats, Integers
from affinet.system import lapack

PIVOT_WEIGHT = 1e6
"""Factor by which columns that must become pivots are scaled before pivoting."""


class Transform(Protocol):
    """A matrix with `size` rows and `free` columns, applied along the middle axis of (before, ·, after)."""

    size: int
    free: int

    def linear(self, x: Tensor) -> Tensor:
        """From (before, free, after) to (before, size, after)."""

    def adjoint(self, g: Tensor) -> Tensor:
        """From (before, size, after) to (before, free, after)."""

    def picked(self, x: Tensor) -> Tensor:
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

    def linear(self, x: Tensor) -> Tensor:
        products = _times(self._triangle, _times(self._tail, x, transposed=True))
        return torch.cat([-_times(self._head, products), x - _times(self._tail, products)], 1)

    def adjoint(self, g: Tensor) -> Tensor:
        rows = self.size - self.free
        head, tail = g[:, :rows], g[:, rows:]
        products = _times(self._head, head, transposed=True) + _times(self._tail, tail, transposed=True)
        return tail - _times(self._tail, _times(self._triangle, products, transposed=True))

    def picked(self, x: Tensor) -> Tensor:
        return self.adjoint(x)


class ReflectedSum:
    """Orthonormal complement of one row of equal numbers: a single reflector with a known vector, in O(size).

    `v = (1, c, …, c)` with `c = 1 / (1 + √n)` and `τ = 1 + 1 / √n`: the sign that avoids cancellation.
    """

    def __init__(self, size: int) -> None:
        self.size, self.free = size, size - 1
        self._c, self._scale = 1.0 / (1.0 + sqrt(size)), 1.0 + 1.0 / sqrt(size)

    def linear(self, x: Tensor) -> Tensor:
        product = x.sum(1, keepdim=True) * (self._scale * self._c)
        return torch.cat([-product, torch.sub(x, product, alpha=self._c)], 1)

    def adjoint(self, g: Tensor) -> Tensor:
        head, tail = g[:, :1], g[:, 1:]
        product = (head + self._c * tail.sum(1, keepdim=True)) * self._scale
        return torch.sub(tail, product, alpha=self._c)

    def picked(self, x: Tensor) -> Tensor:
        return self.adjoint(x)


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

    def linear(self, x: Tensor) -> Tensor:
        return torch.cat([x, _times(self._follow, x)], 1).index_select(1, self._order.index(x))

    def adjoint(self, g: Tensor) -> Tensor:
        return self.picked(g) + _times(self._follow, g.index_select(1, self._pivots.index(g)), transposed=True)

    def picked(self, x: Tensor) -> Tensor:
        return x.index_select(1, self._free_places.index(x))


class EliminatedSum:
    """The last entry of a plain sum follows from the preceding entries, which are free."""

    def __init__(self, size: int) -> None:
        self.size, self.free = size, size - 1

    def linear(self, x: Tensor) -> Tensor:
        return torch.cat([x, -x.sum(1, keepdim=True)], 1)

    def adjoint(self, g: Tensor) -> Tensor:
        return g[:, :-1] - g[:, -1:]

    def picked(self, x: Tensor) -> Tensor:
        return x[:, :-1]


def reflectors(basis: Floats) -> tuple[Floats, Floats]:
    """`V` (k, n, r) and `T` (k, r, r) of the QR factorisations of `basis_kᵀ`, rows of (k, r, n) of norm one or zero."""
    count, rows, size = basis.shape
    if not rows or not count:
        return np.zeros((count, size, rows)), np.zeros((count, rows, rows))
    packed, scales = torch.geqrf(torch.from_numpy(np.ascontiguousarray(basis)).mT)
    factors = packed.tril(-1)[..., :rows]
    factors.diagonal(dim1=1, dim2=2).fill_(1.0)
    # A reflector of scale 0 is the identity: its vector is set to zero, so that its diagonal does not matter.
    identity_reflectors = scales == 0.0
    factors = torch.where(identity_reflectors[:, None, :], 0.0, factors)
    inverse = (factors.mT @ factors).triu(1) + torch.diag_embed(1.0 / torch.where(identity_reflectors, 1.0, scales))
    identity = torch.eye(rows, dtype=torch.float64).expand(count, -1, -1)
    return factors.numpy(), torch.linalg.solve_triangular(inverse, identity, upper=True).numpy()


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


def _times(matrix: Constant, x: Tensor, *, transposed: bool = False) -> Tensor:
    """`matrix @ x` along the middle axis of (before, ·, after)."""
    wide = exact_matmul(x)
    factor = matrix.like(wide)
    factor = factor.mT if transposed else factor
    if x.shape[2] == 1:
        return (wide[:, :, 0] @ factor.mT)[:, :, None].to(x.dtype)
    return torch.matmul(factor, wide).to(x.dtype)
