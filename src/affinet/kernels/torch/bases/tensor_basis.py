"""The operations of bases on tensors, and the basis of a block as a map of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from affinet.blocks.kinds import AnyLinear
from affinet.kernels.bases.basis import Basis, Kind
from affinet.kernels.bases.choosing import basis_of as library_basis_of
from affinet.kernels.bases.operations import Constant
from affinet.kernels.torch.bases.summing import class_sums
from affinet.kernels.torch.bases.tensor_constants import constant_like, index_like
from affinet.kernels.torch.precision import exact_matmul, irregular_dtype
from affinet.plans.plan import Plan


class TensorOperations:
    """`affinet.kernels.bases.operations.Operations` on tensors, which autograd, torch.func and the compiler support."""

    def numbers(self, constant: Constant, like: Tensor) -> Tensor:
        return constant_like(constant, like)

    def take(self, x: Tensor, places: Constant, axis: int) -> Tensor:
        return x.index_select(axis, index_like(places, x))

    def concat(self, arrays: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(tuple(arrays), axis)

    def split(self, x: Tensor, sizes: Sequence[int], axis: int) -> tuple[Tensor, ...]:
        pieces: tuple[Tensor, ...] = x.split(list(sizes), axis)
        return pieces

    def permute(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.permute(tuple(axes))

    def flip(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.flip(tuple(axes))

    def sum(self, x: Tensor, axis: int) -> Tensor:
        return x.sum(axis, keepdim=True)

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.matmul(x, y)

    def transposed(self, x: Tensor) -> Tensor:
        return x.mT

    def add(self, x: Tensor, y: Tensor, factor: float) -> Tensor:
        return torch.add(x, y, alpha=factor)

    def zeros(self, size: int, like: Tensor) -> Tensor:
        return like.new_zeros(size)

    def expand(self, z: Tensor, class_of: Constant) -> Tensor:
        return z.index_select(0, index_like(class_of, z))

    def class_sums(self, x: Tensor, class_of: Constant, count: int) -> Tensor:
        return class_sums(x, class_of, count)

    def exact(self, x: Tensor) -> Tensor:
        return exact_matmul(x)

    def widest(self, x: Tensor) -> Tensor:
        return x.to(irregular_dtype(x.device))

    def cast(self, x: Tensor, like: Tensor) -> Tensor:
        return x.to(like.dtype)

    def hold(self, x: Tensor) -> Tensor:
        return x


TENSORS = TensorOperations()


class TensorBasis:
    """The basis of a block for tensors; the methods are those of `Basis`."""

    def __init__(self, basis: Basis) -> None:
        self._basis, self.free, self.places = basis, basis.free, basis.places

    @property
    def basis(self) -> Basis:
        """The basis for the arrays of any library."""
        return self._basis

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        """`N v`, flat, one tensor per place."""
        return self._basis.linear(TENSORS, v)

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """`Nᵀ g` of shape (free,). Law: `⟨adjoint(g), v⟩ == ⟨g, linear(v)⟩`."""
        adjoint: Tensor = self._basis.adjoint(TENSORS, gradients)
        return adjoint

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        """The v of entries `N v`. Law: `picked(linear(v)) == v`."""
        picked: Tensor = self._basis.picked(TENSORS, entries)
        return picked


def basis_of(block: AnyLinear, kind: Kind, plan: Plan) -> TensorBasis:
    """The basis of a block, as `affinet.kernels.bases.choosing.basis_of`, for tensors."""
    return TensorBasis(library_basis_of(block, kind, plan))
