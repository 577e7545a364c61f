"""Buffers that are reused from step to step: fresh pages of memory cost as much as several passes over them."""

from __future__ import annotations

from threading import local

import torch
from torch import Tensor


class Scratch(local):
    """Tensors to write to, separate for each thread; their previous content is lost."""

    def __init__(self) -> None:
        self._buffers: dict[int, Tensor] = {}

    def like(self, x: Tensor, number: int) -> Tensor:
        """Buffer `number`, row-major, of the shape, dtype and device of x."""
        buffer = self._buffers.get(number)
        if buffer is None or buffer.shape != x.shape or buffer.dtype != x.dtype or buffer.device != x.device:
            buffer = torch.empty(x.shape, dtype=x.dtype, device=x.device)
            self._buffers[number] = buffer
        return buffer
