"""Sums as compiled loops: of rows while each is in the cache, of rows and columns in two passes over the matrix."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NOTHING = np.zeros(1)


class EvenSums:
    """Slices with one equation of equal coefficients: sum, share and silence row by row, while the row is in cache."""

    def __init__(self, cells: tuple[int, int], totals: Tensor) -> None:
        from affinet.kernels.loops import openmp, sums

        self._run, self._team = sums.even_sums, openmp.team
        self._cells, self._totals = cells, _numbers(totals)

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        self._run(x.reshape(self._cells), self._totals if affine else NOTHING, quiet, self._team(x.size, threads))


class CrossSums:
    """Sums of the rows and of the columns of one matrix."""

    BLOCKS = 8
    """Parts of the rows whose column sums are added one after the other, whatever the number of threads."""

    def __init__(self, totals: tuple[Tensor, Tensor]) -> None:
        from affinet.kernels.loops import openmp, sums

        self._run, self._team = sums.cross_sums, openmp.team
        self._totals = tuple(map(_numbers, totals))

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        totals = self._totals if affine else (NOTHING, NOTHING)
        self._run(x, *totals, quiet, min(self.BLOCKS, len(x)), self._team(x.size, threads))


def _numbers(totals: Tensor) -> np.ndarray:
    numbers: np.ndarray = totals.detach().to("cpu", torch.float64).reshape(-1).numpy()
    return numbers
