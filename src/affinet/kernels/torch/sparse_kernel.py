"""A kernel of one large component, by a sparse factor where that is small enough, else by conjugate gradients."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from affinet.blocks.sparse import Sparse, factored
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.conjugate_gradients import NormalEquations
from affinet.kernels.torch.dense_kernel import Unknowns
from affinet.kernels.torch.kernel import State, not_in_place, without_loops
from affinet.kernels.torch.precision import irregular_dtype, mean_norm, regular_dtype_of, silenced
from affinet.kernels.torch.small_tables import not_small

_WARNING_LOCK = Lock()


class SparseKernel:
    """`y − Aᵀ (A Aᵀ)⁺ (A y − b)` in float64, by a sparse factor and one refinement, or by conjugate gradients.

    Gradients change little from step to step, and so do the moves of the weights: conjugate gradients start from the
    previous solution of the same verb, which is the state. Bits therefore depend on previous steps, below the rounding
    of the weights, until the state is dropped.
    """

    settle = not_in_place
    with_loops = without_loops
    tables = not_small

    def __init__(self, block: Sparse, tensors: Mapping[str, Tensor]) -> None:
        device = tensors[block.parts[0].parameter.name].device
        self._unknowns = Unknowns(block, np.arange(block.classes.count), device)
        self.names = self._unknowns.names
        dtype = irregular_dtype(device)
        direct = block.factored and device.type == "cpu"
        self._coefficients = _coefficients(block.matrix, dtype, device, direct=direct)
        self._matrix, self._transposed = self._coefficients.matrix, self._coefficients.transposed
        self._factor = self._coefficients.factor
        self._rhs = torch.as_tensor(block.rhs, dtype=dtype, device=device)
        rows = sparse.csr_array(block.matrix)
        self._rows = rows if direct else None
        self._equations: NormalEquations | None = None
        if not direct:
            squares, gram = (on_device(m, dtype, device) for m in (rows * rows, rows @ rows.T))
            epsilon = torch.finfo(regular_dtype_of(tensors[part.parameter.name] for part in block.parts)).eps
            self._equations = NormalEquations(
                self._matrix, self._transposed, squares, gram, epsilon=epsilon, independent=block.independent
            )

    def read(self, tensors: Tensors) -> Tensor:
        return self._unknowns.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._unknowns.write(tensors, values)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        solutions = state or Solutions()
        y, start = self._unknowns.reduced(x, affine=True), solutions.land
        for _ in range(2):
            solved, start = self._solved(self._matrix @ y - self._rhs, y, start)
            y = y - self._transposed @ solved
        return self._unknowns.expanded(y, affine=True), self._state(solutions._replace(land=start))

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        y, ease = self._unknowns.reduced_in_metric(x, metric)
        # Factored again at each step where possible: for ill-conditioned rows conjugate gradients stop far away.
        factor = None if self._rows is None else factored(self._rows, ease.numpy())
        for _ in range(2):
            gap = self._matrix @ y - self._rhs
            if self._equations is not None:
                solved = self._equations.solve(gap, _size(y, gap), ease)
            else:
                assert factor is not None
                solved = torch.from_numpy(factor.solve(gap.numpy()))
            y = y - ease * (self._transposed @ solved)
        return self._unknowns.expanded(y, affine=True)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        solutions, noise = state or Solutions(), None
        if floor:
            sizes = self._unknowns.sizes(x)
            noise = torch.add(mean_norm(sizes, None, sizes.numel(), floor), sizes, alpha=floor)
        y = self._unknowns.reduced(x, affine=False)
        solved, start = self._solved(self._matrix @ y, y, solutions.tangent)
        tangent = self._unknowns.expanded(y - self._transposed @ solved, affine=False)
        if noise is not None:
            silenced(tangent, self._unknowns.spread(noise))
        return tangent, self._state(solutions._replace(tangent=start))

    def noise(self, x: Tensor) -> Tensor:
        return self._unknowns.spread(self._unknowns.sizes(x))

    def _state(self, solutions: Solutions) -> State:
        return None if self._equations is None else solutions

    def _solved(self, gap: Tensor, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The solution, and the start of the next solution."""
        if self._equations is None:
            assert self._factor is not None
            return torch.from_numpy(self._factor.solve(gap.numpy())), None
        solved = self._equations.solve(gap, _size(y, gap), start=start)
        # The second pass of a projection does no iteration where the first pass reached the bound.
        return solved, solved if self._equations.iterations else start


class _Coefficients:
    """The matrix of a block on a device, and its factor where it has one."""

    def __init__(self, of: sparse.csr_array, dtype: torch.dtype, device: torch.device, *, direct: bool) -> None:
        rows = sparse.csr_array(of)
        self.of = of
        self.matrix, self.transposed = (on_device(m, dtype, device) for m in (rows, rows.T))
        self.factor = factored(rows, np.ones(rows.shape[1])) if direct else None


_IN_USE: WeakValueDictionary[tuple[int, torch.dtype, torch.device, bool], _Coefficients] = WeakValueDictionary()
"""Coefficients by the identity of their matrix, as long as a kernel uses them."""


def _coefficients(of: sparse.csr_array, dtype: torch.dtype, device: torch.device, *, direct: bool) -> _Coefficients:
    """Coefficients of a matrix, shared with other kernels in use that have the same matrix.

    So a kernel for new right-hand sides does not factor again while the previous kernel exists.
    """
    key = id(of), dtype, device, direct
    coefficients = _IN_USE.get(key)
    if coefficients is None or coefficients.of is not of:
        coefficients = _IN_USE[key] = _Coefficients(of, dtype, device, direct=direct)
    return coefficients


class Solutions(NamedTuple):
    """The last solution of each verb, where the next one starts."""

    land: Tensor | None = None
    tangent: Tensor | None = None


def _size(y: Tensor, gap: Tensor) -> float:
    return float(torch.linalg.vector_norm(y)) + float(torch.linalg.vector_norm(gap))


def on_device(matrix: sparse.csr_array, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A SciPy matrix as a torch CSR tensor."""
    rows = sparse.csr_array(matrix)
    # MKL uses int32 indices directly, and copies int64 indices at every product.
    kind = np.int32 if device.type == "cpu" and max(rows.nnz, *rows.shape) < 2**31 else np.int64
    _silence_csr_warning()
    return torch.sparse_csr_tensor(
        torch.as_tensor(rows.indptr.astype(kind)),
        torch.as_tensor(rows.indices.astype(kind)),
        torch.as_tensor(rows.data),
        size=rows.shape,
        dtype=dtype,
        device=device,
        check_invariants=False,  # explicit, because torch warns about the default
    )


@cache
def _silence_csr_warning() -> None:
    """Trigger torch's warning that CSR is in beta, once per process, and ignore it.

    Not around each matrix: `catch_warnings` changes state that all threads share, and two at once leave wrong filters.
    """
    with _WARNING_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        none = torch.zeros(0, dtype=torch.int64)
        torch.sparse_csr_tensor(torch.zeros(1, dtype=torch.int64), none, none.double(), (0, 0), check_invariants=False)
