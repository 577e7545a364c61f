"""The array operations that bases are written in, and their implementation for NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

Array = Any
"""An array of a library."""


class Constant:
    """Numbers in float64 or integers, which a library turns into its own arrays.

    `made` are the arrays that a library keeps, by a key that it chooses.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.ascontiguousarray(values)
        self.made: dict[Any, Any] = {}


class Operations(Protocol):
    """The operations of one array library; none writes to its arguments.

    Bases also use what libraries share: arithmetic, basic slices, and `reshape`.
    """

    def numbers(self, constant: Constant, like: Array) -> Array:
        """The numbers in the dtype and on the device of `like`."""

    def take(self, x: Array, places: Constant, axis: int) -> Array:
        """The numbers at places of an axis."""

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        """Arrays one after the other along an axis."""

    def split(self, x: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
        """Pieces of these sizes along an axis, which they cover."""

    def permute(self, x: Array, axes: Sequence[int]) -> Array:
        """The axes in another order."""

    def flip(self, x: Array, axes: Sequence[int]) -> Array:
        """The numbers in reversed order along some axes."""

    def sum(self, x: Array, axis: int) -> Array:
        """The sum along an axis, which remains with length one."""

    def matmul(self, x: Array, y: Array) -> Array:
        """Matrix products over the last two axes, of what `exact` or `widest` returned."""

    def transposed(self, x: Array) -> Array:
        """The last two axes swapped."""

    def add(self, x: Array, y: Array, factor: float) -> Array:
        """`x + factor · y`."""

    def zeros(self, size: int, like: Array) -> Array:
        """A row of zeros in the dtype and on the device of `like`."""

    def expand(self, z: Array, class_of: Constant) -> Array:
        """The number of the class of each entry, for a row `z` of one number per class."""

    def class_sums(self, x: Array, class_of: Constant, count: int) -> Array:
        """`Σ x` over the entries of each class, in the dtype of x; entry k belongs to class `class_of[k] < count`."""

    def exact(self, x: Array) -> Array:
        """`x` in a dtype whose matrix products are not rounded to fewer bits than x has."""

    def widest(self, x: Array) -> Array:
        """`x` in float64, or in float32 where the device or the library has no wider dtype."""

    def cast(self, x: Array, like: Array) -> Array:
        """`x` in the dtype of `like`."""

    def hold(self, x: Array) -> Array:
        """`x`, computed only once: a compiler that fuses operations might compute it twice, rounded in two ways."""


class NumPyOperations:
    """The operations on `numpy.ndarray`."""

    def numbers(self, constant: Constant, like: np.ndarray) -> np.ndarray:
        return constant.values.astype(like.dtype, copy=False)

    def take(self, x: np.ndarray, places: Constant, axis: int) -> np.ndarray:
        return np.take(x, places.values, axis=axis)

    def concat(self, arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
        return np.concatenate(arrays, axis=axis)

    def split(self, x: np.ndarray, sizes: Sequence[int], axis: int) -> tuple[np.ndarray, ...]:
        return tuple(np.split(x, list(accumulate(sizes))[:-1], axis=axis))

    def permute(self, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        return x.transpose(tuple(axes))

    def flip(self, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        return np.flip(x, tuple(axes))

    def sum(self, x: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(x.sum(axis, keepdims=True))

    def matmul(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(x @ y)

    def transposed(self, x: np.ndarray) -> np.ndarray:
        return x.swapaxes(-2, -1)

    def add(self, x: np.ndarray, y: np.ndarray, factor: float) -> np.ndarray:
        return np.asarray(x + factor * y)

    def zeros(self, size: int, like: np.ndarray) -> np.ndarray:
        return np.zeros(size, like.dtype)

    def expand(self, z: np.ndarray, class_of: Constant) -> np.ndarray:
        return np.take(z, class_of.values)

    def class_sums(self, x: np.ndarray, class_of: Constant, count: int) -> np.ndarray:
        return np.bincount(class_of.values, x, count).astype(x.dtype, copy=False)

    def exact(self, x: np.ndarray) -> np.ndarray:
        return x

    def widest(self, x: np.ndarray) -> np.ndarray:
        return x.astype(np.float64, copy=False)

    def cast(self, x: np.ndarray, like: np.ndarray) -> np.ndarray:
        return x.astype(like.dtype, copy=False)

    def hold(self, x: np.ndarray) -> np.ndarray:
        return x
