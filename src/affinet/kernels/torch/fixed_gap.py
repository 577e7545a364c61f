"""Measures the largest difference between entries and the values that a large rule fixes them at, slab by slab."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from affinet.blocks.entry_sets import View
from affinet.blocks.fixed import Fixed
from affinet.kernels.torch.access import box_of
from affinet.kernels.torch.fixed_kernel import few_runs, mask_on, stored_on
from affinet.kernels.torch.precision import irregular_dtype, regular_dtype
from affinet.planning.reading.fixings import Fixing

SLAB = 2**18
"""Entries that are compared at a time: their differences stay in the cache."""


class FixedGap:
    """Largest `scale · |w − value|` over all entries that a rule fixes."""

    def __init__(self, fixings: Sequence[Fixing], device: torch.device) -> None:
        self._device = device
        self._sets = [
            (fixing.block, fixing.scale, stored_on(fixing.block, device), _mask(fixing.block, device))
            for fixing in fixings
        ]

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        wide = irregular_dtype(self._device)
        largest = torch.zeros((), dtype=wide, device=self._device)
        for block, scale, stored, mask in self._sets:
            weight = weights[block.parameter.name]
            for entries, values in _slabs(block, weight, stored, mask):
                wide_entries = entries.to(_dtype(block, entries.dtype, wide))
                gap = wide_entries + values if block.negated else wide_entries - values
                largest = torch.maximum(largest, torch.linalg.vector_norm(gap, float("inf")).to(wide) * scale)
        return largest


def _mask(block: Fixed, device: torch.device) -> Tensor | None:
    """The mask of the entries, None for a box or a few runs."""
    regular = isinstance(block.places, View) or few_runs(block) is not None
    return None if regular else mask_on(block, device)


def _slabs(block: Fixed, weight: Tensor, stored: Tensor, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Entries and their values."""
    if mask is not None:
        yield from _of_mask(mask, weight, stored)
    elif isinstance(block.places, View):
        entries = box_of(block.places).read(weight)
        yield from _split(entries, stored.expand(entries.shape))
    else:
        first = 0
        for start, end in few_runs(block) or ():
            values = stored[first : first + end - start] if stored.ndim else stored.expand(end - start)
            yield from _split(weight.reshape(-1)[start:end], values)
            first += end - start


def _split(entries: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    if not entries.ndim:
        yield entries, values
        return
    rows = max(1, SLAB * len(entries) // max(entries.numel(), 1))
    yield from zip(entries.split(rows), values.split(rows), strict=True)


def _of_mask(mask: Tensor, weight: Tensor, stored: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Entries and values by a mask: with one value for all, free entries are replaced by it, otherwise left out."""
    first = 0
    for entries, fixed in zip(weight.reshape(-1).split(SLAB), mask.split(SLAB), strict=True):
        if not stored.ndim:
            chosen = entries.to(torch.promote_types(entries.dtype, stored.dtype)) if stored.item() else entries
            yield torch.where(fixed, chosen, stored.to(chosen.dtype)), stored
            continue
        chosen = entries[fixed]
        yield chosen, stored[first : first + len(chosen)]
        first += len(chosen)


def _dtype(block: Fixed, dtype: torch.dtype, wide: torch.dtype) -> torch.dtype:
    """The dtype in which `w − value` is exact enough; float64 where the one value is not representable in float32."""
    narrow, stored = regular_dtype(dtype), block.stored
    return narrow if not isinstance(stored, float) or float(torch.tensor(stored, dtype=narrow)) == stored else wide
