"""Buffers that are kept from step to step: fresh pages of memory cost as much as several passes over them."""

from __future__ import annotations

from threading import local

import torch
from torch import Tensor


class Scratch(local):
    """Tensors to write to, each thread its own; what they held before is lost."""

    def __init__(self) -> None:
        self._kept: dict[int, Tensor] = {}

    def like(self, x: Tensor, number: int) -> Tensor:
        """Buffer `number`, row-major, of the shape, dtype and device of x."""
        found = self._kept.get(number)
        if found is None or found.shape != x.shape or found.dtype != x.dtype or found.device != x.device:
            found = torch.empty(x.shape, dtype=x.dtype, device=x.device)
            self._kept[number] = found
        return found
