"""The operations of array namespaces on tensors, with which laws run in torch.

Constants of a block become tensors once: as long as a NumPy array exists, its tensor on a device is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from affinet.kernels.torch.looped import available
from affinet.kernels.torch.precision import exact_matmul

Key = tuple[int, torch.dtype, torch.device]
State = TypeVar("State")
UNDIVIDED = 256
"""Rows of a mirrored product that is computed as a whole. Of 1024 rows, dividing it saves a third of the time; of 256
it saves a sixth, and of 128 nothing."""


class Torch:
    """The operations of `affinet.blocks.namespace.Namespace` on tensors; only `add_diagonal` writes to its argument."""

    def __init__(self) -> None:
        self._constants: dict[Key, tuple[ref[np.ndarray], Tensor]] = {}

    def array(self, values: Any, like: Tensor) -> Tensor:
        return self._constant(values, like.dtype, like.device)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.reshape(shape)

    def broadcast(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.expand(shape)

    def permute(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.permute(tuple(axes))

    def flip(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.flip(tuple(axes))

    def take(self, x: Tensor, places: np.ndarray | Tensor) -> Tensor:
        return x[..., self._constant(places, torch.int64, x.device)]

    def put(self, x: Tensor, places: np.ndarray, values: Tensor) -> Tensor:
        y = x.clone()
        y[..., self._constant(places, torch.int64, x.device)] = values
        return y

    def sum(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.sum(tuple(axes), keepdim=True) if axes else x.clone()

    def segment_sum(self, x: Tensor, segments: np.ndarray | Tensor, count: int) -> Tensor:
        totals = torch.zeros(count, dtype=x.dtype, device=x.device)
        return totals.index_add_(0, self._constant(segments, torch.int64, x.device), x)

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        return (exact_matmul(x) @ exact_matmul(y)).to(x.dtype)

    def mirrored_product(self, x: Tensor, y: Tensor, sign: float) -> Tensor:
        if x.shape[-2] <= UNDIVIDED or x.device.type != "cpu":
            return self.matmul(x, y.mT)
        if x.ndim == 3 and len(x) == 1:  # torch turns single matrices in a quarter of the time
            return self.mirrored_product(x[0], y[0], sign)[None]
        half = x.shape[-2] // 2
        low, high = (slice(None, half), slice(half, None))
        below = self.matmul(x[..., high, :], y[..., low, :].mT)
        first, last = (self.mirrored_product(x[..., part, :], y[..., part, :], sign) for part in (low, high))
        above = below.mT.contiguous()
        return torch.cat([torch.cat([first, above if sign > 0.0 else -above], -1), torch.cat([below, last], -1)], -2)

    def mirrored_part(self, x: Tensor, sign: float) -> Tensor:
        if x.ndim == 3 and len(x) == 1:
            return self.mirrored_part(x[0], sign)[None]
        turned = x.mT.clone(memory_format=torch.contiguous_format)
        turned *= sign
        turned += x
        turned *= 0.5
        return turned

    def add_diagonal(self, x: Tensor, value: float) -> Tensor:
        x.diagonal(dim1=-2, dim2=-1).add_(value)
        return x

    def solve(self, matrix: Tensor, rhs: Tensor) -> Tensor:
        solution: Tensor = torch.linalg.solve(matrix, rhs[..., None])[..., 0]
        return solution

    def eigh(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix.nan_to_num(0.0, 0.0, 0.0))
        return values, vectors

    def determinant(self, matrix: Tensor) -> Tensor:
        determinant: Tensor = torch.linalg.det(matrix)
        return determinant

    def cofactors(self, matrix: Tensor) -> Tensor:
        u, s, vt = torch.linalg.svd(matrix.nan_to_num(0.0, 0.0, 0.0))
        diagonal = torch.eye(s.shape[-1], dtype=torch.bool, device=s.device)
        sizes = torch.where(diagonal, 1.0, s[..., None, :]).prod(-1)
        signs = torch.linalg.det(u) * torch.linalg.det(vt)
        cofactors: Tensor = signs[..., None, None] * (u * sizes[..., None, :]) @ vt
        return cofactors

    def inverse(self, matrix: Tensor) -> Tensor:
        inverse, failed = torch.linalg.inv_ex(matrix)
        return torch.where(failed[..., None, None] != 0, torch.nan, inverse)

    def polar(self, matrix: Tensor) -> Tensor:
        u, _, vt = torch.linalg.svd(matrix.nan_to_num(0.0, 0.0, 0.0), full_matrices=False)
        polar: Tensor = u @ vt
        return polar

    def function(self, name: str, x: Tensor) -> Tensor:
        made: Tensor = getattr(torch, name)(x)
        return made

    def where(self, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(condition, x, y)

    def minimum(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.minimum(x, y)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.maximum(x, y)

    def largest(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.amax(tuple(axes), keepdim=True)

    def running_sum(self, x: Tensor) -> Tensor:
        return x.cumsum(-1)

    def running_max(self, x: Tensor) -> Tensor:
        return x.cummax(-1).values

    def any(self, condition: Tensor) -> bool:
        return bool(condition.any())

    def loop(
        self, state: State, going: Callable[[State], Tensor], advance: Callable[[int, State], State], most: int
    ) -> State:
        number = 0
        while number < most and bool(going(state).any()):
            number, state = number + 1, advance(number, state)
        return state

    def either(self, condition: Tensor, first: Callable[[], State], second: Callable[[], State]) -> State:
        return first() if bool(condition.any()) else second()

    def spacing(self, x: Tensor) -> float:
        return torch.finfo(x.dtype).eps

    def concat(self, arrays: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(arrays), -1)

    def stack(self, arrays: Sequence[Tensor], axis: int) -> Tensor:
        return torch.stack(list(arrays), axis)

    def host(self, x: Tensor) -> np.ndarray:
        numbers: np.ndarray = x.detach().to("cpu", torch.float64).numpy()
        return numbers

    def product(self, matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        if not available():
            return np.asarray(matrix @ x)
        from affinet.kernels.loops import dense_products
        from affinet.kernels.loops.openmp import team

        products, threads = np.empty(len(matrix)), team(matrix.size, torch.get_num_threads())
        if matrix.flags.c_contiguous:
            dense_products.times(matrix, np.ascontiguousarray(x), products, threads)
        else:
            dense_products.combined(np.ascontiguousarray(matrix.T), np.ascontiguousarray(x), products, threads)
        return products

    def descend(self, rows: np.ndarray, u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not available() or not rows.flags.c_contiguous:
            y = x - self.product(rows.T, u)
            return y, self.product(rows, y)
        from affinet.kernels.loops import dense_products
        from affinet.kernels.loops.openmp import team

        y = np.array(x, np.float64)
        parts = np.empty((dense_products.count_of_spans(rows), len(rows)))
        dense_products.descend(rows, np.ascontiguousarray(u), y, parts, team(rows.size, torch.get_num_threads()))
        return y, parts.sum(axis=0)

    def hold(self, x: Tensor) -> Tensor:
        return x

    def _constant(self, values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Numbers as a tensor of their own memory; of a NumPy array that still exists, the tensor made before."""
        if isinstance(values, Tensor):
            return values
        if not isinstance(values, np.ndarray):
            return torch.as_tensor(np.array(values), dtype=dtype, device=device)
        key = id(values), dtype, device
        known = self._constants.get(key)
        if known is not None and known[0]() is values:
            return known[1]
        tensor = torch.as_tensor(np.array(values), dtype=dtype, device=device)
        self._constants[key] = ref(values, lambda _: self._constants.pop(key, None)), tensor
        return tensor
