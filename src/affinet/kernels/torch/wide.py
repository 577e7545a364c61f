"""A kernel of one component of many equations over many entries, whose basis is too large for float64 and the cache."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.dense import Dense
from affinet.kernels.torch.access import Gathered, Tensors
from affinet.kernels.torch.kernel import Kernel, State, not_in_place
from affinet.kernels.torch.looped import WIDTHS, Looped, OnArrays
from affinet.kernels.torch.precision import exact_matmul, mean_norm, regular_dtype_of, silenced
from affinet.kernels.torch.small_tables import not_small

FEWEST_NUMBERS = 2**20
"""Numbers of a basis from which on it is stored in the dtype of the weights; smaller bases are stored in float64."""
BLOCK_BYTES = 2 * 2**20
"""Bytes of the rows that are processed at a time on a CPU: 1.6 and 3.2 MB were equally fast, all rows at once took 1.3
times as long (500 × 100,000 in float32)."""
CHUNK = 8_192
"""Entries whose contributions to the system in a metric are computed at a time, in float64."""


class WideKernel:
    """`y − Qᵀ(Q y − target)` in the dtype of the weights, one block of rows of Q at a time.

    Law: rows of Q are orthonormal in float64, so that each block contributes to the move independently of the others,
    and rounding is that of the dtype relative to the entries, as small after many steps as after one. A block is read
    from memory once and from the cache once; computing all of `Q y` first would read Q from memory twice.
    """

    settle = not_in_place
    tables = not_small

    def __init__(self, block: Dense, tensors: Mapping[str, Tensor]) -> None:
        dtype = regular_dtype_of(tensors[part.parameter.name] for part in block.parts)
        device = tensors[block.parts[0].parameter.name].device
        self._access = Gathered(block.parts, device, dtype=dtype)
        self.names = self._access.names
        self._basis = torch.as_tensor(block.basis[0], dtype=dtype, device=device)
        self._target = torch.as_tensor(block.target[0], dtype=dtype, device=device)
        rows = len(self._basis)
        if device.type == "cpu":
            rows = max(1, BLOCK_BYTES // (self._basis.shape[1] * dtype.itemsize))
        self._blocks = list(zip(self._basis.split(rows), self._target.split(rows), strict=True))

    @staticmethod
    def fits(block: Dense) -> bool:
        """Whether it is one large component of untied entries, in the order of its parts."""
        classes, size = block.classes, block.members.shape[1]
        plain = classes.plain and bool((classes.scale == 1.0).all()) and not classes.shift.any()
        if not plain or len(block.members) > 1 or block.basis.size < FEWEST_NUMBERS:
            return False
        return np.array_equal(classes.representative[block.members[0]], np.arange(size))

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        if not compiled or like.dtype not in WIDTHS:
            return self
        return Looped(self, OnArrays(self.names[0], WideRows(self._basis.numpy(), self._target.numpy())))

    def read(self, tensors: Tensors) -> Tensor:
        return self._access.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._access.write(tensors, values)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._moved(x, affine=True), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        ease = metric.reciprocal()
        system = torch.zeros(len(self._target), len(self._target), dtype=torch.float64, device=x.device)
        gap = -self._target.double()
        for columns, eased, y in zip(self._basis.split(CHUNK, 1), ease.split(CHUNK), x.split(CHUNK), strict=True):
            basis = columns.double()
            system.addmm_(basis * eased, basis.T)
            gap.addmv_(basis, y.double())
        solved = torch.linalg.solve(system, gap).to(x.dtype)
        return x - ease * (exact_matmul(solved) @ exact_matmul(self._basis)).to(x.dtype)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        noise = torch.add(mean_norm(x, None, x.numel(), floor), self.noise(x), alpha=floor) if floor else None
        tangent = self._moved(x, affine=False)
        return tangent if noise is None else silenced(tangent, noise), state

    def noise(self, x: Tensor) -> Tensor:
        return x.abs()

    def _moved(self, x: Tensor, *, affine: bool) -> Tensor:
        """`x − Σ basisᵀ(basis x − target)` over all blocks.

        The sum is accumulated separately: subtracting block by block would round the entries a hundred times.
        """
        wide = exact_matmul(x)
        normal = torch.zeros_like(wide)
        for block, target in self._blocks:
            basis = exact_matmul(block)
            gap = basis @ wide
            normal.addmv_(basis.T, gap - target if affine else gap)
        return (wide - normal).to(x.dtype)


class WideRows:
    """A loop over the rows of a large basis: it reads each row from memory once, where two products read it twice."""

    def __init__(self, basis: np.ndarray, target: np.ndarray) -> None:
        from affinet.kernels.loops import basis_rows, openmp

        self._run, self._team = basis_rows.wide, openmp.team
        self._basis, self._target = basis, target
        self._nothing = np.zeros_like(self._target)

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        target = self._target if affine else self._nothing
        self._run(x, self._basis, target, quiet, self._team(self._basis.size, threads))
