"""Take steps of JAX and Optax: a pure step over nested dicts of weights, which the rules stand around."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_never

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from affinet.adapters.optax_projection import project
from affinet.cli.trainings.array_training import Arrays, Rows
from affinet.cli.trainings.data import Task
from affinet.cli.trainings.first_network import FirstNetwork
from affinet.cli.trainings.perceptron import Perceptron
from affinet.kernels.jax.tree_projector import TreeProjector
from affinet.plans.plan import Plan

Params = dict[str, dict[str, Array]]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "ReLU": jax.nn.relu,
    "LeakyReLU": jax.nn.leaky_relu,
    "ELU": jax.nn.elu,
    "SELU": jax.nn.selu,
    "GELU": lambda x: jax.nn.gelu(x, approximate=False),
    "SiLU": jax.nn.silu,
    "Mish": jax.nn.mish,
    "Softplus": jax.nn.softplus,
    "Tanh": jnp.tanh,
    "Sigmoid": jax.nn.sigmoid,
    "Identity": lambda x: x,
}
"""Class of torch.nn → the function of JAX, with torch's constants."""


class JaxSteps:
    """Weights and the state of their optimizer. Without a plan there are no rules.

    `decay` times the weights is added to each gradient, before the rules.
    """

    def __init__(
        self,
        network: FirstNetwork,
        rows: Rows,
        optimizer: optax.GradientTransformation,
        decay: float,
        plan: Plan | None,
    ) -> None:
        self._params = _nested({name: jnp.asarray(x) for name, x in network.weights.items()})
        self._projector = None
        if plan is not None:
            self._projector = TreeProjector(plan, self._params)
            self._params = self._projector.project(self._params)
            optimizer = project(plan, optimizer)
        if decay:
            optimizer = optax.chain(optax.add_decayed_weights(decay), optimizer)
        self._state = _strong(optimizer.init(self._params))
        self._answer = jax.jit(_answer_of(network.perceptron))
        self._step = jax.jit(
            _step_of(_loss_of(network.perceptron, rows.task), optax.with_extra_args_support(optimizer))
        )
        self._rows = rows

    def step(self, rows: np.ndarray) -> float:
        """As `Steps.step`."""
        features, targets = self._rows.train_features[rows], self._rows.train_targets[rows]
        self._params, self._state, loss = self._step(self._params, self._state, features, targets)
        return float(loss)

    def answers(self) -> np.ndarray:
        """As `Steps.answers`."""
        return np.asarray(self._answer(self._params, self._rows.test_features))

    def weights(self) -> dict[str, np.ndarray]:
        """The weights, whose shapes are those of the job."""
        return {f"{layer}.{kind}": np.asarray(x) for layer, kinds in self._params.items() for kind, x in kinds.items()}

    def optimizer_state(self) -> list[np.ndarray]:
        """The leaves of the state."""
        return [np.asarray(leaf) for leaf in jax.tree.leaves(self._state)]

    def restore(self, weights: Arrays, optimizer_state: list[np.ndarray]) -> None:
        """As `Steps.restore`."""
        structure = jax.tree.structure(self._state)
        self._params = _nested({name: jnp.asarray(x) for name, x in weights.items()})
        self._state = jax.tree.unflatten(structure, [jnp.asarray(x) for x in optimizer_state])

    def finish(self) -> None:
        """Move the last weights onto the rules: what an update adds to a weight is rounded."""
        if self._projector is not None:
            self._params = self._projector.project(self._params)


def _answer_of(perceptron: Perceptron) -> Callable[[Params, Array], Array]:
    """The network as a function of weights and features."""
    activation, layers = ACTIVATIONS[perceptron.activation], tuple(perceptron.layers)

    def answer(params: Params, features: Array) -> Array:
        x = features
        for name in layers:
            x = x @ params[name]["weight"].T + params[name]["bias"]
            x = x if name == "output" else activation(x)
        return x

    return answer


def _loss_of(perceptron: Perceptron, task: Task) -> Callable[[Params, Array, Array], Array]:
    answer = _answer_of(perceptron)

    def loss(params: Params, features: Array, targets: Array) -> Array:
        outputs = answer(params, features)
        match task:
            case "classification":
                return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, targets))
            case "regression":
                return jnp.mean(jnp.square(outputs[:, 0] - targets))
            case _:
                assert_never(task)

    return loss


def _step_of(
    loss: Callable[[Params, Array, Array], Array], optimizer: optax.GradientTransformationExtraArgs
) -> Callable[[Params, Any, Array, Array], tuple[Params, Any, Array]]:
    def step(params: Params, state: Any, features: Array, targets: Array) -> tuple[Params, Any, Array]:
        value, gradients = jax.value_and_grad(loss)(params, features, targets)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    return step


def _nested(weights: Mapping[str, Array]) -> Params:
    """`hidden1.weight` under the keys `hidden1` and `weight`."""
    params: Params = {}
    for name, weight in weights.items():
        layer, _, kind = name.partition(".")
        params.setdefault(layer, {})[kind] = weight
    return params


def _strong(state: Any) -> Any:
    """The arrays without weak types, as they come back from a checkpoint."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)
