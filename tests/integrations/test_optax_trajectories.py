"""One trajectory in two libraries: twenty Adam steps under Optax and under torch are the same in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import affinet
import affinet.optax
from affinet import families
from tests.integrations.jax_precision import x64

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
}


@pytest.mark.parametrize("name", RULES)
def test_twenty_steps_are_those_of_torch(name: str) -> None:
    """Both project as the same laws do; what differs is rounding, which these steps amplify little."""
    random = np.random.default_rng(0)
    start, targets = ({key: random.uniform(0.2, 1.5, shape) for key, shape in SHAPES.items()} for _ in range(2))
    ends = in_jax(name, start, targets), in_torch(name, start, targets)
    for key in SHAPES:
        np.testing.assert_allclose(ends[0][key], ends[1][key], rtol=0, atol=1e-12)


def in_jax(name: str, start: Any, targets: Any) -> dict[str, np.ndarray]:
    with x64():
        tree = jax.tree.map(jnp.asarray, start)
        plan = affinet.plan(RULES[name](affinet.weights(tree)))
        tree = plan.projector(tree).project(tree)  # torch does so when it is attached
        optimizer = affinet.optax.project(plan, optax.adam(RATE))

        def step(carried: Any, _: Any) -> Any:
            tree, state = carried
            updates, state = optimizer.update({key: tree[key] - targets[key] for key in tree}, state, tree)
            return (optax.apply_updates(tree, updates), state), None

        run = jax.jit(lambda tree, state: jax.lax.scan(step, (tree, state), None, length=STEPS)[0])
        return {key: np.asarray(x) for key, x in run(tree, optimizer.init(tree))[0].items()}


def in_torch(name: str, start: Any, targets: Any) -> dict[str, np.ndarray]:
    model = torch.nn.Module()
    for key, values in start.items():
        model.register_parameter(key, torch.nn.Parameter(torch.tensor(values)))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    affinet.project(model, optimizer, RULES[name](affinet.weights(model)))
    parameters = dict(model.named_parameters())
    for _ in range(STEPS):
        for key, parameter in parameters.items():
            parameter.grad = parameter.detach() - torch.tensor(targets[key])
        optimizer.step()
    return {key: parameter.detach().numpy() for key, parameter in parameters.items()}
