"""Many small groups of equations as one compiled loop: each is read, projected and written while it is at hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.kernels.compiled.parallel import SCATTERED, in_parallel
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.compiled.whole import Whole
from affinet.kernels.torch.components import DenseKernel
from affinet.structure.blocks import Dense

LARGEST_GROUP = 64
"""Entries up to which a group stays in registers and the first cache; larger ones are products for BLAS."""


class CompiledGroups:
    """Small dense components of one form over untied entries of one parameter."""

    def __init__(self, block: Dense, kernel: DenseKernel, like: Tensor) -> None:
        from affinet.kernels.compiled import groups as loops

        (part,) = block.parts
        self.names = kernel.names
        self._kernel, self._loop = kernel, loops.groups
        self._whole = Whole(part, like)
        self._places = part.positions[block.classes.representative[block.members]].astype(np.uint32)
        self._basis = np.ascontiguousarray(block.basis)
        self._target = np.ascontiguousarray(block.target)
        self._zero = np.zeros((1, self._target.shape[1]))

    @staticmethod
    def fits(block: Dense, like: Tensor) -> bool:
        """Whether the groups are small, their entries untied and of one parameter that can be worked on in place."""
        classes = block.classes
        plain = classes.plain and bool((classes.scale == 1.0).all()) and not classes.shift.any()
        return plain and block.members.shape[1] <= LARGEST_GROUP and Whole.fits(block.parts, like)

    def read(self, tensors: Tensors) -> Tensor:
        return self._whole.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._whole.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        return self._looped(x, self._target, 0.0)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._whole.project_in_metric(self._kernel, x, metric)

    def tangent(self, x: Tensor) -> Tensor:
        return self._looped(x, self._zero, 0.0)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        return self._looped(x, self._zero, floor)

    def _looped(self, x: Tensor, target: np.ndarray, quiet: float) -> Tensor:
        given = x.detach().numpy(), self._places, self._basis, target, quiet
        count, threads = len(self._places), torch.get_num_threads()
        in_parallel(lambda first, last: self._loop(*given, first, last), count, self._places.size, threads, SCATTERED)
        increment_version(x)
        return x
