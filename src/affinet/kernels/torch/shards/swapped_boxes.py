"""Projects pairs of entries of two processes, which give each other their boxes of them, as slices of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.blocks.entry_sets import Mask
from affinet.blocks.law import Rounds, Swap, run_alone
from affinet.blocks.places import no_places
from affinet.kernels.torch.access import Tensors, box_of
from affinet.kernels.torch.kernel import Decay
from affinet.kernels.torch.looped import available
from affinet.kernels.torch.mirrors import fold
from affinet.kernels.torch.precision import regular_dtype_of
from affinet.kernels.torch.shards.totals import PeerExchange
from affinet.kernels.torch.torch_namespace import Torch
from affinet.language.calculus.terms import Integers
from affinet.language.dtensors import local_part
from affinet.planning.shards.exchanged_boxes import Crossing, ExchangedBoxes

XP = Torch()
MOST_RUNS = 512
"""Runs of neighbours up to which they are copied one by one, in a microsecond each."""


@dataclass(frozen=True, eq=False)
class _LocalSide:
    """The entries of one box of this process, and λ of its weight decay times them; both None for a missing tensor."""

    entries: Tensor | None
    decayed: Tensor | None


class SwappedBoxes:
    """The pairs of a block of which this process has one entry, and another one its partner.

    Both holders of a pair compute it, by the same operations on the same two numbers, so that they get the same bits:
    which operations these are depends on the sizes of a box, the dtype and the device, and not on memory order.
    """

    kernel = None

    def __init__(self, boxes: ExchangedBoxes, exchange: PeerExchange) -> None:
        self.exchange, self._boxes = exchange, [box_of(view) for view in boxes.views]
        self.names = tuple(dict.fromkeys(box.name for box in self._boxes))
        self._sent = [(each, _Remaining(each.pairs.first.size, each.unsent)) for each in boxes.sent]
        self._received = [_Received(each) for each in boxes.received]

    def rounds(self, named: Tensors, *, affine: bool, floor: float, decay: Decay | None) -> Rounds[None]:
        """Project onto the pairs if `affine`, and else take the tangent part, with zeros where it is noise; in place.

        With `decay`, gradients g become `P(g + λ w) − λ w`.
        """
        present = [tensor for name in self.names if (tensor := named[name]) is not None]
        dtype, device = regular_dtype_of(present), present[0].device
        sides = self._read(named, dtype, decay)
        sizes = [each.size for each, _ in self._sent]
        outgoing = torch.empty(sum(sizes), dtype=dtype, device=device)
        for (each, remaining), part in zip(self._sent, outgoing.split(sizes), strict=True):
            entries = sides[each.number].entries
            if entries is None:
                part.zero_()
            else:
                ordered = entries[each.steps].permute(each.sending_order)
                remaining.copy(ordered, part)
        answer = yield Swap(outgoing)
        for received, part in zip(self._received, answer.split([each.size for each in self._received]), strict=True):
            entries = sides[received.number].entries
            if entries is not None:
                received.settle(entries, part, affine=affine, floor=floor)
        self._write(named, sides)

    def _read(self, named: Tensors, dtype: torch.dtype, decay: Decay | None) -> list[_LocalSide]:
        """The entries of each box, where nothing has to be converted or added in place in the weights."""
        sides = []
        for box in self._boxes:
            tensor, decayed = named[box.name], None
            if tensor is None:
                sides.append(_LocalSide(None, None))
                continue
            entries = box.read(local_part(tensor).detach()).to(dtype)
            rate = 0.0 if decay is None else decay.rates.get(box.name, 0.0)
            if decay is not None and rate:
                decayed = box.read(local_part(decay.weights[box.name]).detach()).to(dtype) * rate
                entries = entries + decayed
            sides.append(_LocalSide(entries, decayed))
        return sides

    def _write(self, named: Tensors, sides: Sequence[_LocalSide]) -> None:
        for box, side in zip(self._boxes, sides, strict=True):
            tensor, entries = named[box.name], side.entries
            if tensor is not None and entries is not None:
                box.write(local_part(tensor), entries if side.decayed is None else entries - side.decayed)
                increment_version(local_part(tensor))  # loops over arrays leave it as it is


class _Remaining:
    """The entries of a box without some of them, in row-major order, as runs of neighbours."""

    def __init__(self, size: int, places: Integers) -> None:
        """`places` are those left out, ascending."""
        ends, starts = np.append(places, size), np.insert(places + 1, 0, 0)
        runs = np.flatnonzero(ends > starts)
        self._size, self._is_full = size, not len(places)
        self._runs = [slice(int(starts[run]), int(ends[run])) for run in runs] if len(runs) <= MOST_RUNS else None
        self._lengths = [run.stop - run.start for run in self._runs or ()]
        self._listed: Tensor | None = None
        if self._runs is None:
            included: Mask = np.ones(size, bool)
            included[places] = False
            self._listed = torch.from_numpy(np.flatnonzero(included))

    def copy(self, box: Tensor, entries: Tensor) -> None:
        """Write the entries of a box to a flat tensor."""
        if self._is_full:
            entries.view(box.shape).copy_(box)
        elif self._listed is not None:
            torch.index_select(box.reshape(-1), 0, self._listed.to(box.device), out=entries)
        elif self._runs:
            flat = box.reshape(-1)
            torch.cat([flat[run] for run in self._runs], out=entries)

    def expanded(self, entries: Tensor) -> Tensor:
        """All entries of the box, flat; zero where they were left out."""
        if self._is_full:
            return entries
        box = entries.new_zeros(self._size)
        if self._listed is not None:
            return box.index_copy_(0, self._listed.to(box.device), entries)
        for run, part in zip(self._runs or (), entries.split(self._lengths), strict=True):
            box[run] = part
        return box


class _Received:
    """The pairs of a crossing, computed from entries of this process and those that a peer gave."""

    def __init__(self, crossing: Crossing) -> None:
        self.number, self.size = crossing.number, crossing.size
        self._crossing = crossing
        sizes = [size for size, _ in crossing.pairs.first.dims]
        self._remaining = _Remaining(crossing.pairs.first.size, crossing.unreceived)
        places = np.unravel_index(crossing.pairs.without, sizes) if len(crossing.pairs.without) else ()
        self._others = tuple(map(torch.from_numpy, places))
        """Where entries of other blocks are, which keep their numbers."""
        every_pair = replace(crossing.pairs, without=no_places())
        self._projection = every_pair.law().projection.reshaped(tuple(sizes))
        self._sizes = [sizes[loop] for loop in crossing.receiving_order]
        self._axes = [crossing.receiving_order.index(loop) for loop in range(len(sizes))]
        self._long = [loop for loop in crossing.sending_order if sizes[loop] > 1]
        """The loops of more than one step, from the slowest in the memory of this process to the fastest."""
        self._looped = available() and len(self._long) <= 2 and not np.any(crossing.pairs.shift)

    def settle(self, entries: Tensor, received: Tensor, *, affine: bool, floor: float) -> None:
        """Write to the entries of this process what they are with those that the peer gave."""
        local = entries[self._crossing.steps]
        partners = self._remaining.expanded(received).view(self._sizes).permute(self._axes)
        if self._crossing.flips:
            partners = partners.flip(self._crossing.flips)
        former = local[self._others] if self._others else None
        self._project(local, partners, affine=affine, floor=floor)
        if former is not None:
            local[self._others] = former

    def _project(self, local: Tensor, partners: Tensor, *, affine: bool, floor: float) -> None:
        if self._looped and local.device.type == "cpu":
            self._fold(self._matrix(local), self._matrix(partners), floor)
            return
        x = torch.stack([local, partners] if self._crossing.is_first else [partners, local])
        projection = self._projection
        verb = projection.nearest(XP, x) if affine else projection.tangent(XP, x, floor=floor)
        local.copy_(run_alone(verb)[0 if self._crossing.is_first else 1])

    def _matrix(self, x: Tensor) -> np.ndarray:
        """Entries as a matrix: of its two loops of more than one step, or one row."""
        index = tuple(slice(None) if loop in self._long else 0 for loop in range(x.ndim))
        loops = [loop for loop in range(x.ndim) if loop in self._long]
        matrix = x[index].permute([loops.index(loop) for loop in self._long])
        numbers: np.ndarray = matrix[(None,) * (2 - matrix.ndim)].numpy()
        return numbers

    def _fold(self, local: np.ndarray, partners: np.ndarray, quiet: float) -> None:
        """The projection by loops, which write to the numbers of both."""
        if not self._folded(local, partners, quiet):
            row_major = np.ascontiguousarray(local)
            self._folded(row_major, np.ascontiguousarray(partners), quiet)
            local[...] = row_major

    def _folded(self, local: np.ndarray, partners: np.ndarray, quiet: float) -> bool:
        ratio = self._crossing.pairs.ratio
        first, second = (local, partners) if self._crossing.is_first else (partners, local)
        return fold(second, first, 1.0 / ratio, quiet) if abs(ratio) > 1.0 else fold(first, second, ratio, quiet)
