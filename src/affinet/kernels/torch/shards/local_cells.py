"""Reads and writes the cells of a block that this process holds entirely, without any message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.kinds import AnySet
from affinet.kernels.torch.access import Box, Tensors
from affinet.kernels.torch.place_access import Access
from affinet.kernels.torch.precision import regular_dtype_of
from affinet.kernels.torch.shards.held_box import held_box, splits_of
from affinet.language.calculus.terms import Integers
from affinet.language.dtensors import is_distributed, local_part
from affinet.planning.shards.divided_cells import CellLoops
from affinet.planning.shards.division import LocalSet, division_of
from affinet.planning.shards.local_places import local_places
from affinet.planning.shards.splits import HeldBox


@dataclass(frozen=True, eq=False)
class LocalCells:
    """The numbers of the cells of a block that this process holds, and the access to their entries."""

    cells: Integers
    access: Access


def local_cells(block: AnySet, tensors: Mapping[str, Tensor]) -> LocalCells | None:
    """The cells of this process; None where a cell lies on several processes, or no weight is distributed."""
    named: dict[str, Any] = {parameter.name: tensors[parameter.name] for parameter, _ in block.entries.sizes}
    if not all(map(is_distributed, named.values())):
        return None
    splits = {name: splits_of(tensor) for name, tensor in named.items()}
    division = division_of(block, splits, on_one_mesh=len({tensor.device_mesh for tensor in named.values()}) == 1)
    if not isinstance(division, LocalSet):
        return None
    boxes = {name: held_box(name, tensor) for name, tensor in named.items()}
    device = next(iter(named.values())).device
    if division.loops is None:
        return _listed(block, boxes, device)
    ((name, box),) = boxes.items()
    return _stepped(name, division.loops, box, device)


def _stepped(name: str, loops: CellLoops, box: HeldBox, device: torch.device) -> LocalCells:
    local = loops.on(box)
    return LocalCells(local.cells, _BoxAccess(Box(name, local.offset, local.dims), device))


def _listed(block: AnySet, boxes: Mapping[str, HeldBox], device: torch.device) -> LocalCells:
    """Cells found by the places of the entries that this process holds."""
    law, entries = block.law(), block.entries
    places = local_places(entries, boxes)
    numbers = {name: each.in_block for name, each in places.items()}
    if law.order is not None:
        place_of = np.empty(len(law.order), np.int64)
        place_of[law.order] = np.arange(len(law.order))
        numbers = {name: place_of[each] for name, each in numbers.items()}
    width = prod(law.shape) // law.shape[0]
    every = np.sort(np.concatenate([*numbers.values()]))
    cells = every[::width] // width
    assert len(every) == len(cells) * width  # every cell lies entirely on this process
    in_part = {name: each.in_part for name, each in places.items()}
    ranks = {name: np.searchsorted(every, each) for name, each in numbers.items()}
    return LocalCells(cells, ListedAccess(in_part, ranks, len(every), device))


class _BoxAccess:
    """Cells of one weight, as a strided view of the part that this process holds."""

    def __init__(self, box: Box, device: torch.device) -> None:
        self.names, self._box, self._device = (box.name,), box, device

    def read(self, tensors: Tensors) -> Tensor:
        tensor = tensors[self._box.name]
        if tensor is None:
            return torch.zeros(self._box.shape, device=self._device)
        return self._box.read(local_part(tensor))

    def write(self, tensors: Tensors, values: Tensor) -> None:
        tensor = tensors[self._box.name]
        if tensor is not None:
            self._box.write(local_part(tensor), values.reshape(self._box.shape))


class ListedAccess:
    """Entries at listed places of the parts that this process holds, in an order of their own."""

    def __init__(
        self, in_part: Mapping[str, Integers], ranks: Mapping[str, Integers], size: int, device: torch.device
    ) -> None:
        """Entry `ranks[name][k]` is at `in_part[name][k]` of the part of a weight."""
        self.names, self._size, self._device = tuple(in_part), size, device
        self._at = {name: index_of(places, device) for name, places in in_part.items()}
        self._ranks = {name: index_of(places, device) for name, places in ranks.items()}

    def read_local(self, tensors: Tensors) -> Tensor:
        """As `read`: it reads nothing else."""
        return self.read(tensors)

    def write_local(self, tensors: Tensors, values: Tensor) -> None:
        """As `write`."""
        self.write(tensors, values)

    def read(self, tensors: Tensors) -> Tensor:
        present = {name: tensor for name in self.names if (tensor := tensors[name]) is not None}
        x = torch.zeros(self._size, dtype=regular_dtype_of(present.values()), device=self._device)
        for name, tensor in present.items():
            x[self._ranks[name]] = local_part(tensor).detach().reshape(-1)[self._at[name]].to(x.dtype)
        return x

    def write(self, tensors: Tensors, values: Tensor) -> None:
        values = values.reshape(-1)
        for name in self.names:
            tensor = tensors[name]
            if tensor is not None:
                local = local_part(tensor).detach()
                flat = local.view(-1) if local.is_contiguous() else local.reshape(-1)
                flat[self._at[name]] = values[self._ranks[name]].to(flat.dtype)
                if not local.is_contiguous():
                    local.copy_(flat.view(local.shape))


def index_of(places: Integers, device: torch.device) -> slice | Tensor:
    """What reads and writes these places of a flat tensor: a slice, which is quicker, where they follow one another."""
    if len(places) and places[-1] - places[0] == len(places) - 1 and bool((np.diff(places) == 1).all()):
        return slice(int(places[0]), int(places[-1]) + 1)
    return torch.as_tensor(places, device=device)
