"""Reads and writes the entries of any set of places, as strided views where they are regular."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Protocol, assert_never

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.entry_sets import View, positions_of
from affinet.blocks.places import Adjacent, Chosen, Following, Listed, Part, Places, Stepped
from affinet.kernels.torch.access import Box, Gathered, Tensors, box_of, cells_box
from affinet.language.calculus.terms import Integers


class Access(Protocol):
    """The entries of some places, in their order."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are read."""

    def read(self, tensors: Tensors) -> Tensor:
        """The entries, zero for a missing tensor; they may share memory with a parameter."""

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Write entries, in any shape, to the tensors that are present, rounded to their dtype."""


def access_to(places: Places, device: torch.device) -> Access:
    """The access to places in parameters on a device."""
    match places:
        case Stepped():
            box = cells_box(places.parameter.name, places.offset, places.outer, places.inner, device)
            if box is not None:
                return _Boxes((box[0],), 1, device)
            positions = places.offset + places.outer.table()[:, None] + places.inner.table()
            return _Entries((Part(places.parameter, positions.ravel()),), device)
        case Chosen():
            if isinstance(places.entries, View):
                return _Boxes((box_of(places.entries),), 1, device)
            return _Entries((Part(places.parameter, positions_of(places.entries)),), device)
        case Listed():
            return _Entries(places.parts, device)
        case Following():
            pieces = [piece for piece in places.pieces if piece.count]
            return _Sequence([access_to(piece, device) for piece in pieces], [piece.count for piece in pieces])
        case Adjacent():
            return _Boxes(tuple(box_of(view) for view in places.members), places.rows, device)
        case _:
            assert_never(places)


def reordered(access: Access, order: Integers | None, device: torch.device) -> Access:
    """The access whose entry k is entry `order[k]`; the access itself without an order."""
    return access if order is None else _Reordered(access, order, device)


class _Reordered:
    """Entries in another order than that of their places, as a copy."""

    def __init__(self, access: Access, order: Integers, device: torch.device) -> None:
        self.names, self._access = access.names, access
        self._order, self._back = (
            torch.as_tensor(order, device=device),
            torch.as_tensor(np.argsort(order), device=device),
        )

    def read(self, tensors: Tensors) -> Tensor:
        return self._access.read(tensors).reshape(-1).index_select(0, self._order)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._access.write(tensors, values.reshape(-1).index_select(0, self._back))


class _Boxes:
    """Boxes side by side: one box as a view of its parameter, several as the columns of one matrix."""

    def __init__(self, boxes: tuple[Box, ...], rows: int, device: torch.device) -> None:
        self.names = tuple(dict.fromkeys(box.name for box in boxes))
        self._boxes, self._rows, self._device = boxes, rows, device

    def read(self, tensors: Tensors) -> Tensor:
        pieces = [
            torch.zeros(box.shape, device=self._device) if (tensor := tensors[box.name]) is None else box.read(tensor)
            for box in self._boxes
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat([piece.reshape(self._rows, -1) for piece in pieces], 1)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        sizes = [prod(box.shape) // self._rows for box in self._boxes]
        pieces = [values] if len(sizes) == 1 else values.reshape(self._rows, -1).split(sizes, 1)
        for box, piece in zip(self._boxes, pieces, strict=True):
            tensor = tensors[box.name]
            if tensor is not None:
                box.write(tensor, piece.reshape(box.shape))


class _Entries:
    """Entries at listed positions, gathered."""

    def __init__(self, parts: tuple[Part, ...], device: torch.device) -> None:
        self._gathered = Gathered(parts, device)
        self.names = tuple(dict.fromkeys(self._gathered.names))

    def read(self, tensors: Tensors) -> Tensor:
        return self._gathered.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._gathered.write(tensors, values.reshape(-1))


class _Sequence:
    """Sets of places, one after the other."""

    def __init__(self, pieces: Sequence[Access], sizes: list[int]) -> None:
        self.names = tuple(dict.fromkeys(name for piece in pieces for name in piece.names))
        self._pieces, self._sizes = pieces, sizes

    def read(self, tensors: Tensors) -> Tensor:
        return torch.cat([piece.read(tensors).reshape(-1) for piece in self._pieces])

    def write(self, tensors: Tensors, values: Tensor) -> None:
        for piece, part in zip(self._pieces, values.reshape(-1).split(self._sizes), strict=True):
            piece.write(tensors, part)
