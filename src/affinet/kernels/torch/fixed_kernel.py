"""A kernel that sets fixed entries in place: weights to their values, and gradients to zero."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.blocks.entry_sets import Intervals, Masked, View, mask_of, positions_of
from affinet.blocks.fixed import Fixed
from affinet.kernels.torch.access import Box, Tensors, box_of
from affinet.kernels.torch.kernel import Decay, Kernel, State
from affinet.kernels.torch.looped import WIDTHS
from affinet.kernels.torch.precision import regular_dtype
from affinet.kernels.torch.small_tables import Names, Tables, given_entries

FEW_RUNS = 64
"""Runs of entries up to which each run is a separate operation."""
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integer dtype with the same bits, by bytes of a number."""


class FixedKernel:
    """The fixed entries of one parameter.

    `settle` works in place on a tensor of any dtype and memory order. `read` and `write`, for all other verbs, use the
    order of the block: the loops of a view, else one flat row.
    """

    def __init__(self, block: Fixed, like: Tensor, loops: FixedLoops | None = None) -> None:
        self._block, self._loops, self.names = block, loops, (block.parameter.name,)
        self._shape = block.parameter.shape
        self._box: Box | None = box_of(block.places) if isinstance(block.places, View) else None
        self._runs = few_runs(block)
        self._device = like.device
        self._stored: Tensor | None = None
        self._marks: Tensor | None = None

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        places = self._block.places
        if not compiled or isinstance(places, View):  # torch's own operations are as fast for a box
            return self
        return FixedKernel(self._block, like, FixedLoops(self._block, places))

    def read(self, tensors: Tensors) -> Tensor:
        tensor = tensors[self.names[0]]
        if tensor is None:
            return torch.zeros(self._read_shape, device=self._device)
        if self._box is not None:
            return self._box.read(tensor)
        return tensor.masked_select(self._mask).to(regular_dtype(tensor.dtype))

    def write(self, tensors: Tensors, values: Tensor) -> None:
        tensor = tensors[self.names[0]]
        if tensor is None:
            return
        if self._box is not None:
            self._box.write(tensor, values.expand(self._read_shape))
        else:
            tensor.masked_scatter_(self._mask, values.expand(self._read_shape).to(tensor.dtype))

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._values.to(x.dtype).expand(x.shape), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self.land(x, None)[0]

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        return torch.zeros_like(x), state

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        block = self._block
        places = positions_of(block.places)
        return given_entries(
            np.full(len(places), names[block.parameter.name]), places, block.values_at(np.arange(block.size))
        )

    def noise(self, x: Tensor) -> Tensor:
        return x.abs()

    def settle(
        self,
        tensors: Tensors,
        *,
        affine: bool,
        quiet: float = 0.0,
        decay: Decay | None = None,
        metric: Mapping[str, Tensor] | None = None,
    ) -> bool:
        """Set the entries in place: to their values if `affine`, in any metric, else to zero. Always returns True."""
        original = tensors[self.names[0]]
        if original is None:
            return True
        if decay is not None and (rate := decay.rates.get(self.names[0], 0.0)):
            self._decay(original, decay.weights[self.names[0]], rate)
            return True
        tensor, stored = original.detach(), self._block.stored
        value = None
        if not affine:
            value = tensor.new_zeros(())
        elif isinstance(stored, float):  # a value beyond the dtype becomes infinite, which attaching reports
            value = self._values_as_stored.to(tensor.dtype)
        if not tensor.is_contiguous():
            self._set_anywhere(tensor, value)
        elif value is not None:
            self._fill(tensor.view(-1), value)
        else:
            self._put(tensor.view(-1))
        increment_version(original)
        return True

    def _decay(self, gradient: Tensor, weights: Tensor, rate: float) -> None:
        """Set gradients to `−rate · w` in place, so that they become zero when the optimizer adds the decay."""
        tensor, source = gradient.detach(), weights.detach()
        if not (tensor.is_contiguous() and source.is_contiguous()):
            self.write({self.names[0]: tensor}, self.read({self.names[0]: source}) * -rate)
            return
        flat, source = tensor.view(-1), source.view(-1)
        if self._box is not None:
            torch.mul(_boxed(self._places, source), -rate, out=_boxed(self._places, flat))
        elif self._runs is not None:
            for first, last in self._runs:
                torch.mul(source[first:last], -rate, out=flat[first:last])
        elif self._loops is None or not self._loops.decay(flat, source, rate, torch.get_num_threads()):
            flat.copy_(torch.where(self._mask.view(-1), source * -rate, flat))
        increment_version(gradient)

    def _fill(self, flat: Tensor, value: Tensor) -> None:
        if self._box is not None:
            _boxed(self._places, flat).fill_(value)
        elif self._runs is not None:
            for first, last in self._runs:
                flat[first:last].fill_(value)
        elif self._loops is None or not self._loops.fill(flat, value, torch.get_num_threads()):
            flat.masked_fill_(self._mask.view(-1), value)

    def _put(self, flat: Tensor) -> None:
        if self._box is not None:
            _copied(self._values_as_stored, _boxed(self._places, flat), negated=self._block.negated)
        elif self._runs is not None:
            before = 0
            for first, last in self._runs:
                part = self._values_as_stored[before : before + last - first]
                _copied(part, flat[first:last], negated=self._block.negated)
                before += last - first
        elif self._loops is None or not self._loops.put(flat, torch.get_num_threads()):
            flat.masked_scatter_(self._mask.view(-1), self._values.to(flat.dtype))

    def _set_anywhere(self, tensor: Tensor, value: Tensor | None) -> None:
        if self._box is None and value is not None:
            tensor.masked_fill_(self._mask, value)
            return
        self.write({self.names[0]: tensor}, self._values if value is None else value)

    @property
    def _places(self) -> View:
        assert isinstance(self._block.places, View)
        return self._block.places

    @property
    def _read_shape(self) -> tuple[int, ...]:
        return (self._block.size,) if self._box is None else self._box.shape

    @property
    def _mask(self) -> Tensor:
        """The entries as a mask of the parameter's shape."""
        if self._marks is None:
            self._marks = mask_on(self._block, self._device).view(self._shape)
        return self._marks

    @property
    def _values_as_stored(self) -> Tensor:
        """The values as the block stores them, in its dtype; on the CPU they share its memory."""
        if self._stored is None:
            self._stored = stored_on(self._block, self._device)
        return self._stored

    @property
    def _values(self) -> Tensor:
        """The values in the dtype of the block; computed on each call where the block stores the negated values."""
        stored = self._values_as_stored
        return 0.0 - stored if self._block.negated else stored


class FixedLoops:
    """Compiled loops over the flat numbers of a parameter, for entries in a mask or in runs of positions.

    Each verb returns False, and changes nothing, for dtypes without a compiled loop.
    """

    def __init__(self, block: Fixed, places: Intervals | Masked) -> None:
        from affinet.kernels.loops import masks_and_runs, openmp

        self._loops, self._team = masks_and_runs, openmp.team
        self._places, self._stored = places, block.stored
        self._sign = -1.0 if block.negated else 1.0

    def fill(self, flat: Tensor, value: Tensor, threads: int) -> bool:
        """Set the entries to one number; False for a dtype without an integer dtype of the same size."""
        kind = INTEGERS.get(flat.element_size())
        if kind is None or not self._reaches(flat):
            return False
        bits = value.view(kind).numpy()[()]
        x = flat.view(kind).numpy()
        if isinstance(self._places, Masked):
            self._loops.fill_masked(x, self._places.mask, bits, self._team(len(x), threads))
        else:
            self._loops.fill_runs(x, *self._bounds, bits, self._team(self._places.size, threads))
        return True

    def put(self, flat: Tensor, threads: int) -> bool:
        """Set the entries to their values; False for dtypes without a compiled loop."""
        stored = self._stored
        if isinstance(stored, float) or flat.dtype not in WIDTHS or not self._reaches(flat):
            return False
        x, team = flat.numpy(), self._team(self._places.size, threads)
        if isinstance(self._places, Masked):
            self._loops.put_masked(x, self._places.mask, stored, self._before, self._sign, team)
        else:
            self._loops.put_runs(x, *self._bounds, stored, self._places.before, self._sign, team)
        return True

    def decay(self, flat: Tensor, weights: Tensor, rate: float, threads: int) -> bool:
        """Set the entries to `−rate` times the weights; False for dtypes without a compiled loop."""
        if flat.dtype not in WIDTHS or weights.dtype != flat.dtype or not self._reaches(flat):
            return False
        x, source, team = flat.numpy(), weights.numpy(), self._team(len(flat), threads)
        if isinstance(self._places, Masked):
            self._loops.scale_masked(x, self._places.mask, source, -rate, team)
        else:
            self._loops.scale_runs(x, *self._bounds, source, -rate, team)
        return True

    def _reaches(self, flat: Tensor) -> bool:
        return flat.device.type == "cpu"

    @property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(self._places, Intervals)
        return self._places.first, self._places.last

    @cached_property
    def _before(self) -> np.ndarray:
        """The number of Trues before each block of the mask."""
        assert isinstance(self._places, Masked)
        starts = np.arange(0, len(self._places.mask), self._loops.BLOCK)
        counts = np.add.reduceat(self._places.mask, starts, dtype=np.int64)
        return np.concatenate([[0], np.cumsum(counts)[:-1]])


def few_runs(block: Fixed) -> list[tuple[int, int]] | None:
    """The first position and the end of each run, where there are few runs; None for other sets."""
    if isinstance(block.places, Intervals) and len(block.places.first) <= FEW_RUNS:
        return list(zip(block.places.first.tolist(), block.places.last.tolist(), strict=True))
    return None


def _boxed(view: View, flat: Tensor) -> Tensor:
    """The entries of a view in the flat parameter."""
    sizes, steps = tuple(size for size, _ in view.dims), tuple(step for _, step in view.dims)
    return flat.as_strided(sizes, steps, flat.storage_offset() + view.offset)


def _copied(source: Tensor, target: Tensor, *, negated: bool) -> None:
    """Copy numbers to `target`, negated if `negated`; zeros become positive zeros."""
    if negated:
        torch.sub(source.new_zeros(()), source.expand(target.shape), out=target)
    else:
        target.copy_(source)


def mask_on(block: Fixed, device: torch.device) -> Tensor:
    """The entries as a flat mask; on the CPU it shares memory with the mask of the block, if the block has one."""
    mask = mask_of(block.places, block.parameter.size)
    return torch.from_numpy(mask if mask.flags.writeable else mask.copy()).to(device)


def stored_on(block: Fixed, device: torch.device) -> Tensor:
    """The stored numbers of a block, in their dtype; on the CPU they share its memory."""
    stored = block.stored
    if isinstance(stored, float):
        return torch.tensor(stored, dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    shareable = stored.flags.writeable and all(step >= 0 for step in stored.strides)
    tensor = torch.from_numpy(stored if shareable else stored.copy())
    return tensor.to(device) if device.type != "mps" else tensor.float().to(device)
