"""The best torch code we could write by hand for the rules of each workload: what affinet is compared with.

Every function gets the weights once, sets up what can be known beforehand, and returns the two passes of a training
step. What was tried and lost is said where it matters; times are medians on two cores, 2048 × 2048 float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from benchmarks.workload import ByHand, HandWritten, Tensors

NOISE = 32 * torch.finfo(torch.float32).eps / 2
"""`P g` is rounding where `|P g| ≤ 32 u (|g| + rms g)`, as in affinet: under Adam it would walk otherwise."""
ROWS_AT_ONCE = 256
"""Rows of a pass that needs temporaries: they then stay in the cache (13 ms whole, 9 ms so)."""


def rows(*names: str, total: float) -> HandWritten:
    """Every row of the named matrices sums to `total`."""

    def project_(w: Tensors) -> None:
        for name in names:
            W = w[name]
            W.sub_(W.mean(1, keepdim=True).sub_(total / W.shape[1]))

    def gradient_(g: Tensors) -> None:
        for name in names:
            for part in g[name].split(ROWS_AT_ONCE) if g[name].device.type == "cpu" else (g[name],):
                level = _level(part, torch.linalg.vector_norm(part, dim=1, keepdim=True), part.shape[1])
                _silence_(part.sub_(part.mean(1, keepdim=True)), level)

    return lambda w: ByHand(project_, gradient_)


def rows_and_columns(name: str, total: float) -> HandWritten:
    """Rows and columns of a square matrix sum to `total`.

    Columns are summed while a slab of rows is in the cache: 2.7 ms; four whole passes take 4.5, a rank-2 `addmm_` 3.2.
    """

    def tangent_(W: Tensor, shift: float) -> None:
        columns = torch.zeros_like(W[:1])
        for part in W.split(ROWS_AT_ONCE) if W.device.type == "cpu" else (W,):
            part.sub_(part.mean(1, keepdim=True).sub_(shift))
            columns += part.sum(0, keepdim=True)
        W.sub_(columns.div_(len(W)).sub_(shift))

    def gradient_(g: Tensors) -> None:
        G = g[name]
        level = _level(G, torch.linalg.vector_norm(G), G.numel())
        tangent_(G, 0.0)
        _silence_(G, level)

    return lambda w: ByHand(lambda w: tangent_(w[name], total / len(w[name])), gradient_)


def symmetric_without_diagonal(name: str) -> HandWritten:
    """`W == W.T` and a zero diagonal, with one buffer that is kept."""

    def make(w: Tensors) -> ByHand:
        buffer = torch.empty_like(w[name])

        def project_(w: Tensors) -> None:
            W = w[name]
            buffer.copy_(W.T)
            W.add_(buffer).mul_(0.5).diagonal().zero_()

        def gradient_(g: Tensors) -> None:
            G = g[name]
            buffer.copy_(G.T)
            level = buffer.abs().add_(G.abs()).mul_(NOISE)  # symmetric to the bit, so that what is silenced is too
            _silence_(G.add_(buffer).mul_(0.5), level)
            G.diagonal().zero_()

        return ByHand(project_, gradient_)

    return make


def classes(name: str, class_of: np.ndarray) -> HandWritten:
    """Entries of one class are equal: class means in float64 by `scatter_add_`, back by `index_select`.

    int64 numbers for both: `scatter_add_` takes no others, and int32 gains nothing. `index_add_` takes 1.5 to 2 times
    as long, a CSR product the same, sorted segments 4 times. In float32 the mean of a large class is wrong.
    """

    def make(w: Tensors) -> ByHand:
        device = w[name].device
        numbers = torch.as_tensor(class_of.ravel(), device=device)
        count = int(numbers.max()) + 1
        sizes = torch.bincount(numbers, minlength=count).clamp_(min=1).double()
        sums = torch.zeros(count, dtype=torch.float64, device=device)

        def mean(x: Tensor) -> Tensor:
            return sums.zero_().scatter_add_(0, numbers, x.double()) / sizes

        def project_(w: Tensors) -> None:
            w[name].view(-1).copy_(mean(w[name].view(-1)).float().index_select(0, numbers))

        def gradient_(g: Tensors) -> None:
            flat = g[name].view(-1)
            level = mean(flat.square()).sqrt_().mul_(2 * NOISE)
            means = _silence_(mean(flat), level)
            flat.copy_(means.float().index_select(0, numbers))

        return ByHand(project_, gradient_)

    return make


def masked(name: str, kept: np.ndarray) -> HandWritten:
    """Everything outside a mask is zero: both passes multiply by the mask as float32.

    `masked_fill_` with a random bool mask takes ten times as long, a product with a bool mask eight times.
    """

    def make(w: Tensors) -> ByHand:
        mask = torch.as_tensor(kept, dtype=torch.float32, device=w[name].device)

        def keep_(x: Tensors) -> None:
            x[name].mul_(mask)

        return ByHand(keep_, keep_)

    return make


def frozen_rows(name: str, before: Tensor) -> HandWritten:
    """The first rows stay what they were: their gradients are set to zero, and they are copied back after the step."""

    def make(w: Tensors) -> ByHand:
        values = before.to(w[name].device)

        def project_(w: Tensors) -> None:
            w[name][: len(values)].copy_(values)

        def gradient_(g: Tensors) -> None:
            g[name][: len(values)].zero_()

        return ByHand(project_, gradient_)

    return make


def dense(name: str, A: np.ndarray, b: float) -> HandWritten:
    """`A @ w[: n] == b`: orthonormal rows by one QR in float64, applied in float32, twice through memory each time."""

    def make(w: Tensors) -> ByHand:
        Q, R = torch.linalg.qr(torch.as_tensor(A, dtype=torch.float64).T)
        right = torch.full((len(A), 1), b, dtype=torch.float64)
        target = torch.linalg.solve_triangular(R.T, right, upper=False)[:, 0]
        rows, target = Q.T.float().contiguous().to(w[name].device), target.float().to(w[name].device)

        def project_(w: Tensors) -> None:
            flat = w[name].view(-1)[: A.shape[1]]
            flat.sub_((rows @ flat).sub_(target) @ rows)

        def gradient_(g: Tensors) -> None:
            flat = g[name].view(-1)[: A.shape[1]]
            level = _level(flat, torch.linalg.vector_norm(flat), flat.numel())
            _silence_(flat.sub_((rows @ flat) @ rows), level)

        return ByHand(project_, gradient_)

    return make


def sparse_equations(name: str, entries: np.ndarray, coefficients: np.ndarray, b: np.ndarray) -> HandWritten:
    """`Σ_k coefficients[i, k] · w[entries[i, k]] == b[i]`, by conjugate gradients on `A Aᵀ`, rows scaled to norm one.

    A holds only the columns that occur, so that a pass gathers them once. Of a triangular factor of `A Aᵀ` we tried
    SuperLU: twice as slow where all components are small, and it does not come back on one giant component.
    """

    def make(w: Tensors) -> ByHand:
        device = w[name].device
        touched, local = np.unique(entries, return_inverse=True)
        count, terms = entries.shape
        A = sparse.csr_array((coefficients.ravel(), local.ravel(), np.arange(0, count * terms + 1, terms)))
        A.sum_duplicates()
        norms = np.sqrt(np.asarray(A.multiply(A).sum(axis=1)).ravel())
        A = sparse.csr_array(sparse.diags_array(1 / norms) @ A)
        rows, columns = _csr(A, device), _csr(sparse.csr_array(A.T), device)
        where = torch.as_tensor(touched, device=device)
        target = torch.as_tensor(b / norms, dtype=torch.float64, device=device)

        def normal(gap: Tensor) -> Tensor:
            return columns @ _conjugate_gradients(lambda y: rows @ (columns @ y), gap)

        def project_(w: Tensors) -> None:
            flat = w[name].view(-1)
            x = flat.index_select(0, where).double()
            flat.index_copy_(0, where, (x - normal(rows @ x - target)).float())

        def gradient_(g: Tensors) -> None:
            flat = g[name].view(-1)
            x = flat.index_select(0, where).double()
            level = _level(x, torch.linalg.vector_norm(x), x.numel())
            flat.index_copy_(0, where, _silence_(x - normal(rows @ x), level).float())

        return ByHand(project_, gradient_)

    return make


def transposed(first: str, second: str) -> HandWritten:
    """`second == first.T`."""

    def make(w: Tensors) -> ByHand:
        buffer = torch.empty_like(w[first])

        def project_(w: Tensors) -> None:
            buffer.copy_(w[second].T)
            w[first].add_(buffer).mul_(0.5)
            w[second].copy_(w[first].T)

        def gradient_(g: Tensors) -> None:
            buffer.copy_(g[second].T)
            level = buffer.abs().add_(g[first].abs()).mul_(NOISE)
            _silence_(g[first].add_(buffer).mul_(0.5), level)
            g[second].copy_(g[first].T)

        return ByHand(project_, gradient_)

    return make


def tie_and_rows(tied: str, one: Any, other: Any, matrix: str, total: float) -> HandWritten:
    """`tied[one] == tied[other]`, and every row of `matrix` sums to `total`."""
    inner = rows(matrix, total=total)

    def make(w: Tensors) -> ByHand:
        sums = inner(w)

        def mean_(w: Tensors) -> None:
            W = w[tied]
            a, b = W[one], W[other]
            a.add_(b).mul_(0.5)
            b.copy_(a)

        def project_(w: Tensors) -> None:
            mean_(w)
            sums.project_(w)

        def gradient_(g: Tensors) -> None:
            G = g[tied]
            level = (G[one].abs() + G[other].abs()) * NOISE
            mean_(g)
            _silence_(G[one], level)
            G[other].copy_(G[one])
            sums.gradient_(g)

        return ByHand(project_, gradient_)

    return make


def simplex_rows(name: str, total: float) -> HandWritten:
    """Rows with entries of at least zero that sum to `total`: by sorting each row (Held, Wolfe, Crowder 1974).

    There is no gradient pass by hand: which entries stay at zero is what a landing finds.
    """

    def make(w: Tensors) -> ByHand:
        ranks = torch.arange(1, w[name].shape[1] + 1, dtype=w[name].dtype, device=w[name].device)

        def project_(w: Tensors) -> None:
            W = w[name]
            falling = W.sort(dim=1, descending=True).values
            excess = falling.cumsum(1).sub_(total)
            positive = (falling * ranks > excess).sum(1, keepdim=True)
            threshold = excess.gather(1, positive - 1).div_(positive)
            W.sub_(threshold).clamp_(min=0)

        return ByHand(project_, lambda g: None)

    return make


def _level(x: Tensor, norm: Tensor, count: int) -> Tensor:
    """`NOISE · (|x| + rms)`, with one temporary of the size of x."""
    return x.abs().mul_(NOISE).add_(norm * (NOISE / sqrt(count)))


def _silence_(x: Tensor, level: Tensor) -> Tensor:
    return x.masked_fill_(x.abs() <= level, 0.0)


def _csr(A: sparse.csr_array, device: torch.device) -> Tensor:
    A.sort_indices()
    kind = np.int32 if device.type == "cpu" else np.int64  # MKL takes int32 as they are and copies int64
    indptr, indices = (torch.as_tensor(part.astype(kind)) for part in (A.indptr, A.indices))
    values = torch.as_tensor(A.data, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)  # torch: "in beta state"
        return torch.sparse_csr_tensor(indptr, indices, values, size=A.shape, check_invariants=True).to(device)


def _conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, accuracy: float = 1e-9) -> Tensor:
    """Source: Golub & Van Loan, 4th ed., 11.3. The residual is looked at every fourth step: a look is a host sync."""
    y, residual, direction = torch.zeros_like(right), right.clone(), right.clone()
    size = residual.dot(residual)
    least = size * accuracy**2
    for step in range(1000):
        if step % 4 == 0 and bool(size <= least):
            break
        image = product(direction)
        along = size / direction.dot(image)
        y.addcmul_(along, direction)
        residual.addcmul_(along, image, value=-1)
        size, before = residual.dot(residual), size
        direction.mul_(size / before).add_(residual)
    return y
