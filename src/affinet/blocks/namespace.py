"""The array operations that laws are written in, and NumPy's way of doing them.

Laws also use what all array libraries share: arithmetic, comparison, `abs`, `x ** 0.5`, basic slices, `.ndim`, `.shape`
and `.dtype`. An augmented assignment (`x -= y`) changes the array in place where the library can, and makes a new one
where it cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from affinet.system import lapack

Array = Any
"""An array of the namespace's library."""


class Namespace(Protocol):
    """The operations of one array library. `axes` are counted as the library counts them, from zero.

    A new library needs these methods and nothing else of affinet. `put` may write to its first argument, which is not
    used again; everything else leaves its arguments as they are.
    """

    def array(self, values: Any, like: Array) -> Array:
        """NumPy numbers as an array of the dtype and on the device of `like`; never written to."""

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The same numbers, row-major, in another shape."""

    def broadcast(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The same numbers in a larger shape; never written to."""

    def permute(self, x: Array, axes: Sequence[int]) -> Array:
        """The axes in another order."""

    def flip(self, x: Array, axes: Sequence[int]) -> Array:
        """The numbers along some axes backwards."""

    def take(self, x: Array, places: np.ndarray) -> Array:
        """The numbers at places of the last axis, as a new array; `places` may have several axes."""

    def put(self, x: Array, places: np.ndarray, values: Array) -> Array:
        """`x` with other numbers at some places of the last axis, none of which comes twice; may write to `x`."""

    def sum(self, x: Array, axes: Sequence[int]) -> Array:
        """The sum along axes, which are kept with length one."""

    def segment_sum(self, x: Array, segments: np.ndarray, count: int) -> Array:
        """For flat `x`, the sum of the numbers of each segment, number k belonging to `segments[k] < count`."""

    def matmul(self, x: Array, y: Array) -> Array:
        """Matrix products over the last two axes, in full precision."""

    def solve(self, matrix: Array, rhs: Array) -> Array:
        """`matrix⁻¹ rhs` for square matrices (…, r, r) and vectors (…, r)."""

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        """`x` where the condition holds and `y` elsewhere."""

    def concat(self, arrays: Sequence[Array]) -> Array:
        """Arrays one after the other along the last axis."""

    def hold(self, x: Array) -> Array:
        """`x`, computed once for all who use it: a compiler that fuses might compute it twice, rounded in two ways."""


class NumPy:
    """The operations on `numpy.ndarray`."""

    def array(self, values: Any, like: np.ndarray) -> np.ndarray:
        return np.asarray(values, like.dtype)

    def reshape(self, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return x.reshape(shape)

    def broadcast(self, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(x, shape)

    def permute(self, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        return x.transpose(tuple(axes))

    def flip(self, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        return np.flip(x, tuple(axes)) if axes else x

    def take(self, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        return np.asarray(np.take(x, places, axis=-1))

    def put(self, x: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        x[..., places] = values
        return x

    def sum(self, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        return np.asarray(np.sum(x, tuple(axes), keepdims=True))

    def segment_sum(self, x: np.ndarray, segments: np.ndarray, count: int) -> np.ndarray:
        return np.bincount(segments, x, count).astype(x.dtype, copy=False)

    def matmul(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(x @ y)

    def solve(self, matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        return np.asarray(lapack.solve(matrix, rhs[..., None])[..., 0])

    def where(self, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(condition, x, y)

    def concat(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays, axis=-1)

    def hold(self, x: np.ndarray) -> np.ndarray:
        return x
