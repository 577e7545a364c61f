"""A kernel that reads the full parameter instead of a block's entries, so that loops work on it in place."""

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


class WholeParameter:
    """A kernel of entries of one parameter that reads the entire flat parameter, in place for working dtypes.

    It writes only the block's entries. Verbs without a loop go through `kernel`, which gathers the entries.
    """

    settle = not_in_place
    with_loops = without_loops

    def __init__(self, kernel: Kernel, part: Part, like: Tensor) -> None:
        self.names = kernel.names
        self._kernel, self._shape, self._dtype = kernel, part.parameter.shape, like.dtype
        self._name, self._part = part.parameter.name, part

    @staticmethod
    def fits(parts: tuple[Part, ...], like: Tensor) -> bool:
        """Whether the entries belong to one contiguous parameter of fewer than 2³¹ entries."""
        return len(parts) == 1 and like.is_contiguous() and like.numel() < 2**31

    @staticmethod
    def within(flat: np.ndarray) -> np.ndarray:
        """All entries of the parameter."""
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
        entries = values.index_select(0, self._places).to(tensor.dtype)
        if tensor.is_contiguous():
            tensor.view(-1).index_copy_(0, self._places, entries)
        else:
            put(tensor, self._places, entries)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        moved, state = self._kernel.land(self._gathered(x), state)
        return self._changed(x, moved), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._changed(x, self._kernel.land_in_metric(self._gathered(x), self._gathered(metric)))

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        tangent, state = self._kernel.tangent(self._gathered(x), state, floor=floor)
        return self._changed(x, tangent), state

    def noise(self, x: Tensor) -> Tensor:
        return self._changed(x, self._kernel.noise(self._gathered(x)))

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        return self._kernel.tables(names, dtype)

    def _gathered(self, x: Tensor) -> Tensor:
        return self._kernel.read({self._name: x.view(self._shape)})

    def _changed(self, x: Tensor, values: Tensor) -> Tensor:
        changed = x.clone()
        self._kernel.write({self._name: changed.view(self._shape)}, values)
        return changed

    @cached_property
    def _places(self) -> Tensor:
        return torch.from_numpy(self._part.positions.astype(np.int64))
