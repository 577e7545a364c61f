"""A kernel of which a compiled loop does the two projections that every step asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.kernel import Kernel

WIDTHS = (torch.float32, torch.float64)
"""The dtypes that the loops are compiled for."""


class Loop(Protocol):
    """Projects an array in place: onto the block if `affine`, else its tangent; `quiet` is the floor of noise or 0."""

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None: ...


Within = Callable[[np.ndarray], np.ndarray | None]
"""Where the loop's entries lie in the flat numbers of one parameter."""


class Looped:
    """`kernel`, with projections by `loop` on tensors that it can take, and by the kernel itself on others."""

    def __init__(self, kernel: Kernel, loop: Loop, within: Within | None = None) -> None:
        self.names = kernel.names
        self.kernel, self.loop, self._within = kernel, loop, within

    def settle(self, tensors: Tensors, *, affine: bool, quiet: float) -> bool:
        """Project in place, past `read` and `write`; False, and nothing done, where entries cannot be reached so."""
        tensor = tensors[self.names[0]]
        if self._within is None or tensor is None or not fit(tensor):
            return False
        x = self._within(tensor.detach().numpy().reshape(-1))
        if x is None:
            return False
        self.loop(x, torch.get_num_threads(), affine=affine, quiet=quiet)
        increment_version(tensor)
        return True

    def read(self, tensors: Tensors) -> Tensor:
        return self.kernel.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self.kernel.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        return self._done(x, affine=True, quiet=0.0) if fit(x) else self.kernel.project(x)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self.kernel.project_in_metric(x, metric)

    def tangent(self, x: Tensor) -> Tensor:
        return self._done(x, affine=False, quiet=0.0) if fit(x) else self.kernel.tangent(x)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        return self._done(x, affine=False, quiet=floor) if fit(x) else self.kernel.quiet_tangent(x, floor)

    def _done(self, x: Tensor, *, affine: bool, quiet: float) -> Tensor:
        self.loop(x.detach().numpy(), torch.get_num_threads(), affine=affine, quiet=quiet)
        increment_version(x)
        return x


def fit(x: Tensor) -> bool:
    """Whether a loop can work on `x` where it lies."""
    return x.dtype in WIDTHS and x.is_contiguous()
