"""Large sets of classes of equal entries by torch's own operations: sums level by level, where scatters take turns.

Level k holds the entry number k of every class that has so many. With classes numbered by falling size a level belongs
to the first classes, so that all entries are gathered once, and levels are added as vectors.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from affinet.blocks.ties import Ties
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.looped import WIDTHS
from affinet.kernels.torch.scratch import Scratch

FEWEST = 2**15
"""Entries from which on it is quicker than a scatter."""
MOST_LEVELS = 64
"""Entries of a class up to which levels are long enough to be added one by one."""
PIECE = 2**22
"""Entries that are compared with the first of their class at a time: smaller pieces gain less from the cache than two
threads lose by waiting for one another after each operation."""
AGREEING = 8.0
"""Spacings that entries of a class may lie apart and count as agreeing, as in `kernels/loops/class_means.py`."""


class _Levels(NamedTuple):
    """`class_of` by entry, `order` of the entries level by level, `counts` of classes in each, `sizes` by class."""

    class_of: Tensor
    order: Tensor
    counts: list[int]
    sizes: Tensor


class JaggedTies:
    """Classes of equal entries of one parameter, read as the whole flat parameter; what is in no class is its own.

    After a step entries that agree with the first of their class to rounding become it; where some do not, all become
    means: differences from the first of them are averaged, so that equal numbers have themselves as their mean.
    """

    def __init__(self, block: Ties, like: Tensor) -> None:
        (self._part,) = block.parts
        self._name = self._part.parameter.name
        self._block, self._dtype = block, like.dtype
        self._scratch = Scratch()

    def on_tensors(self, tensors: Tensors, *, affine: bool, quiet: float) -> bool:
        tensor = tensors[self._name]
        if tensor is None or tensor.dtype != self._dtype or not tensor.is_contiguous():
            return False
        return self.on_entries(tensor.detach().view(-1), affine=affine, quiet=quiet)

    def on_entries(self, x: Tensor, *, affine: bool, quiet: float) -> bool:
        if affine:
            self._project(x)
        else:
            self._average(x, quiet)
        return True

    def _project(self, x: Tensor) -> None:
        """Copy the first entry of each class where the others agree with it to rounding, else average all classes."""
        levels, apart = self._levels, 0
        first = x.index_select(0, levels.order[: levels.counts[0]])
        bits = torch.int32 if x.dtype == torch.float32 else torch.int64  # zeros of both signs are equal, and not alike
        bound = 2.0 * AGREEING * torch.finfo(x.dtype).eps
        for part, classes in zip(x.split(PIECE), levels.class_of.split(PIECE), strict=True):
            wanted = torch.index_select(first, 0, classes, out=self._scratch.like(part, 0))
            if torch.equal(part.view(bits), wanted.view(bits)):
                continue
            gaps = torch.sub(part, wanted, out=self._scratch.like(part, 1)).abs_()
            near = gaps <= torch.abs(wanted, out=self._scratch.like(part, 2)).mul_(bound)
            missed = part.numel() - int(near.sum())
            part.copy_(torch.where(near, wanted, part) if missed else wanted)
            apart += missed
            if 16 * missed > part.numel():  # an optimizer that moves equal entries apart moves most of them
                break
        if apart:
            self._average(x, 0.0)

    def _average(self, x: Tensor, floor: float) -> None:
        """Every entry becomes the mean of its class, in place; means that are noise beside their class become zero."""
        levels = self._levels
        first, *others = self._gathered(x)
        gaps = torch.zeros_like(first)
        for other in others:
            gaps[: len(other)] += other.sub_(first[: len(other)])
        means = gaps.div_(levels.sizes).add_(first)
        if floor > 0.0:
            self._silence(x, means, 2.0 * floor)
        torch.index_select(means, 0, levels.class_of, out=x)

    def _silence(self, x: Tensor, means: Tensor, floor: float) -> None:
        """Zero means below `floor` root mean squares of their class; none has a larger one than the largest entry."""
        levels, start = self._levels, 0
        size = torch.abs(x, out=self._scratch.like(x, 0)).amax()
        faint = (~(means.abs() > floor * size)).nonzero()[:, 0]
        squares = means.new_zeros(len(faint))
        for count in levels.counts:
            here = faint[: int(torch.searchsorted(faint, count))]  # classes that have so many entries
            squares[: len(here)] += x.index_select(0, levels.order.index_select(0, here + start)).square_()
            start += count
        noise = squares.div_(levels.sizes.index_select(0, faint)).sqrt_().mul_(floor)
        some = means.index_select(0, faint)
        means.index_copy_(0, faint, some.masked_fill(some.abs() < noise, 0.0))

    def _gathered(self, x: Tensor) -> tuple[Tensor, ...]:
        """The entries level by level, in a buffer."""
        entries = torch.index_select(x, 0, self._levels.order, out=self._scratch.like(x, 0))
        return tuple(entries.split(self._levels.counts))

    @cached_property
    def _levels(self) -> _Levels:
        class_of = np.empty(self._part.parameter.size, np.int64)
        positions, number = self._part.positions, self._block.classes.class_of
        alone = np.ones(len(class_of), bool)
        alone[positions] = False
        class_of[positions] = number
        class_of[alone] = self._block.classes.count + np.arange(int(alone.sum()))
        sizes = np.bincount(class_of)
        falling = np.argsort(-sizes, kind="stable")
        renumbered = np.empty(len(sizes), np.int64)
        renumbered[falling] = np.arange(len(sizes))
        class_of, sizes = renumbered[class_of], sizes[falling]
        counts = np.array([int((sizes > level).sum()) for level in range(int(sizes[0]))])
        ones = np.ones(len(class_of), bool)
        members = sparse.csr_array((ones, (class_of, np.arange(len(class_of)))), shape=(len(sizes), len(class_of)))
        rank = np.arange(len(class_of)) - np.repeat(members.indptr[:-1], sizes)
        order = np.empty(len(class_of), np.int32)
        order[np.concatenate([[0], np.cumsum(counts)])[rank] + np.repeat(np.arange(len(sizes)), sizes)] = (
            members.indices
        )
        return _Levels(
            torch.from_numpy(class_of.astype(np.int32)),
            torch.from_numpy(order),
            counts.tolist(),
            torch.from_numpy(sizes.astype(np.float64)).to(self._dtype),
        )


def jagged(block: Ties, like: Tensor) -> JaggedTies | None:
    """The sums level by level of a large block of equal entries of one parameter; None where scatters are as quick."""
    classes = block.classes
    equal = bool((classes.scale == 1.0).all()) and not classes.shift.any()
    small = block.size < FEWEST or int(np.bincount(classes.class_of).max(initial=0)) > MOST_LEVELS
    return JaggedTies(block, like) if equal and not small and like.dtype in WIDTHS else None
