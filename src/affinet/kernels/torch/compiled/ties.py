"""Ties as compiled loops: their sums in one pass over the entries, their means in another."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.kernels.compiled.parallel import SCATTERED, in_parallel
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.classes import EqualTiesKernel, TiesKernel
from affinet.kernels.torch.compiled.whole import Whole
from affinet.structure.blocks import Ties


class CompiledTies:
    """Classes of equal entries of one parameter: their sums in one pass over the entries, their means in another.

    Reads the whole parameter where the working dtype is its own, and touches the tied entries alone.
    """

    def __init__(self, block: Ties, kernel: EqualTiesKernel | TiesKernel, like: Tensor) -> None:
        from affinet.kernels.compiled import classes as loops

        (part,) = block.parts
        self.names = kernel.names
        self._kernel, self._loops, self._run = kernel, loops, in_parallel
        self._whole = Whole(part, like)
        everywhere = part.size == part.parameter.size and bool((part.positions == np.arange(part.size)).all())
        positions = np.zeros(0, np.uint32) if everywhere else part.positions.astype(np.uint32)
        self._known = positions, block.classes.class_of.astype(np.uint32)
        self._counts = np.bincount(block.classes.class_of, minlength=block.classes.count).astype(np.float64)
        parts = 2 if part.size >= 2**20 else 1
        self._bounds = [part.size * k // parts for k in range(parts + 1)]
        self._sums = [np.empty(block.classes.count) for _ in range(parts)]

    @staticmethod
    def fits(block: Ties, like: Tensor) -> bool:
        """Whether all are equal entries of one parameter that can be worked on where it lies."""
        classes = block.classes
        plain = bool((classes.scale == 1.0).all()) and not classes.shift.any()
        return plain and Whole.fits(block.parts, like)

    def read(self, tensors: Tensors) -> Tensor:
        return self._whole.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._whole.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        return self._averaged(x, 0.0)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._whole.project_in_metric(self._kernel, x, metric)

    def tangent(self, x: Tensor) -> Tensor:
        return self._averaged(x, 0.0)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        return self._averaged(x, floor)

    def _averaged(self, x: Tensor, quiet: float) -> Tensor:
        array = x.detach().numpy()
        if len(self._sums) == 1:
            self._loops.averaged(array, *self._known, self._counts, *self._members, quiet)
        else:
            self._averaged_in_parts(array, quiet)
        increment_version(x)
        return x

    def _averaged_in_parts(self, array: np.ndarray, quiet: float) -> None:
        entries, threads = len(self._known[1]), torch.get_num_threads()
        largest = [0.0] * len(self._sums)

        def add(first: int, last: int) -> None:
            for k in range(first, last):
                bounds = self._bounds[k], self._bounds[k + 1]
                largest[k] = self._loops.class_sums(array, *self._known, self._sums[k], *bounds)

        self._run(add, len(self._sums), entries, threads, SCATTERED)
        whole, means = self._sums[0], self._sums[-1]
        for part in self._sums[1:]:
            whole += part
        self._loops.class_means(array, *self._known, self._counts, whole, means)
        if quiet > 0.0:
            faint = self._loops.faint_classes(means, 2.0 * quiet * max(largest))
            if len(faint):
                self._loops.silence(array, self._known[0], *self._members, faint, means, quiet)
        given = means.astype(array.dtype)
        self._run(
            lambda a, b: self._loops.spread(array, *self._known, given, a, b), entries, entries, threads, SCATTERED
        )

    @cached_property
    def _members(self) -> tuple[np.ndarray, np.ndarray]:
        """The entries of every class: their numbers by class, and where each class begins."""
        class_of = self._known[1]
        shape = (len(self._counts), len(class_of))
        counted = sparse.csr_array((np.ones(len(class_of), bool), (class_of, np.arange(len(class_of)))), shape=shape)
        return counted.indices.astype(np.uint32), counted.indptr.astype(np.uint32)
