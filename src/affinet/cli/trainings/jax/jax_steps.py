"""Take steps of JAX and Optax: a pure step over the numbers that are trained, from which weights are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_never

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from affinet.cli.trainings.array_training import Arrays, Rows
from affinet.cli.trainings.data import Task
from affinet.cli.trainings.first_network import FirstNetwork
from affinet.cli.trainings.jax.attached_rules import AttachedRules
from affinet.cli.trainings.perceptron import Perceptron

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
    """The numbers that are trained and the state of their optimizer.

    They are the weights, as nested dicts, or free numbers from which weights are computed. `decay` times the numbers is
    added to each gradient, before the rules.
    """

    def __init__(self, network: FirstNetwork, rows: Rows, rules: AttachedRules, decay: float) -> None:
        first = _nested({name: jnp.asarray(x) for name, x in network.weights.items()})
        optimizer = optax.chain(optax.add_decayed_weights(decay), rules.optimizer) if decay else rules.optimizer
        self._rows, self._rules, self.decay = rows, rules, decay
        self._numbers = _strong(rules.to_numbers(first))
        self._state = _strong(optimizer.init(self._numbers))
        weights_of = rules.weights_of or (lambda numbers: numbers)
        answer, loss = _answer_of(network.perceptron), _loss_of(network.perceptron, rows.task)
        self._weights_of = weights_of if rules.weights_of is None else jax.jit(weights_of)
        self._answer = jax.jit(lambda numbers, features: answer(weights_of(numbers), features))
        self._step = jax.jit(
            _step_of(
                lambda numbers, *batch: loss(weights_of(numbers), *batch), optax.with_extra_args_support(optimizer)
            )
        )

    @property
    def trained(self) -> int:
        """As `Steps.trained`."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._numbers))

    def step(self, rows: np.ndarray) -> float:
        """As `Steps.step`."""
        features, targets = self._rows.train_features[rows], self._rows.train_targets[rows]
        self._numbers, self._state, loss = self._step(self._numbers, self._state, features, targets)
        return float(loss)

    def answers(self) -> np.ndarray:
        """As `Steps.answers`."""
        return np.asarray(self._answer(self._numbers, self._rows.test_features))

    def weights(self) -> dict[str, np.ndarray]:
        """The weights, whose shapes are those of the job."""
        layers: Params = self._weights_of(self._numbers)
        return {f"{layer}.{kind}": np.asarray(x) for layer, kinds in layers.items() for kind, x in kinds.items()}

    def optimizer_state(self) -> list[np.ndarray]:
        """The leaves of the state, after those of the numbers where these are not the weights."""
        return [np.asarray(leaf) for leaf in jax.tree.leaves(self._state_of_step())]

    def restore(self, weights: Arrays, optimizer_state: list[np.ndarray]) -> None:
        """As `Steps.restore`."""
        state = jax.tree.unflatten(jax.tree.structure(self._state_of_step()), [jnp.asarray(x) for x in optimizer_state])
        if self._rules.weights_of is None:
            self._numbers, self._state = _nested({name: jnp.asarray(x) for name, x in weights.items()}), state
        else:
            self._numbers, self._state = state

    def finish(self) -> None:
        """As `Steps.finish`."""
        self._numbers = self._rules.finished(self._numbers)

    def _state_of_step(self) -> Any:
        """What the next step depends on, in addition to the weights."""
        return self._state if self._rules.weights_of is None else (self._numbers, self._state)


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
    loss: Callable[..., Array], optimizer: optax.GradientTransformationExtraArgs
) -> Callable[[Any, Any, Array, Array], tuple[Any, Any, Array]]:
    def step(numbers: Any, state: Any, features: Array, targets: Array) -> tuple[Any, Any, Array]:
        value, gradients = jax.value_and_grad(loss)(numbers, features, targets)
        updates, state = optimizer.update(gradients, state, numbers)
        return optax.apply_updates(numbers, updates), state, value

    return step


def _nested(weights: Mapping[str, Array]) -> Params:
    """`hidden1.weight` under the keys `hidden1` and `weight`."""
    params: Params = {}
    for name, weight in weights.items():
        layer, _, kind = name.partition(".")
        params.setdefault(layer, {})[kind] = weight
    return params


def _strong(state: Any) -> Any:
    """The arrays of a tree without weak types, as they come back from a checkpoint."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)
