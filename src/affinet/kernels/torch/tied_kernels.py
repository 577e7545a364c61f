"""Kernels of tied entries, which reduce entries to one number per class and back, or loop over equal entries."""

from __future__ import annotations

from functools import cached_property
from threading import local

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from affinet.blocks.classes import Classes
from affinet.blocks.ties import Ties
from affinet.kernels.torch.access import Gathered, Tensors
from affinet.kernels.torch.jagged import jagged
from affinet.kernels.torch.kernel import Kernel, State, not_in_place
from affinet.kernels.torch.looped import WIDTHS, Looped, OnArrays
from affinet.kernels.torch.precision import irregular_dtype, mean_norm, regular_dtype, silenced
from affinet.kernels.torch.small_tables import Names, Tables, located, tied_classes
from affinet.kernels.torch.whole import WholeParameter
from affinet.language.calculus.terms import Integers

SHARED = 2**20
"""Entries from which on sums are computed in two parts, one for each of two threads."""
SMALL_CLASS = 16
"""Entries of a class up to which a gradient is summed in its dtype: rounding is then below the floor of noise."""


class ClassMap:
    """`w_i = scale_i z[class_i] + shift_i` and its inverse in the least-squares sense, `z = D⁻¹Eᵀ(w − shift)`.

    The mean is computed from differences to one representative: then the mean of a million equal numbers is that
    number, which their rounded sum would not give. `order` renumbers the classes: class `order[k]` becomes number k.
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
        """The nearest number of each class; with `affine`, shifts are subtracted first."""
        if affine and self._shift is not None:
            x = x - self._shift
        reference = x.index_select(0, self._representative)
        difference = x - self._scaled(reference.index_select(0, self.class_of))
        return reference + self.summed(self._scaled(difference)) / self.weight

    def reduced_in_metric(self, x: Tensor, metric: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest number of each class in `Σ metric_i dx_i²`, and its metric: `Σ metric scale²`."""
        weight = self.summed(self._scaled(self._scaled(metric)))
        if self._shift is not None:
            x = x - self._shift
        reference = x.index_select(0, self._representative)
        difference = x - self._scaled(reference.index_select(0, self.class_of))
        return reference + self.summed(metric * self._scaled(difference)) / weight, weight

    def expanded(self, z: Tensor, *, affine: bool) -> Tensor:
        """Every entry from the number of its class; equal and opposite entries get the same bits."""
        x = self._scaled(z.index_select(0, self.class_of))
        return x + self._shift if affine and self._shift is not None else x

    def summed(self, x: Tensor) -> Tensor:
        """Sum over the entries of each class, in float64 where the device has it."""
        return torch.zeros_like(self.weight).index_add_(0, self.class_of, x)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self._scale is None else x * self._scale


class TiesKernel:
    """Classes of tied entries, each with a free value."""

    settle = not_in_place

    def __init__(self, block: Ties, device: torch.device) -> None:
        self._block = block
        self._access = Gathered(block.parts, device)
        self.names = self._access.names
        self._classes = ClassMap(block.classes, np.arange(block.classes.count), device)

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        if compiled or not full_parameter or not WholeParameter.fits(self._block.parts, like):
            return _averaged(self, self._block, like, compiled=compiled, full_parameter=full_parameter)
        levels = jagged(self._block, like)
        return self if levels is None else Looped(WholeParameter(self, self._block.parts[0], like), levels)

    def read(self, tensors: Tensors) -> Tensor:
        return self._access.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._access.write(tensors, values)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._classes.expanded(self._classes.reduced(x, affine=True), affine=True), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._classes.expanded(self._classes.reduced_in_metric(x, metric)[0], affine=True)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        reduced = self._classes.reduced(x, affine=False)
        if floor:  # before entries are computed from it: the entries of a class are noise together
            silenced(reduced, self._noise_of_classes(x).mul_(floor))
        return self._classes.expanded(reduced, affine=False), state

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        return _tables(self._block, names)

    def noise(self, x: Tensor) -> Tensor:
        """Twice the root mean square of a class."""
        return self._noise_of_classes(x).index_select(0, self._classes.class_of)

    def _noise_of_classes(self, x: Tensor) -> Tensor:
        return (self._classes.summed(x.square()) / self._classes.sizes).sqrt_().mul_(2.0)


class EqualTiesKernel:
    """Classes of one size whose entries are all equal: the mean along an axis, with the entries gathered by class."""

    settle = not_in_place

    def __init__(self, block: Ties, like: Tensor) -> None:
        self._block = block
        order = np.argsort(block.classes.class_of, kind="stable")
        self._shape = (block.classes.count, block.size // block.classes.count)
        # The mean of two numbers is rounded only once in their dtype too.
        dtype = regular_dtype(like.dtype) if self._shape[1] == 2 else None
        self._access = Gathered(block.parts, like.device, order, dtype, self._shape)
        self.names = self._access.names

    @staticmethod
    def fits(block: Ties) -> bool:
        """Whether all classes are of one size, without scales or shifts."""
        classes = block.classes
        return EqualEntries.fits(block) and len(np.unique(np.bincount(classes.class_of, minlength=classes.count))) == 1

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        return _averaged(self, self._block, like, compiled=compiled, full_parameter=full_parameter)

    def read(self, tensors: Tensors) -> Tensor:
        return self._access.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._access.write(tensors, values)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._means(x), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        first = x[:, :1]
        return first + ((x - first) * metric).sum(1, keepdim=True) / metric.sum(1, keepdim=True)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        means = self._means(x)
        return silenced(means, mean_norm(x, (1,), self._shape[1], 2.0 * floor)) if floor else means, state

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        return _tables(self._block, names)

    def noise(self, x: Tensor) -> Tensor:
        """Twice the root mean square of a class."""
        return mean_norm(x, (1,), self._shape[1], 2.0).expand(x.shape).contiguous()

    def _means(self, x: Tensor) -> Tensor:
        if self._shape[1] == 2:
            return x.mean(1, keepdim=True)
        # Differences from one entry, as above; the sum of two equal numbers is exact without them.
        return x[:, :1] + (x - x[:, :1]).mean(1, keepdim=True)


def _unless_all(values: np.ndarray, neutral: float, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    return None if (values == neutral).all() else torch.as_tensor(np.array(values), dtype=dtype, device=device)


class EqualEntries:
    """Classes of equal entries of one flat parameter.

    Stock optimizers move equal entries alike up to rounding, and then copying one entry of each class is enough after a
    step; elsewhere means are computed. Classes are numbered in the order of their first entries, so that their tables
    are read in order where a class is new.
    """

    def __init__(self, block: Ties) -> None:
        from affinet.kernels.loops import class_means, openmp

        (part,) = block.parts
        self._loops, self._team = class_means, openmp.team
        number, count = block.classes.class_of, block.classes.count
        if part.listed is None:  # the few missing entries become single classes, so that no positions are looked up
            every = np.empty(part.parameter.size, np.int64)
            every[part.positions] = number
            every[part.missing] = np.arange(count, count + len(part.missing))
            number, count = every, count + len(part.missing)
        class_of, self._first_of = _by_first_entry(number, count)
        self._known = np.zeros(0, np.uint32) if part.listed is None else part.listed.astype(np.uint32), class_of
        counts = np.bincount(class_of, minlength=count)
        # A byte per class where that is enough: the means read them all.
        self._counts = counts.astype(np.uint8 if counts.max(initial=0) < 2**8 else np.float64)
        self._parts = 2 if part.size >= SHARED else 1
        self._small = bool(self._counts.max(initial=0.0) <= SMALL_CLASS)
        self._scratch = local()

    @staticmethod
    def fits(block: Ties) -> bool:
        """Whether all entries of a class are equal."""
        return bool((block.classes.scale == 1.0).all()) and not block.classes.shift.any()

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        entries = len(self._known[1])
        threads = self._team(entries, threads)
        means = self._table(x.dtype.type)[0]
        if affine and self._loops.agreed(x, *self._known, self._first_of, *self._members, means, threads):
            return
        sums = self._table(x.dtype.type if quiet and self._small else np.float64)
        self._loops.averaged(x, *self._known, self._counts, *self._members, sums, means, quiet, threads)

    def _table(self, kind: type[np.generic]) -> np.ndarray:
        """Reused scratch of one number per class and part, for each thread: fresh pages cost as much as a pass."""
        tables: dict[str, np.ndarray] = self._scratch.__dict__
        name = kind.__name__
        if name not in tables:
            tables[name] = np.empty((self._parts, len(self._counts)), kind)
        return tables[name]

    @cached_property
    def _members(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the entries by class, and the start of each class among them."""
        class_of = self._known[1]
        shape = (len(self._counts), len(class_of))
        counted = sparse.csr_array((np.ones(len(class_of), bool), (class_of, np.arange(len(class_of)))), shape=shape)
        return counted.indices.astype(np.uint32), counted.indptr.astype(np.uint32)


def _tables(block: Ties, names: Names) -> Tables:
    classes = block.classes
    tensors, places = located(block.parts, names)
    other = np.ones(block.size, bool)
    other[classes.representative] = False
    order = np.lexsort((other, classes.class_of))  # the representative first: its scale is 1, and its shift 0
    ends = np.cumsum(np.bincount(classes.class_of, minlength=classes.count))
    scale, shift = (np.broadcast_to(values, other.shape)[order] for values in (classes.scale, classes.shift))
    return tied_classes(np.concatenate([[0], ends]), tensors[order], places[order], scale, shift)


def _averaged(kernel: Kernel, block: Ties, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
    """The kernel with compiled loops over a full parameter of equal entries, or the kernel unchanged."""
    if not (
        compiled
        and full_parameter
        and like.dtype in WIDTHS
        and EqualEntries.fits(block)
        and WholeParameter.fits(block.parts, like)
    ):
        return kernel
    name = block.parts[0].parameter.name
    return Looped(
        WholeParameter(kernel, block.parts[0], like), OnArrays(name, EqualEntries(block), WholeParameter.within)
    )


def _by_first_entry(class_of: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The class of every entry, numbered by first entries, and the number of the first entry of each class."""
    entries = np.arange(len(class_of))
    first = np.empty(count, np.int64)
    first[class_of[::-1]] = entries[::-1]  # the last write of a class is its first entry
    is_first = first[class_of] == entries
    number = np.empty(count, np.uint32)
    number[class_of[is_first]] = np.arange(count)
    return number[class_of], np.flatnonzero(is_first).astype(np.uint32)
