"""Blocks whose entries are projected where they lie, by the processes that hold them, with a few sums between these.

Divided are cells of equal equations, ties, one set of dense equations, pairs, mirrors and fixed entries. The entries of
other blocks are given to every process in the same message. Where weights lie on several meshes, and where a
block reads entries of another one, it is gathered by itself (`law_kernel.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, assert_never

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.entry_sets import View
from affinet.blocks.fixed import Fixed
from affinet.blocks.kinds import AnyLinear
from affinet.blocks.law import Projection, Rounds, Sum, run_alone
from affinet.blocks.mirror import Mirror
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.offsets import Nest
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.kernels.torch.access import Box, Tensors, box_of
from affinet.kernels.torch.kernel import Decay, Kernel
from affinet.kernels.torch.precision import irregular_dtype, noise_floor, regular_dtype_of, undisturbed
from affinet.kernels.torch.shards.exchanged_groups import groups_on_process
from affinet.kernels.torch.shards.held_box import groups_of, held_box, placement_of, splits_of
from affinet.kernels.torch.shards.shared_access import SharedAccess
from affinet.kernels.torch.shards.swapped_boxes import SwappedBoxes
from affinet.kernels.torch.shards.totals import Exchange, Groups, PeerExchange, run_together
from affinet.kernels.torch.torch_namespace import Torch
from affinet.language.calculus.terms import Floats, Parameter
from affinet.language.dtensors import is_distributed, local_part
from affinet.planning.shards.division import (
    DividedCell,
    DividedCells,
    DividedClasses,
    DividedValues,
    Exchanged,
    GatheredAlone,
    GatheredSet,
    GivenToAll,
    LocalPairs,
    LocalSet,
    division_of,
)
from affinet.planning.shards.exchanged import Grouped, TiedClasses
from affinet.planning.shards.exchanged_boxes import ExchangedBoxes

XP = Torch()


class LocalProjection(Protocol):
    """The projections of a block on the entries of one process, as an array of `shape`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The axes that the law works along."""

    def nearest(self, xp: Any, x: Any) -> Rounds[Any]:
        """The nearest point that satisfies the block."""

    def tangent(self, xp: Any, x: Any, *, floor: float = 0.0) -> Rounds[Any]:
        """`P x`, with zeros where it is rounding relative to a floor."""


class LocalAccess(Protocol):
    """The entries of a block that this process holds, in an order of their own."""

    @property
    def names(self) -> tuple[str, ...]:
        """The weights of the block."""

    def read_local(self, tensors: Tensors) -> Tensor:
        """The entries, zero for a missing tensor, in memory of their own."""

    def write_local(self, tensors: Tensors, values: Tensor) -> None:
        """Write the entries to tensors that are present."""


@dataclass(frozen=True, eq=False)
class DividedBlock:
    """The law of a block for the entries of this process, and what it needs from the others."""

    access: LocalAccess
    projection: LocalProjection
    exchange: Exchange | PeerExchange
    kernel: Kernel | None = None
    """That of the same equations over the parts of this process, where it needs nothing from the others."""

    @property
    def names(self) -> tuple[str, ...]:
        """The weights of the block."""
        return self.access.names

    def rounds(self, named: Tensors, *, affine: bool, floor: float, decay: Decay | None) -> Rounds[None]:
        """Project onto the block if `affine`, and else take the tangent part, with zeros where it is noise; in place.

        With `decay`, gradients g become `P(g + λ w) − λ w`.
        """
        x, shift = self.read(named), _decayed(self, named, decay)
        x = x if shift is None else x + shift
        verb = self.projection.nearest(XP, x) if affine else self.projection.tangent(XP, x, floor=floor)
        result = yield from verb
        self.write(named, result if shift is None else result - shift)

    def read(self, tensors: Tensors) -> Tensor:
        """The entries of this process in the shape of its law."""
        return self.access.read_local(tensors).reshape(self.projection.shape)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Write them back."""
        self.access.write_local(tensors, values.expand(self.projection.shape))


@dataclass(frozen=True, eq=False)
class LocalValues:
    """The projection of fixed entries: their values, and zero for vectors."""

    values: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        yield from ()
        return xp.array(self.values, x)

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        yield from ()
        return xp.broadcast(xp.array(0.0, x), tuple(x.shape))


@dataclass(frozen=True, eq=False)
class WholeOnEach:
    """The projection of a block that every process computes, from its own entries and those of all others."""

    projection: Projection
    places: Tensor
    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.places),)

    def nearest(self, xp: Torch, x: Tensor) -> Rounds[Tensor]:
        entries_of_all = yield from self._all_entries(x)
        return self._local(run_alone(self.projection.nearest(xp, entries_of_all)))

    def tangent(self, xp: Torch, x: Tensor, *, floor: float = 0.0) -> Rounds[Tensor]:
        entries_of_all = yield from self._all_entries(x)
        return self._local(run_alone(self.projection.tangent(xp, entries_of_all, floor=floor)))

    def _all_entries(self, x: Tensor) -> Rounds[Tensor]:
        """All entries: what one process puts among zeros is what the sum has there."""
        entries = x.new_zeros(self.size)
        entries[self.places] = x
        total = yield Sum(entries)
        dtype = irregular_dtype(x.device) if self.projection.wide else x.dtype
        entries_of_all: Tensor = total.to(dtype, copy=True).view(self.projection.shape)
        return entries_of_all

    def _local(self, values: Tensor) -> Tensor:
        return values.expand(self.projection.shape).reshape(-1)[self.places]


class DividedBlocks:
    """All divided blocks of a plan, whose rounds run in lockstep."""

    def __init__(self, blocks: Sequence[DividedBlock | SwappedBoxes], like: Mapping[str, Any]) -> None:
        """`like`: the weights, as whose parts the blocks are divided."""
        self._blocks = blocks
        names = {name for block in blocks for name in block.names}
        self._placements = {name: placement_of(like[name]) for name in names}

    def settle(
        self, tensors: Tensors, *, affine: bool, quiet: float = 0.0, decay: Decay | None = None, passes: int = 1
    ) -> bool:
        """As `Kernel.settle`, for all blocks at once; blocks without any gradient are left out.

        False, and no change, for tensors that are held in another way.
        """
        present = {name: tensor for name in self._placements if (tensor := tensors.get(name)) is not None}
        if any(placement_of(tensor) != self._placements[name] for name, tensor in present.items()):
            return False
        every = [block for block in self._blocks if not present.keys().isdisjoint(block.names)]
        named = {name: present.get(name) for name in self._placements}
        floors = [_floor(block.names, named) if quiet else 0.0 for block in every]
        device = next((tensor.device for tensor in present.values()), torch.device("cpu"))
        with undisturbed(device):
            for _ in range(passes):
                running = []
                for block, floor in zip(every, floors, strict=True):
                    if block.kernel is not None and _settled_alone(block, block.kernel, named, affine, floor, decay):
                        continue
                    running.append((block.rounds(named, affine=affine, floor=floor, decay=decay), block.exchange))
                run_together(running)
        return True


def _settled_alone(
    block: DividedBlock, kernel: Kernel, named: Tensors, affine: bool, floor: float, decay: Decay | None
) -> bool:
    """Project the parts of this process in place, by the kernel for them; False, and no change, where it cannot."""
    tensors = {name: None if (x := named[name]) is None else local_part(x) for name in block.names}
    weights = {} if decay is None else {name: local_part(decay.weights[name]) for name in tensors}
    of_parts = None if decay is None else Decay(decay.rates, weights)
    return kernel.settle(tensors, affine=affine, quiet=floor, decay=of_parts)


def _floor(names: Sequence[str], named: Tensors) -> float:
    return max(noise_floor(tensor.dtype) for name in names if (tensor := named.get(name)) is not None)


class _LocalBox:
    """Cells of one weight, as a strided view of the part that this process holds."""

    def __init__(self, name: str, box: Box) -> None:
        self.names, self._box = (name,), box

    def read_local(self, tensors: Tensors) -> Tensor:
        tensor = tensors[self.names[0]]
        assert tensor is not None  # a block of one weight is left out where its gradient is missing
        return self._box.read(local_part(tensor)).clone()

    def write_local(self, tensors: Tensors, values: Tensor) -> None:
        self._box.write(local_part(tensors[self.names[0]]), values.reshape(self._box.shape))


class _TwoBoxes:
    """Two boxes of the parts that this process holds, as the two rows of one matrix."""

    def __init__(self, first: Box, second: Box) -> None:
        self.names = tuple(dict.fromkeys((first.name, second.name)))
        self._boxes = (first, second)

    def read_local(self, tensors: Tensors) -> Tensor:
        present = [tensor for name in self.names if (tensor := tensors[name]) is not None]
        dtype, device = regular_dtype_of(present), present[0].device
        rows = [
            torch.zeros(prod(box.shape), dtype=dtype, device=device)
            if (tensor := tensors[box.name]) is None
            else box.read(local_part(tensor)).reshape(-1).to(dtype)
            for box in self._boxes
        ]
        return torch.stack(rows)

    def write_local(self, tensors: Tensors, values: Tensor) -> None:
        for box, row in zip(self._boxes, values, strict=True):
            tensor = tensors[box.name]
            if tensor is not None:
                box.write(local_part(tensor), row.reshape(box.shape))


def _decayed(block: DividedBlock, gradients: Tensors, decay: Decay | None) -> Tensor | None:
    """`λ w` for the entries of this process, zero where the gradient is missing; None where nothing is decayed."""
    if decay is None:
        return None
    rates = {name: decay.rates.get(name, 0.0) * (gradients[name] is not None) for name in block.access.names}
    if not any(rates.values()):
        return None
    if len(set(rates.values())) == 1:
        return block.read(decay.weights) * next(iter(rates.values()))
    return block.read({name: decay.weights[name] * rate if rate else None for name, rate in rates.items()})


Preparing = Callable[[Slices | Pairs | Mirror, Mapping[str, Tensor]], Any]
"""Sets up the kernel of a block for tensors of one process."""


def divided(
    block: AnyLinear, tensors: Mapping[str, Tensor], prepare: Preparing
) -> list[DividedBlock | SwappedBoxes] | None:
    """The block divided between the processes that hold these tensors; None where it has to be gathered by itself."""
    named: dict[str, Any] = {parameter.name: tensors[parameter.name] for parameter, _ in block.entries.sizes}
    if not all(map(is_distributed, named.values())):
        return None
    splits = {name: splits_of(tensor) for name, tensor in named.items()}
    on_one_mesh = len({tensor.device_mesh for tensor in named.values()}) == 1
    match division := division_of(block, splits, on_one_mesh=on_one_mesh):
        case DividedValues():
            return [_divided_values(division.block, named)]
        case DividedCells():
            return [_cells_on_processes(division, named[division.block.parameter.name], prepare)]
        case LocalPairs():
            return [_pairs_on_processes(division, named, prepare)]
        case DividedClasses():
            return _divided_ties(division, named, prepare)
        case DividedCell():
            return [_divided_equations(division, named)]
        case Exchanged():
            return _exchanged(division.grouped, division.dimension, named, prepare)
        case GivenToAll():
            return [_given_to_all(division.block, named)]
        case GatheredAlone() | LocalSet() | GatheredSet():
            return None
        case _:
            assert_never(division)


def _cells_on_processes(cells: DividedCells, tensor: Any, prepare: Preparing) -> DividedBlock:
    """Every cell on its process, or a sum over the processes between which an axis inside of cells is split."""
    block, name = cells.block, cells.block.parameter.name
    local = cells.loops.on(held_box(name, tensor))
    exchange = Exchange(tuple(tensor.device_mesh.get_group(dimension) for dimension in cells.dimensions))
    projection = block.law().projection.for_holder(local.cells, local.entries)
    access, kernel = _LocalBox(name, Box(name, local.offset, local.dims)), None
    if not cells.dimensions and len(local.cells):
        part = cells.on_part(local, held_box(name, tensor))
        kernel = prepare(part, {name: local_part(tensor)})
    return DividedBlock(access, projection, exchange, kernel)


def _pairs_on_processes(pairs: LocalPairs, tensors: Mapping[str, Any], prepare: Preparing) -> DividedBlock:
    """Both entries of every pair on one process: pairs of the parts that it holds."""
    block, loops = pairs.block, pairs.loops
    views = []
    for view, part in zip((block.first, block.second), loops, strict=True):
        name = view.parameter.name
        local_box = held_box(name, tensors[name])
        local = part.on(local_box)
        dims = tuple(size for size, _ in local.dims)
        empty = 0 in dims
        views.append(View(Parameter(name, local_box.sizes), local.offset, ((0, 1),) if empty else local.dims))
    shift = np.asarray(block.shift)
    if shift.size > 1:
        first = loops[0]
        sizes = tuple(size for size, _ in block.first.dims)
        every = np.broadcast_to(shift, sizes).reshape([loop.size for loop in first.outer])
        ranges = first.ranges_on(held_box(block.first.parameter.name, tensors[block.first.parameter.name]))
        shift = every[tuple(slice(part.start, max(part.start, part.stop)) for part in ranges)]
    return _pairs_of_parts(Pairs(views[0], views[1], block.ratio, shift, block.rules), tensors, prepare)


def _pairs_of_parts(block: Pairs, tensors: Mapping[str, Any], prepare: Preparing) -> DividedBlock:
    """Pairs of boxes of the parts of this process."""
    access, parts = _TwoBoxes(*map(box_of, block.boxes)), {name: local_part(x) for name, x in tensors.items()}
    kernel = prepare(block, parts) if block.first.size else None
    return DividedBlock(access, block.law().projection, Exchange(), kernel)


def _mirror_of_part(block: Mirror, tensors: Mapping[str, Any], prepare: Preparing) -> DividedBlock:
    """The mirror of a box of the part of this process."""
    name = block.view.parameter.name
    kernel = prepare(block, {name: local_part(tensors[name])})
    return DividedBlock(_LocalBox(name, box_of(block.view)), block.law().projection, Exchange(), kernel)


def _divided_ties(
    classes: DividedClasses, tensors: Mapping[str, Any], prepare: Preparing
) -> list[DividedBlock | SwappedBoxes]:
    """Classes of one process by itself, sums over those of several, and small ones of several given to all."""
    block, small, across = classes.block, classes.small, classes.across
    blocks: list[DividedBlock | SwappedBoxes] = []
    if small.any() and classes.dimension is None:
        blocks = [_given_to_all(block.only(small), tensors)]
    elif small.any():
        blocks = _exchanged(TiedClasses(block.only(small)), classes.dimension, tensors, prepare)
    if not small.all():
        block, across = block.only(~small), across[~small]
        access = SharedAccess(block.entries, _device(tensors), wide=True)
        places = torch.as_tensor(np.flatnonzero(across), device=_device(tensors))
        exchange = Exchange(_groups(tensors) if len(places) else (), places, block.classes.count)
        exact_sums = all(tensor.dtype != torch.float64 for tensor in tensors.values())
        projection = block.law().projection.for_holder(access.local_places(tensors), exact_sums=exact_sums)
        blocks.append(DividedBlock(access, projection, exchange))
    return blocks


def _divided_equations(cell: DividedCell, tensors: Mapping[str, Any]) -> DividedBlock:
    """One set of equations over single entries, as one cell."""
    block = cell.block
    access = SharedAccess(block.entries, _device(tensors), wide=False)
    members, nothing = block.members[0], np.zeros(0, np.int64)
    place_in_cell = np.empty_like(members)
    place_in_cell[members] = np.arange(len(members))
    entries = place_in_cell[block.classes.class_of[access.local_places(tensors)]]
    one_cell = Slices(
        block.entries.sizes[0][0],
        offset=0,
        outer=Nest(()),
        inner=Nest(((len(members), 1),)),
        basis=block.basis[0],
        target=block.target,
        pinned=nothing,
        values=np.zeros((1, 0)),
        copies=np.zeros((0, 3), np.int64),
        rules=block.rules,
    )
    projection = one_cell.law().projection.for_holder(np.zeros(1, np.int64), entries)
    return DividedBlock(access, projection, Exchange(_groups(tensors) if cell.across else ()))


def _divided_values(block: Fixed, tensors: Mapping[str, Any]) -> DividedBlock:
    access = SharedAccess(block.entries, _device(tensors), wide=False)
    return DividedBlock(access, LocalValues(block.values_at(access.local_places(tensors))), Exchange())


def _exchanged(
    grouped: Grouped, dimension: int | None, tensors: Mapping[str, Any], prepare: Preparing
) -> list[DividedBlock | SwappedBoxes]:
    """Groups that their holders compute, by boxes where entries are in such, and entries whose value is known."""
    boxes = _boxes_on_process(grouped, dimension, tensors)
    if boxes is not None:
        blocks: list[DividedBlock | SwappedBoxes] = []
        if boxes.local is not None:
            blocks.append(_pairs_of_parts(boxes.local, tensors, prepare))
        if boxes.mirror is not None:
            blocks.append(_mirror_of_part(boxes.mirror, tensors, prepare))
        if dimension is None:
            return blocks
        return [*blocks, SwappedBoxes(boxes, _peers(boxes, next(iter(tensors.values())), dimension))]
    local = groups_on_process(grouped, dimension, tensors)
    blocks = [DividedBlock(local.access, local.projection, local.exchange)]
    if local.fixed is not None:
        access, values = local.fixed
        blocks.append(DividedBlock(access, LocalValues(values), Exchange()))
    return blocks


def _boxes_on_process(grouped: Grouped, dimension: int | None, tensors: Mapping[str, Any]) -> ExchangedBoxes | None:
    """The boxes of this process; None where entries have to be listed."""
    if dimension is None:
        return grouped.boxes({name: [held_box(name, tensor)] for name, tensor in tensors.items()}, 0)
    parts = {name: splits_of(tensor).boxes_along(dimension) for name, tensor in tensors.items()}
    known = {name: boxes for name, boxes in parts.items() if boxes is not None}
    coordinate = next(iter(tensors.values())).device_mesh.get_coordinate()[dimension]
    return grouped.boxes(known, coordinate) if len(known) == len(parts) else None


def _peers(boxes: ExchangedBoxes, tensor: Any, dimension: int) -> PeerExchange:
    """How many numbers of boxes go to each process along a dimension of the mesh, and come from it."""
    sizes = [0] * tensor.device_mesh.size(dimension)
    for crossing in boxes.crossings:
        sizes[crossing.peer] += crossing.size
    return PeerExchange(tensor.device_mesh.get_group(dimension), tuple(sizes), tuple(sizes))


def _given_to_all(block: AnyLinear, tensors: Mapping[str, Any]) -> DividedBlock:
    access = SharedAccess(block.entries, _device(tensors), wide=False)
    places = torch.as_tensor(access.local_places(tensors), device=_device(tensors))
    return DividedBlock(access, WholeOnEach(block.law().projection, places, access.size), Exchange(_groups(tensors)))


def _groups(tensors: Mapping[str, Any]) -> Groups:
    return groups_of(next(iter(tensors.values())))


def _device(tensors: Mapping[str, Any]) -> torch.device:
    device: torch.device = next(iter(tensors.values())).device
    return device
