"""Reads the entries of a block from its parameters into one tensor, and writes them back."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, prod

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.entry_sets import View
from affinet.blocks.offsets import Dim, Nest, Offsets, disjoint_sums
from affinet.blocks.places import Part
from affinet.kernels.torch.precision import irregular_dtype, regular_dtype
from affinet.kernels.torch.putting import put
from affinet.language.calculus.terms import row_major_steps

Tensors = Mapping[str, Tensor | None]
"""Parameters or gradients by name; None for a missing gradient."""


FEW = 4_096
"""Entries up to which one call of `take` is faster than `index_select`, which is faster per entry but needs a view."""


class Box:
    """A regular box of one parameter, as a strided view: nothing is copied where dtype and memory order allow.

    Loops with negative steps are flipped. `select` are (axis, places) for axes with only some places in the box.
    """

    def __init__(self, name: str, offset: int, dims: tuple[Dim, ...], select: dict[int, Tensor] | None = None) -> None:
        self.name = name
        self._offset = offset + sum(step * (size - 1) for size, step in dims if step < 0)
        self._sizes = tuple(size for size, _ in dims)
        self._steps = tuple(abs(step) for _, step in dims)
        self._flips = tuple(axis for axis, (_, step) in enumerate(dims) if step < 0)
        self._select = select or {}
        self._row_major = row_major_steps(self._sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in which entries are read."""
        return tuple(len(self._select[axis]) if axis in self._select else n for axis, n in enumerate(self._sizes))

    @property
    def is_view(self) -> bool:
        """Whether entries are read in place, for row-major tensors in a working dtype."""
        return not self._flips and not self._select

    def read(self, tensor: Tensor) -> Tensor:
        """The entries in the working dtype, of shape (loops…). It may share memory with `tensor`."""
        return self._selected(self._view(tensor.contiguous())).to(regular_dtype(tensor.dtype))

    def write(self, tensor: Tensor, values: Tensor) -> None:
        """Write the entries back, rounded to the tensor's dtype; all other entries keep their bits."""
        if self._is_view(tensor, values):
            return
        flat = tensor.contiguous()
        view = self._view(flat)
        values = values.flip(self._flips) if self._flips else values
        if self._select:
            (axis, places), *further = self._select.items()
            assert not further
            view.index_copy_(axis, places, values.to(tensor.dtype))
        else:
            view.copy_(values)
        if flat is not tensor and flat.data_ptr() != tensor.data_ptr():
            tensor.copy_(flat)

    def within(self, flat: np.ndarray) -> np.ndarray | None:
        """The entries as a view of the flat row-major numbers of the parameter; None unless they are contiguous."""
        if not self.is_view or self._steps != self._row_major:
            return None
        return flat[self._offset : self._offset + prod(self._sizes)].reshape(self._sizes)

    def rows_within(self, flat: np.ndarray) -> np.ndarray | None:
        """The entries as a matrix in the flat row-major numbers; None unless each row has neighbours."""
        if not self.is_view or len(self._sizes) != 2 or self._steps[1] != 1 or self._steps[0] < self._sizes[1]:
            return None
        steps = (self._steps[0] * flat.itemsize, flat.itemsize)
        return np.lib.stride_tricks.as_strided(flat[self._offset :], self._sizes, steps)

    def _is_view(self, tensor: Tensor, values: Tensor) -> bool:
        """Whether `values` are the view that `read` returned, changed in place."""
        place = tensor.data_ptr() + self._offset * tensor.element_size()
        return values.data_ptr() == place and values.dtype == tensor.dtype and not self._flips

    def _view(self, flat: Tensor) -> Tensor:
        if flat.shape == self._sizes and self._steps == self._row_major and not self._offset:
            return flat
        return flat.as_strided(self._sizes, self._steps, flat.storage_offset() + self._offset)

    def _selected(self, view: Tensor) -> Tensor:
        for axis, places in self._select.items():
            view = view.index_select(axis, places)
        return view.flip(self._flips) if self._flips else view


class Gathered:
    """Irregular entries of one or more parameters, side by side in one flat tensor of the widest dtype or `dtype`."""

    def __init__(
        self,
        parts: tuple[Part, ...],
        device: torch.device,
        order: np.ndarray | None = None,
        dtype: torch.dtype | None = None,
        shape: tuple[int, ...] = (-1,),
    ) -> None:
        """`order` permutes the entries as they are read, and `shape` is the shape of the result."""
        self.names = tuple(part.parameter.name for part in parts)
        self._dtype, self._device = dtype or irregular_dtype(device), device
        positions = [part.positions for part in parts]
        if order is not None and len(parts) == 1:
            positions, order = [positions[0][order]], None
        self._places = [_places(p, device) for p in positions]
        self._sizes = [len(p) for p in positions]
        self._shape = shape
        few = len(parts) == 1 and self._sizes[0] <= FEW
        self._few = torch.as_tensor(positions[0].astype(np.int64), device=device).view(shape) if few else None
        self._order = None if order is None else torch.as_tensor(order.astype(np.int64), device=device)
        self._back = None if order is None else torch.as_tensor(np.argsort(order), device=device)

    def read(self, tensors: Tensors) -> Tensor:
        """The entries; entries of a missing tensor are zero."""
        if self._few is not None and (only := tensors[self.names[0]]) is not None:
            return only.take(self._few).to(self._dtype)
        pieces = [
            torch.zeros(size, dtype=self._dtype, device=self._device)
            if (tensor := tensors[name]) is None
            else _flat_take(tensor, where, self._dtype)
            for name, where, size in zip(self.names, self._places, self._sizes, strict=True)
        ]
        flat = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return (flat if self._order is None else flat.index_select(0, self._order)).view(self._shape)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Write the entries back to tensors that are present; `values` broadcast to the shape of `read`."""
        if self._few is not None and (only := tensors[self.names[0]]) is not None:
            put(only, self._few, values.expand(self._few.shape).to(only.dtype))
            return
        if len(self._shape) > 1:
            values = values.expand(self._shape).reshape(-1)
        flat = values if self._back is None else values.index_select(0, self._back)
        pieces = (flat,) if len(self._sizes) == 1 else torch.split(flat, self._sizes)
        for name, where, piece in zip(self.names, self._places, pieces, strict=True):
            tensor = tensors[name]
            if tensor is not None:
                _flat_put(tensor, where, piece)


def box_of(view: View) -> Box:
    """The box of a view."""
    return Box(view.parameter.name, view.offset, view.dims)


def cells_box(name: str, offset: int, outer: Offsets, inner: Offsets, device: torch.device) -> tuple[Box, int] | None:
    """A box over cells and the places inside them, and the number of its axes that run over cells.

    Tables become an axis of regular steps with some places selected. None where that axis would make the view overlap
    itself; such entries are gathered individually.
    """
    dims: list[Dim] = []
    select: dict[int, Tensor] = {}
    padded: list[Offsets] = []
    for part in (outer, inner):
        if isinstance(part, Nest):
            dims += part.dims or ((1, 1),)
            padded.append(part)
            continue
        positions = part.table()
        low, step = int(positions.min()), gcd(*(int(p) for p in np.unique(positions - positions.min()))) or 1
        select[len(dims)] = torch.as_tensor((positions - low) // step, device=device)
        dims.append((int(positions.max() - low) // step + 1, step))
        offset += low
        padded.append(Nest((dims[-1],)))
    if len(select) > 1 or (select and not disjoint_sums(*padded)):
        return None
    cells = len(outer.dims or ((1, 1),)) if isinstance(outer, Nest) else 1
    return Box(name, offset, tuple(dims), select), cells


def _places(positions: np.ndarray, device: torch.device) -> Tensor | slice:
    """Positions as a slice where they follow one another, which is read and written in a third of the time."""
    first, count = int(positions[0]) if len(positions) else 0, len(positions)
    if np.array_equal(positions, np.arange(first, first + count)):
        return slice(first, first + count)
    return torch.as_tensor(positions.astype(np.int64), device=device)


def _flat_take(tensor: Tensor, places: Tensor | slice, dtype: torch.dtype) -> Tensor:
    """A copy of the numbers at places of the flat tensor."""
    if isinstance(places, slice):
        flat = tensor.view(-1) if tensor.is_contiguous() else tensor.reshape(-1)
        return flat[places].to(dtype, copy=True)
    return (tensor.view(-1).index_select(0, places) if tensor.is_contiguous() else tensor.take(places)).to(dtype)


def _flat_put(tensor: Tensor, places: Tensor | slice, values: Tensor) -> None:
    if isinstance(places, slice) and tensor.is_contiguous():
        tensor.view(-1)[places].copy_(values)
        return
    if isinstance(places, slice):
        places = torch.arange(places.start, places.stop, device=tensor.device)
    values = values.to(tensor.dtype)
    if tensor.is_contiguous():
        tensor.view(-1).index_copy_(0, places, values)
    else:
        put(tensor, places, values)
