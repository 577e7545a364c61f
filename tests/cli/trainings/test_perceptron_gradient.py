from __future__ import annotations

import numpy as np
import pytest
import torch

from affinet.cli.trainings.perceptron import ACTIVATIONS, Perceptron
from affinet.cli.trainings.perceptron_gradient import ROWS_AT_ONCE, mean_gradient

ROUNDINGS = 1e-11
"""float64 rounds sums of some thousand products of numbers below 10 in the twelfth digit or later."""


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS.values()))
def test_the_gradient_is_that_of_torch(activation: str, task: str) -> None:
    random = np.random.default_rng(0)
    perceptron = Perceptron((3, 5, 4, 3), activation)
    weights = {name: random.normal(size=shape) for name, shape in perceptron.shapes.items()}
    rows = ROWS_AT_ONCE + 7
    features = random.normal(size=(rows, 3))
    targets = random.integers(0, 3, rows) if task == "classification" else random.normal(size=rows)
    computed = mean_gradient(perceptron, task, weights, features, targets)  # type: ignore[arg-type]
    tensors = {name: torch.tensor(weight, requires_grad=True) for name, weight in weights.items()}
    x = torch.tensor(features)
    for layer in perceptron.layers:
        x = torch.nn.functional.linear(x, tensors[f"{layer}.weight"], tensors[f"{layer}.bias"])
        x = x if layer == "output" else getattr(torch.nn, activation)()(x)
    truth = torch.tensor(targets)
    loss = (
        torch.nn.functional.cross_entropy(x, truth)
        if task == "classification"
        else torch.nn.functional.mse_loss(x[:, 0], truth)
    )
    loss.backward()
    for name, tensor in tensors.items():
        assert tensor.grad is not None
        np.testing.assert_allclose(computed[name], tensor.grad.numpy(), rtol=ROUNDINGS, atol=ROUNDINGS)
