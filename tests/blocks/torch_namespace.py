"""torch as a namespace of laws, without one operation in place: what is only right for NumPy fails here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Torch:
    """The operations of `affinet.blocks.namespace.Namespace` on tensors."""

    def array(self, values: Any, like: Tensor) -> Tensor:
        return torch.as_tensor(np.array(values), dtype=like.dtype, device=like.device)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.reshape(shape)

    def broadcast(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.expand(shape)

    def permute(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.permute(tuple(axes))

    def flip(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.flip(tuple(axes))

    def take(self, x: Tensor, places: np.ndarray) -> Tensor:
        return x[..., torch.as_tensor(places)]

    def put(self, x: Tensor, places: np.ndarray, values: Tensor) -> Tensor:
        y = x.clone()
        y[..., torch.as_tensor(places)] = values
        return y

    def sum(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.sum(tuple(axes), keepdim=True) if axes else x.clone()

    def segment_sum(self, x: Tensor, segments: np.ndarray, count: int) -> Tensor:
        return torch.zeros(count, dtype=x.dtype).index_add_(0, torch.as_tensor(segments, dtype=torch.int64), x)

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y

    def solve(self, matrix: Tensor, rhs: Tensor) -> Tensor:
        return torch.linalg.solve(matrix, rhs[..., None])[..., 0]

    def where(self, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(condition, x, y)

    def concat(self, arrays: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(arrays), -1)

    def hold(self, x: Tensor) -> Tensor:
        return x
