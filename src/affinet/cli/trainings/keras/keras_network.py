"""Define the built-in network as a model of Keras whose weights have the shapes of the job.

A kernel of `keras.layers.Dense` is (in, out), and `weight` here is (out, in) as in rules and in files: one plan is for
all frameworks.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from affinet.cli.trainings.data import Task
from affinet.cli.trainings.first_network import FirstNetwork

SQRT_HALF = 0.5**0.5


def _tanh(x: Any) -> Any:
    """Tanh in the dtype of x: `ops.tanh` is of float32 on JAX. Beyond 20 it is 1 to the rounding of float64."""
    growth = ops.expm1(2.0 * ops.clip(x, -20.0, 20.0))
    return growth / (growth + 2.0)


ACTIVATIONS = {
    "ReLU": ops.relu,
    "LeakyReLU": lambda x: ops.relu(x) - 0.01 * ops.relu(-x),
    "ELU": ops.elu,
    "SELU": ops.selu,
    "GELU": lambda x: 0.5 * x * (1.0 + ops.erf(x * SQRT_HALF)),
    "SiLU": ops.silu,
    "Mish": lambda x: x * _tanh(ops.softplus(x)),
    "Softplus": ops.softplus,
    "Tanh": _tanh,
    "Sigmoid": ops.sigmoid,
    "Identity": lambda x: x,
}
"""Class of torch.nn → the function in Keras, with torch's constants, which some of its own round to float32."""


class Network(keras.Model):  # type: ignore[misc]
    """The perceptron of a job; `variables_of_job` has its weights under the names that rules have for them."""

    def __init__(self, network: FirstNetwork, task: Task, dtype: str) -> None:
        super().__init__(name="network", dtype=dtype)
        self._layers_of_job = tuple(network.perceptron.layers)
        self._between, self._task = ACTIVATIONS[network.perceptron.activation], task
        variables = {
            name: self.add_weight(shape=weight.shape, dtype=dtype, name=name.replace(".", "_"))
            for name, weight in network.weights.items()
        }
        for name, variable in variables.items():
            variable.assign(network.weights[name])
        self._names, self.built = tuple(variables), True

    @property
    def variables_of_job(self) -> dict[str, Any]:
        """Name → variable."""
        return dict(zip(self._names, self.trainable_variables, strict=True))

    def call(self, features: Any) -> Any:
        """What the network answers for rows of features: (rows, outputs)."""
        weights = self.variables_of_job
        x = features
        for name in self._layers_of_job:
            # On torch, Keras multiplies matrices of float64 in float32 by `matmul`, and not by `einsum`.
            x = ops.einsum("ri,oi->ro", x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]
            x = x if name == "output" else self._between(x)
        return x

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The mean cross-entropy of classes, or the mean square of errors, in the dtype of the network."""
        del x, sample_weight, training
        if self._task == "regression":
            answers = y_pred[:, 0]
            losses = ops.square(answers - ops.convert_to_tensor(y, dtype=answers.dtype))
        else:
            losses = ops.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
        # `ops.mean` is of float32 on JAX and torch.
        return ops.sum(losses) / ops.cast(ops.shape(losses)[0], losses.dtype)
