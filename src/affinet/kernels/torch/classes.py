"""Tied entries: from entries to one number a class, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.classes import Classes
from affinet.blocks.ties import Ties
from affinet.kernels.torch.access import Gathered, Tensors
from affinet.kernels.torch.precision import irregular_dtype, mean_norm, regular_dtype, silenced
from affinet.language.calculus.terms import Integers


class ClassMap:
    """`w_i = scale_i z[class_i] + shift_i` and its inverse in the least-squares sense, `z = D⁻¹Eᵀ(w − shift)`.

    The mean is taken of differences from one representative, so that a million equal numbers have themselves as their
    mean (a sum of them would not). `order` renumbers the classes: class `order[k]` of the block is number k here.
    """

    def __init__(self, classes: Classes, order: Integers, device: torch.device) -> None:
        number = np.empty(classes.count, np.int64)
        number[order] = np.arange(classes.count)
        dtype = irregular_dtype(device)
        self.class_of = torch.as_tensor(number[classes.class_of], device=device)
        self.weight = torch.as_tensor(classes.weight[order], dtype=dtype, device=device)
        self.sizes = torch.bincount(self.class_of, minlength=classes.count).to(dtype)
        self._representative = torch.as_tensor(classes.representative[order], device=device)
        self._scale = _unless_all(classes.scale, 1.0, dtype, device)
        self._shift = _unless_all(classes.shift, 0.0, dtype, device)

    def reduced(self, x: Tensor, *, affine: bool) -> Tensor:
        """One number a class, the nearest; `affine` takes the shifts off first."""
        if affine and self._shift is not None:
            x = x - self._shift
        reference = x.index_select(0, self._representative)
        difference = x - self._scaled(reference.index_select(0, self.class_of))
        return reference + self.summed(self._scaled(difference)) / self.weight

    def reduced_in_metric(self, x: Tensor, metric: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest number of each class in `Σ metric_i dx_i²`, and how much it then resists: `Σ metric scale²`."""
        weight = self.summed(self._scaled(self._scaled(metric)))
        if self._shift is not None:
            x = x - self._shift
        reference = x.index_select(0, self._representative)
        difference = x - self._scaled(reference.index_select(0, self.class_of))
        return reference + self.summed(metric * self._scaled(difference)) / weight, weight

    def expanded(self, z: Tensor, *, affine: bool) -> Tensor:
        """Every entry from its class; equal and opposite entries get the same bits."""
        x = self._scaled(z.index_select(0, self.class_of))
        return x + self._shift if affine and self._shift is not None else x

    def summed(self, x: Tensor) -> Tensor:
        """Sum over the entries of each class, in float64 where the device has it."""
        return torch.zeros_like(self.weight).index_add_(0, self.class_of, x)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self._scale is None else x * self._scale


class TiesKernel:
    """Classes of tied entries, every class free."""

    def __init__(self, block: Ties, device: torch.device) -> None:
        self._access = Gathered(block.parts, device)
        self.names = self._access.names
        self._classes = ClassMap(block.classes, np.arange(block.classes.count), device)

    def read(self, tensors: Tensors) -> Tensor:
        return self._access.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._access.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        return self._classes.expanded(self._classes.reduced(x, affine=True), affine=True)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._classes.expanded(self._classes.reduced_in_metric(x, metric)[0], affine=True)

    def tangent(self, x: Tensor) -> Tensor:
        return self._classes.expanded(self._classes.reduced(x, affine=False), affine=False)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        """Silenced before it is spread out: the entries of a class are noise together."""
        square = self._classes.summed(x.square()) / self._classes.sizes
        quiet = silenced(self._classes.reduced(x, affine=False), square.sqrt_().mul_(2.0 * floor))
        return self._classes.expanded(quiet, affine=False)


class EqualTiesKernel:
    """Classes of one size whose entries are all equal: the mean along an axis, with the entries gathered by class."""

    def __init__(self, block: Ties, like: Tensor) -> None:
        order = np.argsort(block.classes.class_of, kind="stable")
        self._shape = (block.classes.count, block.size // block.classes.count)
        # The mean of two numbers is rounded once in their own dtype too.
        dtype = regular_dtype(like.dtype) if self._shape[1] == 2 else None
        self._access = Gathered(block.parts, like.device, order, dtype, self._shape)
        self.names = self._access.names

    @staticmethod
    def fits(block: Ties) -> bool:
        """Whether all classes are of one size, without scales or shifts."""
        classes = block.classes
        plain = bool((classes.scale == 1.0).all()) and not classes.shift.any()
        return plain and len(np.unique(np.bincount(classes.class_of, minlength=classes.count))) == 1

    def read(self, tensors: Tensors) -> Tensor:
        return self._access.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._access.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        if self._shape[1] == 2:
            return x.mean(1, keepdim=True)
        # Differences from one of them, as above; the sum of two equal numbers is exact without.
        return x[:, :1] + (x - x[:, :1]).mean(1, keepdim=True)

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        first = x[:, :1]
        return first + ((x - first) * metric).sum(1, keepdim=True) / metric.sum(1, keepdim=True)

    def tangent(self, x: Tensor) -> Tensor:
        return self.project(x)

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        noise = mean_norm(x, (1,), self._shape[1], 2.0 * floor)
        return silenced(self.tangent(x), noise)


def _unless_all(values: np.ndarray, neutral: float, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    return None if (values == neutral).all() else torch.as_tensor(np.array(values), dtype=dtype, device=device)
