"""A block's entries as places of one whole parameter, which loops then work on where it lies."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.places import Part
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.kernel import Kernel, State, not_in_place, without_loops
from affinet.kernels.torch.putting import put
from affinet.kernels.torch.small_tables import Names, Tables


class Whole:
    """A kernel of entries of one parameter, read as the whole flat parameter: in place where its dtype is worked in.

    Writes the block's entries alone. What a loop does not do itself goes through `kernel`, which gathers the entries.
    """

    settle = not_in_place
    with_loops = without_loops

    def __init__(self, kernel: Kernel, part: Part, like: Tensor) -> None:
        self.names = kernel.names
        self._kernel, self._shape, self._dtype = kernel, part.parameter.shape, like.dtype
        self._name, self._part = part.parameter.name, part

    @staticmethod
    def fits(parts: tuple[Part, ...], like: Tensor) -> bool:
        """Whether the entries are of one contiguous parameter of fewer than 2³¹ entries."""
        return len(parts) == 1 and like.is_contiguous() and like.numel() < 2**31

    @staticmethod
    def within(flat: np.ndarray) -> np.ndarray:
        """All of the parameter."""
        return flat

    def read(self, tensors: Tensors) -> Tensor:
        tensor = tensors[self._name]
        assert tensor is not None
        return tensor.to(self._dtype).contiguous().view(-1)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        tensor = tensors[self._name]
        assert tensor is not None
        if values.data_ptr() == tensor.data_ptr() and tensor.is_contiguous():
            return
        some = values.index_select(0, self._places).to(tensor.dtype)
        if tensor.is_contiguous():
            tensor.view(-1).index_copy_(0, self._places, some)
        else:
            put(tensor, self._places, some)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        moved, state = self._kernel.land(self._gathered(x), state)
        return self._changed(x, moved), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._changed(x, self._kernel.land_in_metric(self._gathered(x), self._gathered(metric)))

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        along, state = self._kernel.tangent(self._gathered(x), state, floor=floor)
        return self._changed(x, along), state

    def noise(self, x: Tensor) -> Tensor:
        return self._changed(x, self._kernel.noise(self._gathered(x)))

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        return self._kernel.tables(names, dtype)

    def _gathered(self, x: Tensor) -> Tensor:
        return self._kernel.read({self._name: x.view(self._shape)})

    def _changed(self, x: Tensor, values: Tensor) -> Tensor:
        done = x.clone()
        self._kernel.write({self._name: done.view(self._shape)}, values)
        return done

    @cached_property
    def _places(self) -> Tensor:
        return torch.from_numpy(self._part.positions.astype(np.int64))
