"""torch as a library in which the laws of blocks run as pure functions, for what trains torch's tensors without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.namespace import Namespace
from affinet.kernels.torch.torch_namespace import Torch
from affinet.kernels.traced.states import map_states


class TorchLibrary:
    """`affinet.kernels.traced.library.Library` for tensors, which are computed at once."""

    def __init__(self) -> None:
        self.xp = Torch()

    def dtype(self, name: str) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, name)
        return dtype

    def widest(self, dtypes: Sequence[torch.dtype]) -> torch.dtype:
        widest = torch.float32
        for dtype in dtypes:
            widest = torch.promote_types(widest, dtype)
        return widest

    def eps(self, dtype: torch.dtype) -> float:
        return torch.finfo(dtype).eps

    def cast(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype, copy=True)  # verbs of laws may write to it

    def at(self, x: Tensor, positions: np.ndarray) -> Tensor:
        return self.xp.take(x.reshape(-1), positions)

    def put(self, x: Tensor, positions: np.ndarray, values: Tensor) -> Tensor:
        return self.xp.put(x.reshape(-1), positions, values).reshape(x.shape)

    def slice(self, x: Tensor, starts: Sequence[int], sizes: Sequence[int]) -> Tensor:
        return x[_box(starts, sizes)]

    def with_slice(self, x: Tensor, starts: Sequence[int], values: Tensor) -> Tensor:
        changed = x.clone()
        changed[_box(starts, tuple(values.shape))] = values
        return changed

    def all(self, condition: Tensor) -> Tensor:
        return condition.all()

    def fused_either(self, condition: Tensor, first: Callable[[], Tensor], second: Callable[[], Tensor]) -> Tensor:
        chosen: Tensor = self.xp.either(condition, first, second)
        return chosen

    def map(self, function: Callable[..., Any], *states: Any) -> Any:
        return map_states(function, *states)

    def asks_host(self, verb: Callable[[Namespace, Tensor], Tensor], shape: tuple[int, ...]) -> bool:
        """False: tensors have their numbers at any time."""
        return False

    def called(self, verb: Callable[..., Any], shapes: Any, *states: Any) -> Any:
        return verb(self.xp, *states)

    def derived_from(self, function: Callable[[Tensor], Tensor], smooth: Callable[[Tensor], Tensor], x: Tensor) -> Any:
        """`function(x)`: the steps of Keras do not record gradients."""
        return function(x)

    def without_derivative(self, function: Callable[..., Any], reason: str, *states: Any) -> Any:
        """`function(*states)`: the steps of Keras do not record gradients."""
        return function(*states)


def _box(starts: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
