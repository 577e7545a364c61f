"""Projects the small blocks of a plan in one compiled call, which saves the cost of one call per block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter

from affinet.blocks.block import Block
from affinet.kernels.torch import looped
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.kernel import Decay, Kernel
from affinet.kernels.torch.looped import WIDTHS
from affinet.kernels.torch.small_tables import Tables

MOST_ENTRIES = 8_192
"""Entries of a block up to which it is small: for larger blocks a separate loop is about as fast, call included."""
KNOWN = (torch.Tensor, Parameter)
"""Types with numbers at their data pointer; subclasses may represent many tensors, or no memory."""


class SmallBlocks:
    """Blocks that one compiled call projects in place, on contiguous tensors of one dtype on the CPU."""

    def __init__(self, tensors: Mapping[str, Tensor], blocks: Iterable[Tables], dtype: torch.dtype) -> None:
        """`blocks` refer to tensors by their order in `tensors`."""
        from affinet.kernels.loops import tables as compiled

        tables = Tables()
        for block in blocks:
            tables = tables.followed_by(block)
        used = np.unique(np.concatenate([tables.cells[:, 0], tables.entries[:, 0]]))
        tables.cells[:, 0] = np.searchsorted(used, tables.cells[:, 0])
        tables.entries[:, 0] = np.searchsorted(used, tables.entries[:, 0])
        self._run, self._dtype = compiled.small, dtype
        self._names = tuple(name for number, name in enumerate(tensors) if number in used)
        self._sizes = tuple(tensors[name].numel() for name in self._names)
        spans = np.concatenate([table[:, 1] - table[:, 0] for table in (tables.plain, tables.tied)])
        self._tables = (
            tables.cells,
            tables.classes,
            tables.plain,
            tables.tied,
            tables.entries,
            tables.lines,
            tables.unknowns,
            tables.numbers,
            tables.exact,
            int(spans.max(initial=1)),
        )
        self._like = np.dtype(str(dtype).removeprefix("torch.")).type(0)
        self._no_rates = np.zeros(0)

    def settle(
        self,
        tensors: Tensors,
        *,
        affine: bool,
        quiet: float = 0.0,
        decay: Decay | None = None,
        passes: int = 1,
    ) -> bool:
        """As `Kernel.settle`, for all blocks at once; a missing gradient has no decay."""
        tensors_or_none = [tensors.get(name) for name in self._names]
        present = [
            torch.zeros(size, dtype=self._dtype) if tensor is None else tensor
            for tensor, size in zip(tensors_or_none, self._sizes, strict=True)
        ]
        places = self._addresses(present)
        if places is None:
            return False
        weight_places, rates = places, self._no_rates
        if decay is not None:
            decayed = self._addresses([decay.weights[name] for name in self._names])
            if decayed is None:
                return False
            pairs = zip(self._names, tensors_or_none, strict=True)
            weight_places = decayed
            rates = np.array([0.0 if tensor is None else decay.rates.get(name, 0.0) for name, tensor in pairs])
        addresses = np.array((places, weight_places), np.int64)
        for _ in range(passes):
            self._run(self._like, addresses, rates, *self._tables, affine, quiet)
        increment_version(present)
        return True

    def _addresses(self, tensors: Iterable[Tensor]) -> list[int] | None:
        """The addresses of tensors; None where the loop does not support a tensor."""
        addresses: list[int] = []
        try:
            for tensor in tensors:
                if not (type(tensor) in KNOWN and tensor.dtype is self._dtype and tensor.is_contiguous()):
                    return None
                if not tensor.is_cpu:
                    return None
                addresses.append(tensor.data_ptr())
        except RuntimeError:  # a tensor inside a transform of torch.func represents many tensors
            return None
        return addresses


def gather_small_blocks(
    blocks: Sequence[Block], kernels: Sequence[Kernel], tensors: Mapping[str, Tensor]
) -> tuple[SmallBlocks | None, tuple[Kernel, ...]]:
    """The small blocks as one call, and the kernels of all other blocks; None and all kernels without small blocks."""
    named = {name: tensors[name] for kernel in kernels for name in kernel.names}
    kinds = {(tensor.device.type, tensor.dtype) for tensor in named.values()}
    if not looped.available() or len(kinds) != 1 or not kinds <= {("cpu", dtype) for dtype in WIDTHS}:
        return None, tuple(kernels)
    numbers = {name: number for number, name in enumerate(named)}
    ((_, dtype),) = kinds
    tables = [
        kernel.tables(numbers, dtype) if block.size <= MOST_ENTRIES else None
        for block, kernel in zip(blocks, kernels, strict=True)
    ]
    small = [each for each in tables if each is not None]
    if not small:
        return None, tuple(kernels)
    remaining = tuple(kernel for kernel, each in zip(kernels, tables, strict=True) if each is None)
    return SmallBlocks(named, small, dtype), remaining
