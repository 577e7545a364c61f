"""The protocol of array operations that laws are written in, and its implementation for NumPy.

Laws also use operations that all array libraries share: arithmetic, comparison, `abs`, `x ** 0.5`, basic slices,
`.ndim`, `.shape` and `.dtype`. An augmented assignment (`x -= y`) changes the array in place where the library can do
so, and makes a new array where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from affinet.system import lapack

Array = Any
"""An array of the namespace's library."""
State = TypeVar("State")
"""A value made of arrays: an array, or a tuple of such values."""


class Namespace(Protocol):
    """The operations of one array library. `axes` are counted as the library counts them, from zero.

    Support for another library needs only these methods. `put` and `add_diagonal` may write to their first argument,
    which is not used again; all other methods leave their arguments unchanged.
    """

    def array(self, values: Any, like: Array) -> Array:
        """NumPy numbers as an array with the dtype and device of `like`; the result is never written to."""

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The same numbers, row-major, in another shape."""

    def broadcast(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The same numbers in a larger shape; the result is never written to."""

    def permute(self, x: Array, axes: Sequence[int]) -> Array:
        """The axes in another order."""

    def flip(self, x: Array, axes: Sequence[int]) -> Array:
        """The numbers in reversed order along some axes."""

    def take(self, x: Array, places: Array) -> Array:
        """The numbers at places of the last axis, as a new array; `places` may have several axes.

        `places` and `segments` are NumPy arrays of a block, or integers that the library computed.
        """

    def put(self, x: Array, places: np.ndarray, values: Array) -> Array:
        """`x` with `values` at distinct places of the last axis; may write to `x`."""

    def sum(self, x: Array, axes: Sequence[int]) -> Array:
        """The sum along axes, which remain with length one."""

    def segment_sum(self, x: Array, segments: Array, count: int) -> Array:
        """For flat `x`, the sum of the numbers in each segment; number k belongs to segment `segments[k] < count`."""

    def matmul(self, x: Array, y: Array) -> Array:
        """Matrix products over the last two axes, in full precision."""

    def mirrored_product(self, x: Array, y: Array, sign: float) -> Array:
        """`x yᵀ` (…, r, r), of which the caller knows that it is `sign` times its own transpose, ±1."""

    def mirrored_part(self, x: Array, sign: float) -> Array:
        """`½ (x + sign xᵀ)` of square matrices."""

    def add_diagonal(self, x: Array, value: float) -> Array:
        """`x` with a value added to the diagonals of square matrices; may write to `x`."""

    def solve(self, matrix: Array, rhs: Array) -> Array:
        """`matrix⁻¹ rhs` for square matrices (…, r, r) and vectors (…, r)."""

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """Eigenvalues (…, r) in ascending order, and eigenvectors (…, r, r) in columns, of symmetric matrices."""

    def determinant(self, matrix: Array) -> Array:
        """The determinants of square matrices."""

    def cofactors(self, matrix: Array) -> Array:
        """The derivatives of the determinants by the entries, of singular matrices too."""

    def inverse(self, matrix: Array) -> Array:
        """The inverses of square matrices; numbers that are not finite for singular matrices."""

    def polar(self, matrix: Array) -> Array:
        """The nearest matrices with orthonormal rows (…, r, n), r ≤ n."""

    def function(self, name: str, x: Array) -> Array:
        """`sin`, `cos`, `tanh`, `exp` or `log` of every number."""

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        """`x` where the condition holds and `y` elsewhere."""

    def minimum(self, x: Array, y: Array) -> Array:
        """The smaller of two numbers, NaN where either is."""

    def maximum(self, x: Array, y: Array) -> Array:
        """The larger of two numbers, NaN where either is."""

    def largest(self, x: Array, axes: Sequence[int]) -> Array:
        """The largest number along axes, which remain with length one."""

    def running_sum(self, x: Array) -> Array:
        """The sums of the numbers up to each one along the last axis; of marks, their integer counts."""

    def running_max(self, x: Array) -> Array:
        """The largest of the numbers up to each one along the last axis."""

    def any(self, condition: Array) -> bool:
        """Whether the condition may hold anywhere, so that what depends on it has to be computed.

        A library that traces arrays does not know, and says True: results must not depend on it.
        """

    def loop(
        self, state: State, going: Callable[[State], Array], advance: Callable[[int, State], State], most: int
    ) -> State:
        """`state = advance(number, state)` for number 0, 1, … as long as `going(state)` holds anywhere, `most` times.

        States have arrays of the same shapes and dtypes. A library that traces arrays gives `number` as an array.
        """

    def either(self, condition: Array, first: Callable[[], State], second: Callable[[], State]) -> State:
        """`first()` where the condition holds anywhere, `second()` elsewhere; only one of them is computed."""

    def spacing(self, x: Array) -> float:
        """The distance from 1 to the next number in the dtype of `x`."""

    def concat(self, arrays: Sequence[Array]) -> Array:
        """Arrays one after the other along the last axis."""

    def stack(self, arrays: Sequence[Array], axis: int) -> Array:
        """Arrays of one shape side by side along a new axis, which is counted from the end (below zero)."""

    def host(self, x: Array) -> np.ndarray:
        """The numbers on the host in float64, for what array libraries have no operations for; not written to."""

    def product(self, matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        """`matrix @ x` of a large matrix and a vector on the host, in float64, by the threads of the library."""

    def descend(self, rows: np.ndarray, u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`y = x − rowsᵀ u` and `rows y` on the host, as `product` computes; large rows may be read only once."""

    def hold(self, x: Array) -> Array:
        """`x`, computed only once: a compiler that fuses operations might compute it twice, rounded in two ways."""


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
        # Some kernels of OpenBLAS compute on lanes beyond the matrix and raise the flag there, for finite matrices too
        # (OpenBLAS issue 1924, NumPy issue 24067). A product that is NaN still is.
        with np.errstate(invalid="ignore"):
            return np.asarray(x @ y)

    def mirrored_product(self, x: np.ndarray, y: np.ndarray, sign: float) -> np.ndarray:
        return self.matmul(x, y.swapaxes(-2, -1))

    def mirrored_part(self, x: np.ndarray, sign: float) -> np.ndarray:
        return np.asarray(0.5 * (x + sign * x.swapaxes(-2, -1)))

    def add_diagonal(self, x: np.ndarray, value: float) -> np.ndarray:
        places = np.arange(x.shape[-1])
        x[..., places, places] += value
        return x

    def solve(self, matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        return np.asarray(lapack.solve(matrix, rhs[..., None])[..., 0])

    def eigh(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return lapack.eigh(np.where(np.isfinite(matrix), matrix, 0.0))

    def determinant(self, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.det(matrix))

    def cofactors(self, matrix: np.ndarray) -> np.ndarray:
        u, s, vt = lapack.svd(np.where(np.isfinite(matrix), matrix, 0.0))
        cofactor_sizes = np.where(np.eye(s.shape[-1], dtype=bool), 1.0, s[..., None, :]).prod(axis=-1)
        signs = np.linalg.det(u) * np.linalg.det(vt)
        return np.asarray(signs[..., None, None] * (u * cofactor_sizes[..., None, :]) @ vt)

    def inverse(self, matrix: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(np.linalg.inv(matrix))
        except np.linalg.LinAlgError:
            singular = np.linalg.det(matrix) == 0.0
            replaced = np.where(singular[..., None, None], np.eye(matrix.shape[-1]), matrix)
            return np.where(singular[..., None, None], np.nan, np.linalg.inv(replaced))

    def polar(self, matrix: np.ndarray) -> np.ndarray:
        u, _, vt = lapack.svd(np.where(np.isfinite(matrix), matrix, 0.0), full_matrices=False)
        return np.asarray(u @ vt)

    def function(self, name: str, x: np.ndarray) -> np.ndarray:
        return np.asarray(getattr(np, name)(x))

    def where(self, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(condition, x, y)

    def minimum(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(np.minimum(x, y))

    def maximum(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(x, y))

    def largest(self, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        return np.asarray(np.max(x, tuple(axes), keepdims=True))

    def running_sum(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.cumsum(x, axis=-1))

    def running_max(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum.accumulate(x, axis=-1))

    def any(self, condition: np.ndarray) -> bool:
        return bool(np.any(condition))

    def loop(
        self, state: State, going: Callable[[State], np.ndarray], advance: Callable[[int, State], State], most: int
    ) -> State:
        number = 0
        while number < most and np.any(going(state)):
            number, state = number + 1, advance(number, state)
        return state

    def either(self, condition: np.ndarray, first: Callable[[], State], second: Callable[[], State]) -> State:
        return first() if np.any(condition) else second()

    def spacing(self, x: np.ndarray) -> float:
        return float(np.finfo(x.dtype).eps)

    def concat(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays, axis=-1)

    def stack(self, arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
        return np.stack(arrays, axis)

    def host(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, np.float64)

    def product(self, matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self.matmul(matrix, x)

    def descend(self, rows: np.ndarray, u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = x - self.matmul(rows.T, u)
        return y, self.matmul(rows, y)

    def hold(self, x: np.ndarray) -> np.ndarray:
        return x
