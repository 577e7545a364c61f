"""A large basis as a compiled loop over its rows: read from memory once, where two matrix products read it twice."""

from __future__ import annotations

import numpy as np

from affinet.kernels.torch.wide import WideKernel


class WideRows:
    """Many equations over many entries as they are."""

    def __init__(self, kernel: WideKernel) -> None:
        from affinet.kernels.loops import openmp, wide

        self._run, self._team = wide.wide, openmp.team
        self._basis, self._target = kernel.basis.numpy(), kernel.target.numpy()
        self._nothing = np.zeros_like(self._target)

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        target = self._target if affine else self._nothing
        self._run(x, self._basis, target, quiet, self._team(self._basis.size, threads))
