"""A block's entries as places of one whole parameter, which compiled loops then work on where it lies."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.kernel import Kernel
from affinet.structure.blocks import Part


class Whole:
    """Reads a parameter flat, in place where the working dtype is its own, and writes the block's entries alone."""

    def __init__(self, part: Part, like: Tensor) -> None:
        self.name, self._shape, self._dtype = part.parameter.name, part.parameter.shape, like.dtype
        self._positions = part.positions

    @staticmethod
    def fits(parts: tuple[Part, ...], like: Tensor) -> bool:
        """Whether the entries are of one contiguous parameter of fewer than 2³¹ entries."""
        return len(parts) == 1 and like.is_contiguous() and like.numel() < 2**31

    def read(self, tensors: Tensors) -> Tensor:
        tensor = tensors[self.name]
        assert tensor is not None
        return tensor.to(self._dtype).contiguous().view(-1)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        tensor = tensors[self.name]
        assert tensor is not None
        if values.data_ptr() == tensor.data_ptr() and tensor.is_contiguous():
            return
        some = values.index_select(0, self._places).to(tensor.dtype)
        if tensor.is_contiguous():
            tensor.view(-1).index_copy_(0, self._places, some)
        else:
            tensor.put_(self._places, some)

    def project_in_metric(self, kernel: Kernel, x: Tensor, metric: Tensor) -> Tensor:
        """What the kernel of the block, which reads its entries in another way, makes of them."""
        weights, resistance = {self.name: x.clone().view(self._shape)}, {self.name: metric.view(self._shape)}
        kernel.write(weights, kernel.project_in_metric(kernel.read(weights), kernel.read(resistance)))
        return weights[self.name].view(-1)

    @cached_property
    def _places(self) -> Tensor:
        return torch.from_numpy(self._positions.astype(np.int64))
