"""Reads the entries of a block from weights that several processes hold, each process all of them.

Every process puts the entries that it holds into zeros, and all add up their bits: the sum is exact, and every process
has the same numbers. What is computed from them then has the same bits everywhere, and each process writes its part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.places import Places
from affinet.kernels.arrays.array_entries import read as entries_of
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.precision import irregular_dtype, regular_dtype_of
from affinet.kernels.torch.shards.held_box import groups_of, held_box, placement_of
from affinet.language.calculus.terms import Integers
from affinet.language.dtensors import is_distributed, local_part

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

BITS = {torch.float64: torch.int64, torch.float32: torch.int32}
"""The integers by whose sum the numbers of a dtype are added to zeros without a change of any bit."""


@dataclass(frozen=True, eq=False)
class _LocalEntries:
    """The entries of one weight in a block that this process holds: at `places` of the block, and `at` in its part."""

    places: Tensor
    at: Tensor
    groups: tuple[ProcessGroup, ...]


class SharedAccess:
    """The entries of some places in their order, as one flat tensor, whatever process holds them.

    Tensors that are not distributed are read and written as they are. Where entries are distributed, `read` has to be
    called by all processes of their mesh.
    """

    def __init__(self, places: Places, device: torch.device, order: Integers | None = None, *, wide: bool) -> None:
        """Entry k is entry `order[k]` of the places. `wide`: they are read in float64 where the device has it."""
        sizes = {parameter.name: parameter.size for parameter, _ in places.sizes}
        self.names = tuple(sizes)
        positions = entries_of(places, {name: np.arange(size) for name, size in sizes.items()}).reshape(-1)
        number_of = {name: np.full(size, number, np.int32) for number, (name, size) in enumerate(sizes.items())}
        numbers = entries_of(places, number_of).reshape(-1)
        if order is not None:
            positions, numbers = positions[order], numbers[order]
        self.size = len(positions)
        self._positions = {name: positions[numbers == number] for number, name in enumerate(self.names)}
        self._places = {name: np.flatnonzero(numbers == number) for number, name in enumerate(self.names)}
        self._device, self._wide = device, wide
        self._local_entries: dict[str, dict[object, _LocalEntries]] = {name: {} for name in self.names}
        self._local_counts: dict[str, int] = {}

    def read(self, tensors: Tensors) -> Tensor:
        """The entries, zero for a missing tensor, in memory of their own."""
        present = {name: tensor for name in self.names if (tensor := tensors[name]) is not None}
        x = torch.zeros(self.size, dtype=self._dtype(present), device=self._device)
        shared: dict[tuple[ProcessGroup, ...], list[str]] = {}
        for name, tensor in present.items():
            local_entries = self._local_entries_of(name, tensor)
            x[local_entries.places] = local_part(tensor).detach().reshape(-1)[local_entries.at].to(x.dtype)
            if local_entries.groups:
                shared.setdefault(local_entries.groups, []).append(name)
        for groups, names in shared.items():
            places = None if len(names) == len(self.names) else self._places_of(names)
            part = x if places is None else x[places]
            bits = part.view(BITS[part.dtype])
            for group in groups:
                torch.distributed.all_reduce(bits, group=group)
            if places is not None:
                x[places] = part
        return x

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Write entries, in any shape, to the tensors that are present, each process to its part.

        Entries that are equal to those in their place keep their bits (a zero its sign).
        """
        values = values.reshape(-1)
        for name in self.names:
            tensor = tensors[name]
            if tensor is None:
                continue
            self._put(name, tensor, values[self._local_entries_of(name, tensor).places])

    def _put(self, name: str, tensor: Tensor, values: Tensor) -> None:
        """Write numbers to the entries of one weight that this process holds."""
        at, local = self._local_entries_of(name, tensor).at, local_part(tensor).detach()
        flat = local.view(-1) if local.is_contiguous() else local.reshape(-1)
        former, written = flat[at], values.to(flat.dtype)
        flat[at] = torch.where(written == former, former, written)
        if not local.is_contiguous():
            local.copy_(flat.view(local.shape))

    def local_places(self, tensors: Tensors) -> Integers:
        """The numbers of the entries that this process holds, in the order of `read_local`."""
        places = [self._local_entries_of(name, tensors[name]).places.cpu().numpy() for name in self.names]
        return np.concatenate([np.zeros(0, np.int64), *places])

    def read_local(self, tensors: Tensors) -> Tensor:
        """The entries that this process holds, weight after weight; zero for a missing tensor."""
        present = {name: tensor for name in self.names if (tensor := tensors[name]) is not None}
        dtype, pieces = self._dtype(present), []
        for name in self.names:
            if name in present:
                at = self._local_entries_of(name, present[name]).at
                pieces.append(local_part(present[name]).detach().reshape(-1)[at].to(dtype))
            else:
                pieces.append(torch.zeros(self._local_counts[name], dtype=dtype, device=self._device))
        return torch.cat(pieces)

    def write_local(self, tensors: Tensors, values: Tensor) -> None:
        """Write the entries that this process holds to the tensors that are present."""
        counts = [self._local_counts[name] for name in self.names]
        for name, piece in zip(self.names, values.reshape(-1).split(counts), strict=True):
            if (tensor := tensors[name]) is not None:
                self._put(name, tensor, piece)

    def _dtype(self, tensors: dict[str, Tensor]) -> torch.dtype:
        return irregular_dtype(self._device) if self._wide else regular_dtype_of(tensors.values())

    def _local_entries_of(self, name: str, tensor: Any) -> _LocalEntries:
        kind = placement_of(tensor)
        local_entries = self._local_entries[name].get(kind)
        if local_entries is None:
            local_entries = self._local_entries[name][kind] = self._find(name, tensor)
            self._local_counts[name] = len(local_entries.at)
        return local_entries

    def _find(self, name: str, tensor: Any) -> _LocalEntries:
        places, positions = self._places[name], self._positions[name]
        groups: tuple[ProcessGroup, ...] = ()
        if is_distributed(tensor):
            local_places, groups = held_box(name, tensor).find(positions), groups_of(tensor)
            places, positions = places[local_places >= 0], local_places[local_places >= 0]
        entries, at = (torch.as_tensor(numbers, device=self._device) for numbers in (places, positions))
        return _LocalEntries(entries, at, groups)

    def _places_of(self, names: list[str]) -> Tensor:
        return torch.as_tensor(np.concatenate([self._places[name] for name in names]), device=self._device)
