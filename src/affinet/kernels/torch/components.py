"""Components that ties and slices do not cover: batched dense factors, or one sparse system."""

from __future__ import annotations

import warnings
from math import sqrt
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from affinet.kernels.torch.access import Gathered, Tensors
from affinet.kernels.torch.classes import ClassMap
from affinet.kernels.torch.precision import exact_matmul, irregular_dtype, silenced
from affinet.structure.blocks import Dense, Sparse

LARGEST_FACTOR = 20_000
"""Equations up to which a sparse Cholesky-like factor is kept; more are solved by conjugate gradients."""
MOST_ITERATIONS = 1_000


class Unknowns:
    """The free numbers of a component, as y = √D z: entries where nothing is tied, one number a class where it is."""

    def __init__(self, block: Dense | Sparse, order: np.ndarray, device: torch.device) -> None:
        classes = block.classes
        plain = classes.plain and (classes.scale == 1.0).all() and not classes.shift.any()
        self._access = Gathered(block.parts, device, classes.representative[order] if plain else None)
        self._map = None if plain else ClassMap(classes, order, device)
        self.names = self._access.names

    def read(self, tensors: Tensors) -> Tensor:
        return self._access.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._access.write(tensors, values)

    def reduced(self, x: Tensor, *, affine: bool) -> Tensor:
        return x if self._map is None else self._map.reduced(x, affine=affine) * self._map.weight.sqrt()

    def reduced_in_metric(self, x: Tensor, metric: Tensor) -> tuple[Tensor, Tensor]:
        """Y nearest in the metric of the entries, and how little each y resists (the inverse of its own metric)."""
        if self._map is None:
            return x, metric.reciprocal()
        z, weight = self._map.reduced_in_metric(x, metric)
        return z * self._map.weight.sqrt(), self._map.weight / weight

    def expanded(self, y: Tensor, *, affine: bool) -> Tensor:
        return y if self._map is None else self._map.expanded(y / self._map.weight.sqrt(), affine=affine)

    def mean_squares(self, x: Tensor) -> Tensor:
        """Mean square of the entries of each unknown."""
        return x.square() if self._map is None else self._map.summed(x.square()) / self._map.sizes

    def spread(self, values: Tensor) -> Tensor:
        """A number for each unknown, given to all of its entries."""
        return values if self._map is None else values.index_select(0, self._map.class_of)


class DenseKernel:
    """Many components of one form, one batched product each way."""

    def __init__(self, block: Dense, device: torch.device) -> None:
        self._unknowns = Unknowns(block, block.members.ravel(), device)
        self.names = self._unknowns.names
        dtype = irregular_dtype(device)
        self._shape = block.members.shape
        self._basis = torch.as_tensor(block.basis, dtype=dtype, device=device)
        self._target = torch.as_tensor(block.target, dtype=dtype, device=device)

    def read(self, tensors: Tensors) -> Tensor:
        return self._unknowns.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._unknowns.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        y = self._unknowns.reduced(x, affine=True).view(self._shape)
        y = y - self._across(self._along(y) - self._target)
        return self._unknowns.expanded(y.reshape(-1), affine=True)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        y, ease = (part.view(self._shape) for part in self._unknowns.reduced_in_metric(x, metric))
        system = (self._basis * ease[:, None, :]) @ self._basis.transpose(1, 2)
        # A component of smaller rank than others of its form has rows of zeros; they must not make its system singular.
        empty = (self._basis.abs().amax(2) == 0).to(y.dtype)
        gap = torch.linalg.solve(system + torch.diag_embed(empty), (self._along(y) - self._target)[..., None])[..., 0]
        return self._unknowns.expanded((y - ease * self._across(gap)).reshape(-1), affine=True)

    def tangent(self, x: Tensor) -> Tensor:
        y = self._unknowns.reduced(x, affine=False).view(self._shape)
        y = y - self._across(self._along(y))
        return self._unknowns.expanded(y.reshape(-1), affine=False)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        squares = self._unknowns.mean_squares(x).view(self._shape)
        noise = squares.sqrt() + squares.mean(1, keepdim=True).sqrt_()
        return silenced(self.tangent(x), self._unknowns.spread(noise.mul_(floor).reshape(-1)))

    def _along(self, y: Tensor) -> Tensor:
        if len(self._basis) == 1:
            return (exact_matmul(self._basis[0]) @ exact_matmul(y[0]))[None].to(y.dtype)
        if self._basis.shape[1] == 1:
            return (self._basis[:, 0] * y).sum(1, keepdim=True)
        return torch.bmm(exact_matmul(self._basis), exact_matmul(y)[:, :, None])[:, :, 0].to(y.dtype)

    def _across(self, gap: Tensor) -> Tensor:
        if len(self._basis) == 1:
            return (exact_matmul(gap[0]) @ exact_matmul(self._basis[0]))[None].to(gap.dtype)
        if self._basis.shape[1] == 1:
            return self._basis[:, 0] * gap
        return torch.bmm(exact_matmul(gap)[:, None], exact_matmul(self._basis))[:, 0].to(gap.dtype)


class SparseKernel:
    """One large component: `y − Aᵀ (A Aᵀ)⁺ (A y − b)` by a sparse factor, or by conjugate gradients.

    Source: normal equations of the second kind; conjugate gradients on a consistent semidefinite system converge to
    the minimum-norm step (Björck, Numerical Methods for Least Squares Problems, 7.4). One refinement.
    """

    def __init__(self, block: Sparse, device: torch.device) -> None:
        self._unknowns = Unknowns(block, np.arange(block.classes.count), device)
        self.names = self._unknowns.names
        dtype = irregular_dtype(device)
        self._matrix, self._transposed = (_on_device(m, dtype, device) for m in (block.matrix, block.matrix.T))
        self._squares = _on_device(block.matrix * block.matrix, dtype, device)
        self._rhs = torch.as_tensor(block.rhs, dtype=dtype, device=device)
        factored = block.independent and device.type == "cpu" and block.matrix.shape[0] <= LARGEST_FACTOR
        self._rows = sparse.csr_array(block.matrix) if factored else None
        self._factor = _factored(self._rows, np.ones(block.matrix.shape[1])) if factored else None

    def read(self, tensors: Tensors) -> Tensor:
        return self._unknowns.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._unknowns.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        y = self._unknowns.reduced(x, affine=True)
        for _ in range(2):
            y = y - self._transposed @ self._solved(self._matrix @ y - self._rhs, y)
        return self._unknowns.expanded(y, affine=True)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        y, ease = self._unknowns.reduced_in_metric(x, metric)
        # Factored anew at each step where that can be: on ill-conditioned rows conjugate gradients stop far away.
        factor = None if self._rows is None else _factored(self._rows, ease.numpy())
        for _ in range(2):
            gap = self._matrix @ y - self._rhs
            if factor is None:
                size = float(torch.linalg.vector_norm(y)) + float(torch.linalg.vector_norm(gap))
                solved = self._conjugate_gradients(gap, size, ease)
            else:
                solved = torch.from_numpy(factor.solve(gap.numpy()))
            y = y - ease * (self._transposed @ solved)
        return self._unknowns.expanded(y, affine=True)

    def tangent(self, x: Tensor) -> Tensor:
        y = self._unknowns.reduced(x, affine=False)
        y = y - self._transposed @ self._solved(self._matrix @ y, y)
        return self._unknowns.expanded(y, affine=False)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        squares = self._unknowns.mean_squares(x)
        noise = self._unknowns.spread((squares.sqrt() + squares.mean().sqrt()).mul_(floor))
        return silenced(self.tangent(x), noise)

    def _solved(self, gap: Tensor, y: Tensor) -> Tensor:
        if self._factor is not None:
            return torch.from_numpy(self._factor.solve(gap.numpy()))
        return self._conjugate_gradients(gap, float(torch.linalg.vector_norm(y)) + float(torch.linalg.vector_norm(gap)))

    def _conjugate_gradients(self, gap: Tensor, size: float, ease: Tensor | None = None) -> Tensor:
        """Solve `A diag(ease) Aᵀ u = gap` to rounding relative to `size`.

        Rows of A have norm one, so that only a metric needs a preconditioner: the diagonal.
        """
        diagonal = torch.ones_like(gap) if ease is None else self._squares @ ease
        u, r = torch.zeros_like(gap), gap.clone()
        p = r / diagonal
        rho, bound = float(r @ p), (torch.finfo(gap.dtype).eps * size) ** 2
        for _ in range(MOST_ITERATIONS):
            if float(r @ r) <= bound:
                return u
            back = self._transposed @ p
            q = self._matrix @ (back if ease is None else ease * back)
            step = rho / float(p @ q)
            u, r = u + step * p, r - step * q
            eased = r / diagonal
            fresh = float(r @ eased)
            p, rho = eased + (fresh / rho) * p, fresh
        rho = float(r @ r)
        if rho > 1e8 * bound:
            warnings.warn(
                f"conjugate gradients stopped after {MOST_ITERATIONS} iterations with a residual of {sqrt(rho):.2g} "
                f"on a component of {len(gap):,} equations; its rules hold only to about that.",
                RuntimeWarning,
                stacklevel=2,
            )
        return u


def _factored(rows: sparse.csr_array, ease: np.ndarray) -> Any:
    """The factor of `A diag(ease) Aᵀ`."""
    eased = rows.multiply(ease[None]).tocsr()
    return splu((eased @ rows.T).tocsc(), permc_spec="MMD_AT_PLUS_A")


def _on_device(matrix: sparse.csr_array, dtype: torch.dtype, device: torch.device) -> Tensor:
    rows = sparse.csr_array(matrix)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        return torch.sparse_csr_tensor(
            torch.as_tensor(rows.indptr.astype(np.int64)),
            torch.as_tensor(rows.indices.astype(np.int64)),
            torch.as_tensor(rows.data),
            size=rows.shape,
            dtype=dtype,
            device=device,
            check_invariants=False,  # said, because torch warns where nothing is
        )
