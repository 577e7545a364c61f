"""Compute the gradient of the mean loss of the built-in network over all rows, in float64 and without a framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy.special import erf, expit, log_ndtr, softmax

from affinet.cli.trainings.data import Task
from affinet.cli.trainings.perceptron import Perceptron

ROWS_AT_ONCE = 4096
SELU_SCALE, SELU_SLOPE = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
Function = Callable[[np.ndarray], np.ndarray]


def mean_gradient(
    perceptron: Perceptron, task: Task, weights: Mapping[str, np.ndarray], features: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """Weight → gradient of the mean loss of these rows: cross-entropy of classes, or squares of errors."""
    wide = {name: weight.astype(np.float64) for name, weight in weights.items()}
    total = {name: np.zeros_like(weight) for name, weight in wide.items()}
    for first in range(0, len(features), ROWS_AT_ONCE):
        span = slice(first, first + ROWS_AT_ONCE)
        for name, part in _gradient(perceptron, task, wide, features[span].astype(np.float64), targets[span]):
            total[name] += part
    return {name: gradient / len(features) for name, gradient in total.items()}


def _gradient(
    perceptron: Perceptron, task: Task, weights: Mapping[str, np.ndarray], features: np.ndarray, targets: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """The gradient of the sum of losses, layer by layer from the last one."""
    function, slope = ACTIVATIONS[perceptron.activation]
    inputs, before, x = list[np.ndarray](), list[np.ndarray](), features
    for name in perceptron.layers:
        inputs.append(x)
        before.append(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
        x = function(before[-1])
    backward = _loss_slope(task, before[-1], targets)
    for k, name in reversed(list(enumerate(perceptron.layers))):
        yield f"{name}.weight", backward.T @ inputs[k]
        yield f"{name}.bias", backward.sum(axis=0)
        if k:
            backward = (backward @ weights[f"{name}.weight"]) * slope(before[k - 1])


def _loss_slope(task: Task, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The derivative of the loss of each row by its outputs."""
    if task == "classification":
        slope: np.ndarray = softmax(outputs, axis=1)
        slope[np.arange(len(targets)), targets] -= 1.0
        return slope
    slope = np.zeros_like(outputs)
    slope[:, 0] = 2.0 * (outputs[:, 0] - targets)
    return slope


def _mish_slope(x: np.ndarray) -> np.ndarray:
    tanh = np.tanh(np.logaddexp(0.0, x))
    return np.asarray(tanh + x * expit(x) * (1.0 - tanh**2))


def _gelu_slope(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(log_ndtr(x)) + x * np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi))


def _exponential(x: np.ndarray) -> np.ndarray:
    """`exp(x)` below zero, 1 above."""
    return np.asarray(np.exp(np.minimum(x, 0.0)))


ACTIVATIONS: Mapping[str, tuple[Function, Function]] = {
    "ReLU": (lambda x: np.maximum(x, 0.0), lambda x: (x > 0.0).astype(np.float64)),
    "LeakyReLU": (lambda x: np.where(x > 0.0, x, 0.01 * x), lambda x: np.where(x > 0.0, 1.0, 0.01)),
    "ELU": (lambda x: np.where(x > 0.0, x, _exponential(x) - 1.0), _exponential),
    "SELU": (
        lambda x: SELU_SCALE * np.where(x > 0.0, x, SELU_SLOPE * (_exponential(x) - 1.0)),
        lambda x: SELU_SCALE * np.where(x > 0.0, 1.0, SELU_SLOPE * _exponential(x)),
    ),
    "GELU": (lambda x: 0.5 * x * (1.0 + erf(x / np.sqrt(2.0))), _gelu_slope),
    "SiLU": (lambda x: x * expit(x), lambda x: expit(x) * (1.0 + x * (1.0 - expit(x)))),
    "Mish": (lambda x: x * np.tanh(np.logaddexp(0.0, x)), _mish_slope),
    "Softplus": (lambda x: np.logaddexp(0.0, x), expit),
    "Tanh": (np.tanh, lambda x: 1.0 - np.tanh(x) ** 2),
    "Sigmoid": (expit, lambda x: expit(x) * (1.0 - expit(x))),
    "Identity": (lambda x: x, np.ones_like),
}
"""Class of torch.nn → the function and its derivative, with torch's constants."""
