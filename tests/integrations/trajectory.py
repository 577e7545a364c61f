"""Rules, start and targets of one trajectory that several libraries take, and the end of it under torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import affinet
from affinet import families

STEPS, RATE = 20, 0.05
SHAPES = {"a": (6, 5), "b": (4, 4), "c": (8,)}
RULES: dict[str, Callable[[Any], list[Any]]] = {
    "linear": lambda w: [w.a.sum(dim=1) == 1.0, w.a.sum(dim=0) == 1.2, w.b == w.b.T, w.c[:4] == -2.0 * w.c[4:]],
    "inequalities": lambda w: [families.simplex(w.a, dim=1), w.b >= -0.2, families.monotone(w.c)],
    "polyhedron": lambda w: [w.a @ np.arange(5.0) <= 1.0, np.ones(6) @ w.a <= 0.3],
    "nonlinear": lambda w: [
        families.unit_norm(w.a, 1),
        families.orthogonal(w.b),
        w.c[:4] * w.c[4:] + w.c[:4] == 1.0,
    ],
    "balls": lambda w: [families.l1_ball(w.a, 4.0), families.l2_ball(w.c, 1.0)],
    "spectra": lambda w: [families.spectral_norm(w.a, 1.0), families.psd(w.b)],
    "nonlinear inequalities": lambda w: [w.c[:4] * w.c[4:] <= 0.5, w.c.sum() == 4.0, w.b[0] @ w.b[1] == 1.0],
}

BETAS = 0.875, 1.0 - 2.0**-10
KERAS_OPTIONS: dict[str, dict[str, Any]] = {
    "Adam": {"lr": 0.0625, "betas": BETAS, "eps": 1e-30, "weight_decay": 0.0},
    "AdamW": {"lr": 0.0625, "betas": BETAS, "eps": 1e-30, "weight_decay": 0.125},
}
"""Keras adds ε before the bias of averages is corrected, torch after; one as small as this has no effect. On TensorFlow
options are rounded to float32, so that these are numbers of float32."""


def drawn() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The start, and the weights at which the loss is least without rules."""
    random = np.random.default_rng(0)
    start, targets = ({key: random.uniform(0.2, 1.5, shape) for key, shape in SHAPES.items()} for _ in range(2))
    return start, targets


def in_torch(
    name: str, start: Any, targets: Any, optimizer_name: str = "Adam", **options: Any
) -> dict[str, np.ndarray]:
    """The weights after the steps; torch is imported here, so that processes without it read the rules."""
    import torch

    model = torch.nn.Module()
    for key, values in start.items():
        model.register_parameter(key, torch.nn.Parameter(torch.tensor(values)))
    optimizer = getattr(torch.optim, optimizer_name)(model.parameters(), **{"lr": RATE, **options})
    affinet.project(model, optimizer, RULES[name](affinet.weights(model)))
    parameters = dict(model.named_parameters())
    for _ in range(STEPS):
        for key, parameter in parameters.items():
            parameter.grad = parameter.detach() - torch.tensor(targets[key])
        optimizer.step()
    return {key: parameter.detach().numpy() for key, parameter in parameters.items()}
