"""A kernel that reads boxes of several parameters side by side into one matrix, and projects the matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from affinet.blocks.commuting import Commuting
from affinet.blocks.joined import Joined
from affinet.blocks.slices import Slices
from affinet.kernels.torch.access import Tensors, box_of
from affinet.kernels.torch.crossing import crossing
from affinet.kernels.torch.kernel import Kernel, State, not_in_place
from affinet.kernels.torch.looped import WIDTHS, Looped
from affinet.kernels.torch.precision import regular_dtype_of
from affinet.kernels.torch.small_tables import not_small


class JoinedKernel:
    """Copies the boxes into the columns of one matrix, projects the matrix, and copies the columns back."""

    settle = not_in_place
    tables = not_small

    def __init__(
        self,
        block: Joined,
        prepare: Callable[[Slices | Commuting, Mapping[str, Tensor]], Kernel],
        tensors: Mapping[str, Tensor],
    ) -> None:
        self._base = block.base
        self._boxes = [box_of(view) for view in block.members]
        self.names = tuple(dict.fromkeys(box.name for box in self._boxes))
        self._dtype = regular_dtype_of(tensors[name] for name in self.names)
        self._device = tensors[self.names[0]].device
        self._shape = (block.cells, block.columns[-1])
        self._columns = [slice(*ends) for ends in zip(block.columns, block.columns[1:], strict=False)]
        self._inner = prepare(
            block.base, {block.within.parameter.name: torch.empty(0, dtype=self._dtype, device=self._device)}
        )

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        loops = crossing(self._base, self._boxes) if compiled and like.dtype in WIDTHS else None
        return self if loops is None else Looped(self, loops)

    def read(self, tensors: Tensors) -> Tensor:
        matrix = torch.empty(self._shape, dtype=self._dtype, device=self._device)
        for box, columns in zip(self._boxes, self._columns, strict=True):
            tensor, part = tensors[box.name], matrix[:, columns]
            if tensor is None:
                part.zero_()
            else:
                part.copy_(box.read(tensor).reshape(part.shape))
        return matrix

    def write(self, tensors: Tensors, values: Tensor) -> None:
        for box, columns in zip(self._boxes, self._columns, strict=True):
            tensor = tensors[box.name]
            if tensor is not None:
                box.write(tensor, values[:, columns].reshape(box.shape))

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._inner.land(x, state)

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._inner.land_in_metric(x, metric)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        return self._inner.tangent(x, state, floor=floor)

    def noise(self, x: Tensor) -> Tensor:
        return self._inner.noise(x)
