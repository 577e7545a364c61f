"""Rules under Optax: the constrained optimum of a quadratic with every kind of block, inside `jax.jit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import affinet
import affinet.optax
from affinet import families
from tests.integrations.jax_precision import x64

STEPS = 1500
RULES: dict[str, Callable[[Any], list[Any]]] = {
    "sums of rows": lambda w: [w.a.kernel.sum(dim=1) == 1.0],
    "sums of rows and columns": lambda w: [w.a.kernel.sum(dim=1) == 1.0, w.a.kernel.sum(dim=0) == 1.2],
    "symmetric": lambda w: [w["b.1"] == w["b.1"].T],
    "tied layers": lambda w: [w.a.kernel[0] == 2 * w["b.0"]],
    "bounds": lambda w: [w.a.kernel >= 0.1],
    "simplex": lambda w: [families.simplex(w.a.kernel, 1)],
    "unit rows": lambda w: [families.unit_norm(w.a.kernel, 1)],
    "orthogonal": lambda w: [families.orthogonal(w["b.1"])],
    "l2 ball": lambda w: [families.l2_ball(w.a.kernel[0], 0.5)],
    "polyhedron": lambda w: [w.a.kernel @ np.arange(5.0) <= 1.0, np.ones(6) @ w.a.kernel <= 0.3],
}


@pytest.mark.parametrize("name", RULES)
def test_adam_ends_at_the_constrained_optimum(name: str) -> None:
    random = np.random.default_rng(0)
    with x64():
        shapes = {"a": {"kernel": (6, 5)}, "b": [(5,), (4, 4)]}
        params, targets = (_filled(shapes, random) for _ in range(2))
        weights = jax.tree.map(lambda x: jnp.asarray(random.uniform(0.2, 4.0, x.shape)), params)

        def loss(tree: Any) -> Any:
            parts = zip(*map(jax.tree.leaves, (tree, targets, weights)), strict=True)
            return sum(jnp.sum(d * (x - y) ** 2) for x, y, d in parts) / 2

        plan = affinet.plan(RULES[name](affinet.weights(params)))
        optimizer = affinet.optax.project(plan, optax.adam(optax.cosine_decay_schedule(0.05, STEPS)))

        def step(carried: Any, _: Any) -> Any:
            tree, state = carried
            updates, state = optimizer.update(jax.grad(loss)(tree), state, tree)
            return (optax.apply_updates(tree, updates), state), None

        run = jax.jit(lambda tree, state: jax.lax.scan(step, (tree, state), None, length=STEPS)[0])
        trained, _ = run(params, optimizer.init(params))
        projector = plan.projector(params)
        assert max(float(gap) for gap in projector.violation(trained).values()) < 1e-14
        assert float(projector.stationarity(jax.grad(loss)(trained), at=trained)) < 1e-8


def _filled(shapes: Any, random: np.random.Generator) -> Any:
    return jax.tree.map(
        lambda shape: jnp.asarray(random.normal(size=shape)), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def test_what_rules_are_measured_by_comes_in_their_order() -> None:
    """JAX sorts the keys of plain dicts that leave a compiled function."""
    w = affinet.weights({"w": (3, 4)}).w
    plan = affinet.plan([(w[k].sum() == 1.0).named(name) for k, name in enumerate("zam")])
    tree = {"w": jnp.ones((3, 4))}
    projector = affinet.optax.TreeProjector(plan)
    for verb in (projector.multipliers, projector.violation):
        assert list(verb(tree)) == list(jax.jit(verb)(tree)) == ["z", "a", "m"]


def test_a_long_first_move_is_no_change_from_outside() -> None:
    """Adding the update to weights of size 30 rounds by more than the weights on the rules are rounded by."""
    random = np.random.default_rng(0)
    start, gradient = 30.0 * random.normal(size=(8, 8)), random.normal(size=(8, 8))
    w = affinet.weights({"w": (8, 8)}).w
    rules = [w >= 0.0, w.sum(dim=1) == 1.0, w.sum(dim=0) <= 1.2, w[0] @ np.arange(8.0) <= 2.0]
    optimizer = affinet.optax.project(affinet.plan(rules), optax.adam(0.05))
    ends = []
    for on in (False, True):
        with x64(on):
            tree, g = ({"w": jnp.asarray(x, "float64" if on else "float32")} for x in (start, gradient))
            state, update = optimizer.init(tree), jax.jit(optimizer.update)
            for _ in range(3):
                updates, state = update(g, state, tree)
                tree = optax.apply_updates(tree, updates)
            ends.append(np.asarray(tree["w"], np.float64))
    # The start is rounded to float32, and nearest points move as far as what they belong to; three steps follow.
    assert np.abs(ends[0] - ends[1]).max() <= 8 * 4 * 2.0**-24 * np.linalg.norm(start)
