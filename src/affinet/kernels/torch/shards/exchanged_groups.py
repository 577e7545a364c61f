"""Projects groups of entries by the processes that hold them, which give each other the entries that these need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.law import Projection, Rounds, Swap, run_alone
from affinet.kernels.torch.precision import irregular_dtype
from affinet.kernels.torch.shards.held_box import held_box, splits_of
from affinet.kernels.torch.shards.local_cells import ListedAccess, index_of
from affinet.kernels.torch.shards.totals import Exchange, PeerExchange
from affinet.kernels.torch.torch_namespace import Torch
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.shards.exchanged import Grouped, Partners, coordinates, holders_of_places, partners_of
from affinet.planning.shards.local_places import LocalPlaces, local_places


@dataclass(frozen=True, eq=False)
class LocalGroups:
    """The groups of this process: its entries, their projection, and what it exchanges for it.

    `fixed` has the entries whose value is known, and these values; None without any.
    """

    access: ListedAccess
    projection: PartOnEach
    exchange: Exchange | PeerExchange
    fixed: tuple[ListedAccess, Floats] | None


@dataclass(frozen=True, eq=False)
class PartOnEach:
    """The projection of groups that each of their holders computes: entries `local` are those of this process.

    It gives those at `sent` of its own to other processes; what they give is at `received`.
    """

    projection: Projection
    size: int
    count: int
    local: slice | Tensor
    sent: slice | Tensor
    received: slice | Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count,)

    def nearest(self, xp: Torch, x: Tensor) -> Rounds[Tensor]:
        entries = yield from self._entries(x)
        return self._local_values(run_alone(self.projection.nearest(xp, entries)))

    def tangent(self, xp: Torch, x: Tensor, *, floor: float = 0.0) -> Rounds[Tensor]:
        entries = yield from self._entries(x)
        return self._local_values(run_alone(self.projection.tangent(xp, entries, floor=floor)))

    def _entries(self, x: Tensor) -> Rounds[Tensor]:
        """The entries of all groups of this process."""
        entries = x.new_empty(self.size)
        entries[self.local] = x
        received = yield Swap(x[self.sent])
        entries[self.received] = received
        dtype = irregular_dtype(x.device) if self.projection.wide else x.dtype
        return entries.to(dtype).view(self.projection.shape)

    def _local_values(self, values: Tensor) -> Tensor:
        return values.expand(self.projection.shape).reshape(-1)[self.local]


def groups_on_process(grouped: Grouped, dimension: int | None, tensors: Mapping[str, Any]) -> LocalGroups:
    """The groups of a block of which this process holds an entry.

    `dimension` is that of the mesh along which their holders exchange them; None where each group has one holder.
    """
    tensor = next(iter(tensors.values()))
    boxes = {name: held_box(name, each) for name, each in tensors.items()}
    places = local_places(grouped.entries, boxes)
    groups = grouped.with_any_of(np.sort(np.concatenate([each.in_block for each in places.values()])))
    exchange: Exchange | PeerExchange = Exchange()
    if dimension is None:
        every = np.arange(len(groups.places))
        partners = Partners(every, every[:0], every[:0], (), ())
    else:
        splits = {name: splits_of(each) for name, each in tensors.items()}
        mesh = tensor.device_mesh
        holders = coordinates(holders_of_places(grouped.entries, splits, groups.places), tuple(mesh.shape), dimension)
        partners = partners_of(groups, holders, mesh.get_coordinate()[dimension], mesh.size(dimension))
        exchange = PeerExchange(mesh.get_group(dimension), partners.sent_sizes, partners.received_sizes)

    local_entries = partners.local_entries[np.argsort(groups.places[partners.local_entries], kind="stable")]
    number_of = np.zeros(len(groups.places), np.int64)
    number_of[local_entries] = np.arange(len(local_entries))
    projection = PartOnEach(
        groups.projection,
        len(groups.places),
        len(local_entries),
        *(index_of(each, tensor.device) for each in (local_entries, number_of[partners.sent], partners.received)),
    )
    access = _access_to(groups.places[local_entries], places, tensor.device)
    fixed = (_access_to(groups.fixed, places, tensor.device), groups.values) if len(groups.fixed) else None
    return LocalGroups(access, projection, exchange, fixed)


def _access_to(ascending: Integers, places: Mapping[str, LocalPlaces], device: torch.device) -> ListedAccess:
    """The access to entries of a block at ascending places, which this process holds."""
    at, ranks = {}, {}
    for name, each in places.items():
        is_listed = np.isin(each.in_block, ascending)
        at[name], ranks[name] = each.in_part[is_listed], np.searchsorted(ascending, each.in_block[is_listed])
    return ListedAccess(at, ranks, len(ascending), device)
