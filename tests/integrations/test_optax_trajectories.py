"""One trajectory in two libraries: twenty Adam steps under Optax and under torch are the same in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import affinet
import affinet.optax
from tests.integrations.jax_precision import x64
from tests.integrations.trajectory import RATE, RULES, SHAPES, STEPS, drawn, in_torch


@pytest.mark.parametrize("name", RULES)
def test_twenty_steps_are_those_of_torch(name: str) -> None:
    """Both project as the same laws do; what differs is rounding, which these steps amplify little."""
    start, targets = drawn()
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
