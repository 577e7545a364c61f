"""The operations of array namespaces on tensors of TensorFlow, which may be those of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from affinet.kernels.traced.states import arrays_of, map_states, state_of

State = TypeVar("State")
PARTS = 16
"""How many parts a sum of rows has."""


class HostNumbersError(Exception):
    """A verb of a law asks for numbers on the host, which a tensor of a graph does not have."""


class TensorFlow:
    """The operations of `affinet.blocks.namespace.Namespace` on `tf.Tensor`; no method writes to its arguments."""

    def array(self, values: Any, like: tf.Tensor) -> tf.Tensor:
        if tf.is_tensor(values):
            return tf.cast(values, like.dtype)
        return tf.constant(np.asarray(values, like.dtype.as_numpy_dtype))

    def reshape(self, x: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
        return tf.reshape(x, shape)

    def broadcast(self, x: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
        return tf.broadcast_to(x, shape)

    def permute(self, x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
        return x if tuple(axes) == tuple(range(len(axes))) else tf.transpose(x, tuple(axes))

    def flip(self, x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
        return tf.reverse(x, list(axes)) if axes else x

    def take(self, x: tf.Tensor, places: np.ndarray | tf.Tensor) -> tf.Tensor:
        return tf.gather(x, _integers(places), axis=-1)

    def put(self, x: tf.Tensor, places: np.ndarray, values: tf.Tensor) -> tf.Tensor:
        first = tf.transpose(x, (x.shape.ndims - 1, *range(x.shape.ndims - 1)))
        values = tf.broadcast_to(values, (*x.shape[:-1], len(places)))
        moved = tf.transpose(values, (x.shape.ndims - 1, *range(x.shape.ndims - 1)))
        made = tf.tensor_scatter_nd_update(first, _integers(places)[:, None], moved)
        return tf.transpose(made, (*range(1, x.shape.ndims), 0))

    def sum(self, x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
        if not axes:
            return x
        if sorted(axes) == list(range(len(axes))) and x.dtype.is_floating and prod(x.shape) and _cpus_alone():
            return _sum_of_rows(x, len(axes))
        return tf.reduce_sum(x, list(axes), keepdims=True)

    def segment_sum(self, x: tf.Tensor, segments: np.ndarray | tf.Tensor, count: int) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(x, _integers(segments), count)

    def matmul(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        if x.shape.ndims == 1:
            return self.matmul(x[None, :], y)[..., 0, :]
        return tf.matmul(x, y) if y.shape.ndims > 1 else tf.matmul(x, y[:, None])[..., 0]

    def mirrored_product(self, x: tf.Tensor, y: tf.Tensor, sign: float) -> tf.Tensor:
        return tf.matmul(x, y, transpose_b=True)

    def mirrored_part(self, x: tf.Tensor, sign: float) -> tf.Tensor:
        return 0.5 * (x + sign * tf.linalg.matrix_transpose(x))

    def add_diagonal(self, x: tf.Tensor, value: float) -> tf.Tensor:
        return x + value * tf.eye(x.shape[-1], dtype=x.dtype)

    def solve(self, matrix: tf.Tensor, rhs: tf.Tensor) -> tf.Tensor:
        return _solved(matrix, rhs[..., None])[..., 0]

    def eigh(self, matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values, vectors = tf.linalg.eigh(_finite(matrix))
        return values, vectors

    def determinant(self, matrix: tf.Tensor) -> tf.Tensor:
        return tf.linalg.det(matrix)

    def cofactors(self, matrix: tf.Tensor) -> tf.Tensor:
        s, u, v = tf.linalg.svd(_finite(matrix))
        ones, diagonal = tf.ones_like(s[..., None, :]), tf.eye(s.shape[-1], dtype=s.dtype) > 0.0
        sizes = tf.reduce_prod(tf.where(diagonal, ones, s[..., None, :]), -1)
        signs = tf.linalg.det(u) * tf.linalg.det(v)
        return signs[..., None, None] * tf.matmul(u * sizes[..., None, :], v, transpose_b=True)

    def inverse(self, matrix: tf.Tensor) -> tf.Tensor:
        return _solved(matrix, tf.eye(matrix.shape[-1], batch_shape=matrix.shape[:-2], dtype=matrix.dtype))

    def polar(self, matrix: tf.Tensor) -> tf.Tensor:
        _, u, v = tf.linalg.svd(_finite(matrix), full_matrices=False)
        return tf.matmul(u, v, transpose_b=True)

    def function(self, name: str, x: tf.Tensor) -> tf.Tensor:
        return getattr(tf.math, name)(x)

    def where(self, condition: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.where(condition, x, y)

    def minimum(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.where((x <= y) | (x != x), x, y)

    def maximum(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.where((x >= y) | (x != x), x, y)

    def largest(self, x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
        return tf.reduce_max(x, list(axes), keepdims=True)

    def running_sum(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cumsum(tf.cast(x, tf.int32) if x.dtype == tf.bool else x, -1)

    def running_max(self, x: tf.Tensor) -> tf.Tensor:
        """By doubling: after step k each number is the largest of the 2^k numbers up to it."""
        count, reach = x.shape[-1], 1
        while reach < count:
            x = tf.concat([x[..., :reach], self.maximum(x[..., reach:], x[..., :-reach])], -1)
            reach *= 2
        return x

    def any(self, condition: tf.Tensor) -> bool:
        """True: what a condition of a graph holds is known when the graph runs."""
        return True

    def loop(
        self, state: State, going: Callable[[State], tf.Tensor], advance: Callable[[Any, State], State], most: int
    ) -> State:
        start = map_states(tf.convert_to_tensor, state)
        arrays = arrays_of(start)

        def made(numbers: Sequence[tf.Tensor]) -> State:
            shaped = [tf.ensure_shape(x, like.shape) for x, like in zip(numbers, arrays, strict=True)]
            state: State = state_of(start, iter(shaped))
            return state

        def following(number: tf.Tensor, *numbers: tf.Tensor) -> list[tf.Tensor]:
            return [number + 1, *_alike(advance(number, made(numbers)), arrays)]

        last = tf.while_loop(
            lambda number, *numbers: (number < most) & tf.reduce_any(going(made(numbers))),
            following,
            [tf.constant(0), *arrays],
        )
        return made(last[1:])

    def either(self, condition: tf.Tensor, first: Callable[[], State], second: Callable[[], State]) -> State:
        likes: list[Any] = []

        def flat_first() -> list[tf.Tensor]:
            state = map_states(tf.convert_to_tensor, first())
            likes[:] = [state]
            return arrays_of(state)

        condition = tf.reduce_any(condition)
        if tf.executing_eagerly():
            return first() if bool(condition) else second()
        arrays = tf.cond(condition, flat_first, lambda: _alike(second(), arrays_of(likes[0])))
        state: State = state_of(likes[0], iter(arrays))
        return state

    def spacing(self, x: tf.Tensor) -> float:
        return float(np.finfo(x.dtype.as_numpy_dtype).eps)

    def concat(self, arrays: Sequence[tf.Tensor]) -> tf.Tensor:
        widest = reduce(lambda dtype, x: dtype if dtype.size >= x.dtype.size else x.dtype, arrays, arrays[0].dtype)
        return tf.concat([tf.cast(x, widest) for x in arrays], -1)

    def stack(self, arrays: Sequence[tf.Tensor], axis: int) -> tf.Tensor:
        return tf.stack(list(arrays), axis)

    def host(self, x: tf.Tensor) -> np.ndarray:
        raise HostNumbersError

    def product(self, matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        raise HostNumbersError

    def descend(self, rows: np.ndarray, u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise HostNumbersError

    def hold(self, x: tf.Tensor) -> tf.Tensor:
        return x


def _integers(places: np.ndarray | tf.Tensor) -> Any:
    return places if tf.is_tensor(places) else np.asarray(places, np.int32)


def _sum_of_rows(x: tf.Tensor, axes: int) -> tf.Tensor:
    """The sum along the first axes, of length one afterwards: `reduce_sum` takes up to six times as long along them.

    BiasAddGrad adds rows one after the other, on CPUs in the same order every time. In PARTS parts, with as many sums
    of their own, rounding is smaller than that of `reduce_sum`.
    """
    count, width = prod(x.shape[:axes]), prod(x.shape[axes:])
    rows, length = tf.reshape(x, (count, width)), count // PARTS
    if length > 1:
        parts = tf.raw_ops.BiasAddGrad(out_backprop=tf.reshape(rows[: length * PARTS], (length, PARTS * width)))
        rows = tf.concat([tf.reshape(parts, (PARTS, width)), rows[length * PARTS :]], 0)
    return tf.reshape(tf.raw_ops.BiasAddGrad(out_backprop=rows), (*(1,) * axes, *x.shape[axes:]))


def _cpus_alone() -> bool:
    """Whether there is no other device: elsewhere BiasAddGrad adds in any order, and replicas might differ."""
    return all(device.device_type == "CPU" for device in tf.config.list_physical_devices())


def _finite(matrix: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.math.is_finite(matrix), matrix, tf.zeros_like(matrix))


def _solved(matrix: tf.Tensor, rhs: tf.Tensor) -> tf.Tensor:
    """`matrix⁻¹ rhs`, numbers that are not finite for singular matrices: `tf.linalg.solve` raises for them."""
    lower, permutation = tf.linalg.lu(_finite(matrix))
    return tf.linalg.lu_solve(lower, permutation, rhs)


def _alike(state: Any, likes: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The arrays of a state in the shapes and dtypes of others: constants may have fewer axes, or no dtype yet."""
    alike = []
    for x, like in zip(arrays_of(state), likes, strict=True):
        x = tf.cast(x, like.dtype) if tf.is_tensor(x) else tf.constant(x, like.dtype)
        alike.append(x if x.shape == like.shape else tf.broadcast_to(x, like.shape))
    return alike
