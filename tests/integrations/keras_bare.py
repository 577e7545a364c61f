"""A model of Keras that is a few weights alone, and steps of an optimizer on given gradients, compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

BACKEND = keras.backend.backend()
Arrays = Mapping[str, np.ndarray]


class Bare(keras.Model):  # type: ignore[misc]
    """Weights under the names, shapes and dtypes of arrays."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(name="bare")
        for name, array in arrays.items():
            self.add_weight(array.shape, name=name, dtype=str(array.dtype), initializer="zeros").assign(array)
        self.built = True

    @property
    def named(self) -> dict[str, Any]:
        return {v.name: v for v in self.trainable_variables}

    def arrays(self) -> dict[str, np.ndarray]:
        return numpy_of(self.named)

    def fill(self, arrays: Arrays) -> None:
        for name, variable in self.named.items():
            variable.assign(arrays[name])


def tensors(arrays: Arrays) -> dict[str, Any]:
    return {name: keras.ops.convert_to_tensor(np.array(array)) for name, array in arrays.items()}


def numpy_of(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(keras.ops.convert_to_numpy(x)) for name, x in tree.items()}


def enable_float64() -> None:
    """JAX has float64 only where it is asked for."""
    if BACKEND == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as the backend compiles it inside `fit`; torch runs it as it is."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    return function


def train(model: Bare, optimizer: Any, gradient: Callable[[dict[str, Any], Any], dict[str, Any]], steps: int) -> None:
    """Take steps on `gradient(weights, number)`, in operations that arrays of all backends have."""
    variables = model.trainable_variables

    def gradients_at(values: list[Any], number: Any) -> list[Any]:
        at = dict(zip((v.name for v in variables), values, strict=True))
        return [gradient(at, number)[v.name] for v in variables]

    if BACKEND == "jax":
        _train_jax(variables, optimizer, gradients_at, steps)
        return

    def step(number: Any) -> None:
        optimizer.apply(gradients_at([v.value for v in variables], number), variables)

    if BACKEND == "tensorflow":
        import tensorflow as tf

        run = tf.function(step, autograph=False)
        for number in range(steps):
            run(tf.constant(number))
        return
    import torch

    with torch.no_grad():
        for number in range(steps):
            step(number)


def _train_jax(variables: list[Any], optimizer: Any, gradients_at: Callable[..., list[Any]], steps: int) -> None:
    import jax

    def step(carried: Any, number: Any) -> Any:
        values, state = carried
        return optimizer.stateless_apply(state, gradients_at(values, number), values), None

    carried = [v.value for v in variables], [v.value for v in optimizer.variables]
    values, state = jax.jit(lambda x: jax.lax.scan(step, x, jax.numpy.arange(steps))[0])(carried)
    for variable, value in zip((*variables, *optimizer.variables), (*values, *state), strict=True):
        variable.assign(value)
