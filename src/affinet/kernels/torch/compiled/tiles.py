"""Mirrors and pairs of boxes as compiled loops over tiles: both sides of a pair are read once, and written once."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.compiled.looped import fit
from affinet.kernels.torch.mirrors import MirrorKernel, PairsKernel


class MirroredTiles:
    """A square matrix and its transpose, equal or opposite; entries of other blocks are put back."""

    def __init__(self, kernel: MirrorKernel, sign: float, size: int) -> None:
        from affinet.kernels.loops import openmp, tiles

        self._run, self._team, self._sign = tiles.mirror, openmp.team, sign
        self._others = kernel.others.numpy()
        counts = -(-size // tiles.TILE)
        self._tiles = np.stack(np.triu_indices(counts), axis=1)

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        # Put back here already, since `x` may be the parameter itself.
        kept = x.reshape(-1)[self._others]
        self._run(x, self._tiles, self._sign, quiet, self._team(x.size, threads))
        x.reshape(-1)[self._others] = kept


class CompiledPairs:
    """Two matrices of which one is a multiple of the other, entry by entry, in any memory order.

    `settle` works on both where they lie; all else goes to the kernel inside, which reads them into one tensor.
    """

    def __init__(self, kernel: PairsKernel) -> None:
        from affinet.kernels.loops import openmp, tiles

        self.names = kernel.names
        self._kernel, self._loops, self._team = kernel, tiles, openmp.team

    def read(self, tensors: Tensors) -> Tensor:
        return self._kernel.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._kernel.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        return self._kernel.project(x)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._kernel.project_in_metric(x, metric)

    def tangent(self, x: Tensor) -> Tensor:
        return self._kernel.tangent(x)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        return self._kernel.quiet_tangent(x, floor)

    def settle(self, tensors: Tensors, *, affine: bool, quiet: float) -> bool:
        """Project both sides in place; False, and nothing done, where one is missing or not as the loop needs it.

        Nothing is shifted (`PairsKernel.multiplies`), so that affine or not is the same.
        """
        sides = [side for name in self.names if (side := tensors[name]) is not None]
        if len(sides) < 2 or not all(map(fit, sides)) or sides[0].dtype != sides[1].dtype:
            return False
        views = [box.read(side) for box, side in zip(self._kernel.boxes, sides, strict=True)]
        plain, scaled = (view.detach().numpy() for view in (views if self._kernel.swapped else views[::-1]))
        if not plain.flags.c_contiguous:
            plain, scaled = plain.T, scaled.T
        if not plain.flags.c_contiguous or not (scaled.flags.c_contiguous or scaled.T.flags.c_contiguous):
            return False
        ratio, threads = self._kernel.ratio, self._team(plain.size, torch.get_num_threads())
        if scaled.flags.c_contiguous:
            self._loops.multiples(scaled.reshape(-1), plain.reshape(-1), ratio, quiet, threads)
        else:
            self._loops.pairs(scaled.T, plain, tiles_of(plain.shape, self._loops.TILE), ratio, quiet, threads)
        for side in sides:
            increment_version(side)
        return True


@cache
def tiles_of(shape: tuple[int, int], size: int) -> np.ndarray:
    """The places of all tiles of a matrix, in tiles."""
    counts = [-(-extent // size) for extent in shape]
    return np.stack([index.ravel() for index in np.indices(counts)], axis=1)
