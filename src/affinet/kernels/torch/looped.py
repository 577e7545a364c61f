"""Wraps a kernel so that a loop does the projections of every step, in place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.errors import callers_line
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.kernel import Decay, Kernel, State, without_loops
from affinet.kernels.torch.small_tables import Names, Tables
from affinet.plans.backends import numba_installed

WIDTHS = (torch.float32, torch.float64)
"""The dtypes with compiled loops."""


@cache
def available() -> bool:
    """Whether loops can be compiled; warns where numba is installed but cannot be imported."""
    if not numba_installed():
        return False
    try:
        import_module("affinet.kernels.loops.openmp")
    except ImportError as error:
        warnings.warn(
            f"numba is installed and cannot be imported ({error}). Projections run on torch's own operations, which "
            f"takes longer on the CPU; install versions of numba and NumPy that go together.",
            stacklevel=callers_line(),
        )
        return False
    return True


class Loops(Protocol):
    """Projects in place: onto the block if `affine`, else its tangent part; `quiet` is the floor of noise, or 0.

    Both verbs return False, and change nothing, for tensors that the loops do not support.
    """

    def on_tensors(self, tensors: Tensors, *, affine: bool, quiet: float) -> bool:
        """Project the block's entries in place in the parameters or gradients."""

    def on_entries(self, x: Tensor, *, affine: bool, quiet: float) -> bool:
        """Project entries as the kernel has read them."""


class Looped:
    """A kernel with its loops: the loops project the tensors they support, and the kernel does everything else."""

    with_loops = without_loops

    def __init__(self, kernel: Kernel, loops: Loops) -> None:
        self.names = kernel.names
        self.kernel, self.loops = kernel, loops

    def read(self, tensors: Tensors) -> Tensor:
        return self.kernel.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self.kernel.write(tensors, values)

    def settle(
        self,
        tensors: Tensors,
        *,
        affine: bool,
        quiet: float = 0.0,
        decay: Decay | None = None,
        metric: Mapping[str, Tensor] | None = None,
    ) -> bool:
        plain = decay is None and metric is None
        return plain and self.loops.on_tensors(tensors, affine=affine, quiet=quiet)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return (x, state) if self.loops.on_entries(x, affine=True, quiet=0.0) else self.kernel.land(x, state)

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self.kernel.land_in_metric(x, metric)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        if self.loops.on_entries(x, affine=False, quiet=floor):
            return x, state
        return self.kernel.tangent(x, state, floor=floor)

    def noise(self, x: Tensor) -> Tensor:
        return self.kernel.noise(x)

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        return self.kernel.tables(names, dtype)


class ArrayLoop(Protocol):
    """A compiled loop over the entries of a block as one row-major array, on a number of threads."""

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None: ...


Within = Callable[[np.ndarray], np.ndarray | None]
"""Returns the entries of a block as a view of the flat numbers of its parameter; None unless they are contiguous."""


class OnArrays:
    """A loop over the array of a block's entries: in place in one parameter, or on entries that were read."""

    def __init__(self, name: str, loop: ArrayLoop, within: Within | None = None) -> None:
        """`within` is None for scattered entries, which are read first."""
        self._name, self.loop, self._within = name, loop, within

    def on_tensors(self, tensors: Tensors, *, affine: bool, quiet: float) -> bool:
        tensor = tensors[self._name]
        if self._within is None or tensor is None or not fits_loops(tensor):
            return False
        x = self._within(tensor.detach().numpy().reshape(-1))
        if x is None:
            return False
        self.loop(x, torch.get_num_threads(), affine=affine, quiet=quiet)
        increment_version(tensor)
        return True

    def on_entries(self, x: Tensor, *, affine: bool, quiet: float) -> bool:
        if not fits_loops(x):
            return False
        self.loop(x.detach().numpy(), torch.get_num_threads(), affine=affine, quiet=quiet)
        increment_version(x)
        return True


def fits_loops(x: Tensor) -> bool:
    """Whether a loop can work on `x` in place."""
    return x.dtype in WIDTHS and x.is_contiguous()
