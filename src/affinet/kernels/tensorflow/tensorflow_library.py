"""TensorFlow as a library in which the laws of blocks run as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from affinet.blocks.namespace import Namespace
from affinet.kernels.tensorflow.tensorflow_namespace import HostNumbersError, TensorFlow
from affinet.kernels.traced.library import on_host
from affinet.kernels.traced.states import arrays_of, map_states, state_of

WIDENING = (tf.float32, tf.float64)


class TensorFlowLibrary:
    """`affinet.kernels.traced.library.Library` for `tf.Tensor`, which may be one of a graph."""

    def __init__(self) -> None:
        self.xp = TensorFlow()

    def dtype(self, name: str) -> tf.DType:
        return tf.as_dtype(name)

    def widest(self, dtypes: Sequence[tf.DType]) -> tf.DType:
        return WIDENING[any(dtype == tf.float64 for dtype in dtypes)]

    def eps(self, dtype: tf.DType) -> float:
        return float(tf.experimental.numpy.finfo(dtype.as_numpy_dtype).eps)

    def cast(self, x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        return tf.cast(x, dtype)

    def at(self, x: tf.Tensor, positions: np.ndarray) -> tf.Tensor:
        return self.xp.take(tf.reshape(x, (-1,)), positions)

    def put(self, x: tf.Tensor, positions: np.ndarray, values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(self.xp.put(tf.reshape(x, (-1,)), positions, values), x.shape)

    def slice(self, x: tf.Tensor, starts: Sequence[int], sizes: Sequence[int]) -> tf.Tensor:
        return tf.slice(x, list(starts), list(sizes))

    def with_slice(self, x: tf.Tensor, starts: Sequence[int], values: tf.Tensor) -> tf.Tensor:
        ends = [size - start - length for size, start, length in zip(x.shape, starts, values.shape, strict=True)]
        around = list(zip(starts, ends, strict=True))
        inside = tf.pad(tf.ones_like(values, tf.bool), around)
        return tf.where(inside, tf.pad(values, around), x)

    def all(self, condition: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(condition)

    def fused_either(
        self, condition: tf.Tensor, first: Callable[[], tf.Tensor], second: Callable[[], tf.Tensor]
    ) -> tf.Tensor:
        chosen: tf.Tensor = self.xp.either(condition, first, second)
        return chosen

    def map(self, function: Callable[..., Any], *states: Any) -> Any:
        return map_states(function, *states)

    def asks_host(self, verb: Callable[[Namespace, tf.Tensor], tf.Tensor], shape: tuple[int, ...]) -> bool:
        try:
            tf.function(lambda x: verb(self.xp, x), autograph=False).get_concrete_function(
                tf.TensorSpec(shape, tf.float64)
            )
        except (HostNumbersError, NotImplementedError):  # NumPy was given a tensor of a graph
            return True
        return False

    def called(self, verb: Callable[..., Any], shapes: Any, *states: Any) -> Any:
        likes = arrays_of(shapes)

        def call(*arrays: np.ndarray) -> list[np.ndarray]:
            numbers = iter([np.array(x) for x in arrays])
            made = on_host(verb, [state_of(state, numbers) for state in states])
            return [
                np.broadcast_to(np.asarray(x, like.dtype.as_numpy_dtype), like.shape)
                for x, like in zip(arrays_of(made), likes, strict=True)
            ]

        inputs = [x for state in states for x in arrays_of(state)]
        made = tf.numpy_function(call, inputs, [like.dtype for like in likes])
        if tf.is_tensor(made):  # outside of graphs a single tensor comes without a list
            made = [made]
        return state_of(shapes, (tf.ensure_shape(x, like.shape) for x, like in zip(made, likes, strict=True)))

    def derived_from(
        self, function: Callable[[tf.Tensor], tf.Tensor], smooth: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor
    ) -> tf.Tensor:
        """`function(x)`: the steps of Keras stand outside of gradient tapes."""
        return function(x)

    def without_derivative(self, function: Callable[..., Any], reason: str, *states: Any) -> Any:
        """`function(*states)`: the steps of Keras stand outside of gradient tapes."""
        return function(*states)
