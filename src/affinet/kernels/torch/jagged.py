"""Averages many classes of equal entries by torch's own operations, level by level, without serial scatters.

Level k contains entry number k of every class with more than k entries. With classes numbered by decreasing size a
level belongs to the first classes, so that all entries are gathered once, and levels are added as vectors.
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
"""Entries from which on levels are faster than a scatter."""
MOST_LEVELS = 64
"""Entries of a class up to which levels are long enough to be added as separate vectors."""
PIECE = 2**22
"""Entries that are compared with the first entry of their class at a time: smaller pieces gain less from the cache than
two threads lose by waiting for each other after each operation."""
AGREEING = 8.0
"""Spacings by which entries of a class may differ and still agree, as in `kernels/loops/class_means.py`."""


class _Levels(NamedTuple):
    """`class_of` by entry, `order` of the entries level by level, `counts` of classes per level, `sizes` by class."""

    class_of: Tensor
    order: Tensor
    counts: list[int]
    sizes: Tensor


class JaggedTies:
    """Classes of equal entries of one parameter, read as the entire flat parameter; other entries are single classes.

    After a step, entries that agree with the first entry of their class to rounding become that entry; where some do
    not, all become means, computed from differences to the first entry so that means of equal numbers are exact.
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
        """Copy the first entry of each class where all entries agree with it to rounding, else average all classes."""
        levels, disagreeing = self._levels, 0
        first = x.index_select(0, levels.order[: levels.counts[0]])
        bits = (
            torch.int32 if x.dtype == torch.float32 else torch.int64
        )  # zeros of both signs are equal, but differ in bits
        bound = 2.0 * AGREEING * torch.finfo(x.dtype).eps
        for part, classes in zip(x.split(PIECE), levels.class_of.split(PIECE), strict=True):
            wanted = torch.index_select(first, 0, classes, out=self._scratch.like(part, 0))
            if torch.equal(part.view(bits), wanted.view(bits)):
                continue
            gaps = torch.sub(part, wanted, out=self._scratch.like(part, 1)).abs_()
            agrees = gaps <= torch.abs(wanted, out=self._scratch.like(part, 2)).mul_(bound)
            count = part.numel() - int(agrees.sum())
            part.copy_(torch.where(agrees, wanted, part) if count else wanted)
            disagreeing += count
            if 16 * count > part.numel():  # an optimizer that separates equal entries separates most of them
                break
        if disagreeing:
            self._average(x, 0.0)

    def _average(self, x: Tensor, floor: float) -> None:
        """Set every entry to the mean of its class, in place; means that are noise in their class become zero."""
        levels = self._levels
        first, *further = self._gathered(x)
        gaps = torch.zeros_like(first)
        for other in further:
            gaps[: len(other)] += other.sub_(first[: len(other)])
        means = gaps.div_(levels.sizes).add_(first)
        if floor > 0.0:
            self._silence(x, means, 2.0 * floor)
        torch.index_select(means, 0, levels.class_of, out=x)

    def _silence(self, x: Tensor, means: Tensor, floor: float) -> None:
        """Zero means below `floor` times the root mean square of their class, which is at most the largest entry."""
        levels, start = self._levels, 0
        largest = torch.abs(x, out=self._scratch.like(x, 0)).amax()
        faint = (~(means.abs() > floor * largest)).nonzero()[:, 0]
        squares = means.new_zeros(len(faint))
        for count in levels.counts:
            long_enough = faint[: int(torch.searchsorted(faint, count))]  # classes with an entry in this level
            squares[: len(long_enough)] += x.index_select(
                0, levels.order.index_select(0, long_enough + start)
            ).square_()
            start += count
        noise = squares.div_(levels.sizes.index_select(0, faint)).sqrt_().mul_(floor)
        faint_means = means.index_select(0, faint)
        means.index_copy_(0, faint, faint_means.masked_fill(faint_means.abs() < noise, 0.0))

    def _gathered(self, x: Tensor) -> tuple[Tensor, ...]:
        """The entries of each level, in a buffer."""
        entries = torch.index_select(x, 0, self._levels.order, out=self._scratch.like(x, 0))
        return tuple(entries.split(self._levels.counts))

    @cached_property
    def _levels(self) -> _Levels:
        class_of = np.empty(self._part.parameter.size, np.int64)
        positions, number = self._part.positions, self._block.classes.class_of
        untied = np.ones(len(class_of), bool)
        untied[positions] = False
        class_of[positions] = number
        class_of[untied] = self._block.classes.count + np.arange(int(untied.sum()))
        sizes = np.bincount(class_of)
        falling = np.argsort(-sizes, kind="stable")
        renumbered = np.empty(len(sizes), np.int64)
        renumbered[falling] = np.arange(len(sizes))
        class_of, sizes = renumbered[class_of], sizes[falling]
        counts = np.array([int((sizes > level).sum()) for level in range(int(sizes[0]))])
        marks = np.ones(len(class_of), bool)
        members = sparse.csr_array((marks, (class_of, np.arange(len(class_of)))), shape=(len(sizes), len(class_of)))
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
    """The loop by levels for a large block of equal entries of one parameter; None where scatters are as fast."""
    classes = block.classes
    equal = bool((classes.scale == 1.0).all()) and not classes.shift.any()
    small = block.size < FEWEST or int(np.bincount(classes.class_of).max(initial=0)) > MOST_LEVELS
    return JaggedTies(block, like) if equal and not small and like.dtype in WIDTHS else None
