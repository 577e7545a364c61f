"""Sums as compiled loops: sum, share and silence row by row, while the row is in cache."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.kernels.compiled.parallel import in_parallel
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.compiled.arrays import fit
from affinet.kernels.torch.slices import ProductKernel, SlicesKernel


class CompiledSums:
    """Slices with one equation of equal coefficients: sum, share and silence row by row, while the row is in cache."""

    def __init__(self, kernel: SlicesKernel, totals: Tensor) -> None:
        from affinet.kernels.compiled.sums import even_sums

        self.names = kernel.names
        self._kernel, self._loop = kernel, even_sums
        self._totals = totals.detach().to("cpu", torch.float64).reshape(-1).numpy()
        self._zeros = np.zeros(1)
        self._rows, self._entries = kernel.cells

    def read(self, tensors: Tensors) -> Tensor:
        return self._kernel.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._kernel.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        return self._looped(x, self._totals, 0.0) if fit(x) else self._kernel.project(x)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._kernel.project_in_metric(x, metric)

    def tangent(self, x: Tensor) -> Tensor:
        return self._looped(x, self._zeros, 0.0) if fit(x) else self._kernel.tangent(x)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        return self._looped(x, self._zeros, floor) if fit(x) else self._kernel.quiet_tangent(x, floor)

    def _looped(self, x: Tensor, totals: np.ndarray, quiet: float) -> Tensor:
        array = x.detach().numpy().reshape(self._rows, self._entries)
        given = array, totals, quiet
        in_parallel(lambda a, b: self._loop(*given, a, b), self._rows, x.numel(), torch.get_num_threads())
        increment_version(x)
        return x


class CompiledCross:
    """Sums of the rows and of the columns of one matrix: both sums in one pass, both shares in another.

    With row gaps r (rows, total R) and column gaps c over an n × m matrix, every entry loses
    `r_i/m + c_k/n − R/(n m)`: the product of the two projections, in one formula.
    """

    BLOCKS = 8
    """Parts of the rows whose column sums are added one after the other, whatever the number of threads."""

    def __init__(self, kernel: ProductKernel, totals: tuple[Tensor, Tensor]) -> None:
        from affinet.kernels.compiled import sums as loops

        self.names = kernel.names
        self._kernel, self._loops = kernel, loops
        self._totals = [total.detach().to("cpu", torch.float64).reshape(-1).numpy() for total in totals]

    def read(self, tensors: Tensors) -> Tensor:
        return self._kernel.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._kernel.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        return self._looped(x, self._totals, 0.0) if fit(x) else self._kernel.project(x)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._kernel.project_in_metric(x, metric)

    def tangent(self, x: Tensor) -> Tensor:
        return self._looped(x, [np.zeros(1)] * 2, 0.0) if fit(x) else self._kernel.tangent(x)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        return self._looped(x, [np.zeros(1)] * 2, floor) if fit(x) else self._kernel.quiet_tangent(x, floor)

    def _looped(self, x: Tensor, totals: list[np.ndarray], quiet: float) -> Tensor:
        array = x.detach().numpy()
        (n, m), threads = array.shape, torch.get_num_threads()
        blocks = min(self.BLOCKS, n)
        bounds = [n * k // blocks for k in range(blocks + 1)]
        rows, columns = np.empty(n), np.empty((blocks, m))

        def add(first: int, last: int) -> None:
            for k in range(first, last):
                self._loops.cross_sums(array, rows, columns[k], bounds[k], bounds[k + 1])

        in_parallel(add, blocks, n * m, threads)
        with np.errstate(invalid="ignore"):  # infinite gradients pass on as NaN
            rows -= totals[0]
            down = columns.sum(axis=0) - totals[1]
            rows, down = rows / m, (down - rows.sum() / m) / n
        in_parallel(lambda a, b: self._loops.take_shares(array, rows, down, quiet, a, b), n, n * m, threads)
        increment_version(x)
        return x
