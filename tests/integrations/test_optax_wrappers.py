"""Rules under the wrappers of Optax and the transformations of JAX: around `project`, inside of it, and over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import affinet
import affinet.optax
from affinet import families
from tests.integrations.jax_precision import x64

ROUNDING = 1e-13
"""Sums of 6 numbers below 100 in float64, and what one update `p + (w − p)` rounds."""
RATE, STEPS = 0.1, 600
Tree = Any
Make = Callable[[affinet.Plan, Any], optax.GradientTransformationExtraArgs]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with x64():
        yield


def params_of(seed: int = 0) -> Tree:
    random = np.random.default_rng(seed)
    shapes = {"a": (6, 5), "b": (4, 4), "c": (8,)}
    return {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}


def rules_of(w: Any) -> list[Any]:
    """Of every sort: equations, inequalities, and nonlinear equations; of kinds that XLA compiles soon."""
    return [
        w.b == w.b.T,
        w.a[:3].sum(dim=1) == 1.0,
        w.a[3:] >= 0.1,
        families.unit_norm(w.c.reshape(2, 4), dim=1),
    ]


def plan_of(tree: Tree) -> affinet.Plan:
    return affinet.plan(rules_of(affinet.weights(tree)))


TARGET = params_of(1)


def loss_of(tree: Tree) -> Any:
    return sum(jnp.sum((tree[name] - TARGET[name]) ** 2) for name in tree) / 2


def schedule(count: Any) -> Any:
    return optax.cosine_decay_schedule(RATE, STEPS)(count)


def gap(plan: affinet.Plan, tree: Tree) -> float:
    return max(float(value) for value in plan.projector(tree).violation(tree).values())


def step_of(optimizer: Any, loss: Callable[[Tree], Any] = loss_of) -> Callable[[Tree, Any], tuple[Tree, Any]]:
    def step(tree: Tree, state: Any) -> tuple[Tree, Any]:
        updates, state = optimizer.update(jax.grad(loss)(tree), state, tree)
        return optax.apply_updates(tree, updates), state

    return step


def trained(optimizer: Any, tree: Tree, steps: int = STEPS) -> tuple[Tree, Any]:
    step = step_of(optimizer)

    def scanned(carried: Any, _: Any) -> Any:
        return step(*carried), None

    run = jax.jit(lambda tree, state: jax.lax.scan(scanned, (tree, state), None, length=steps)[0])
    made: tuple[Tree, Any] = run(tree, optimizer.init(tree))
    return made


AROUND: dict[str, Make] = {
    "plain": lambda plan, inner: affinet.optax.project(plan, inner),
    "last in a chain": lambda plan, inner: optax.chain(optax.scale(2.0), affinet.optax.project(plan, inner)),
    "a chain inside": lambda plan, inner: affinet.optax.project(plan, optax.chain(optax.clip(10.0), inner)),
    "MultiSteps around": lambda plan, inner: optax.MultiSteps(affinet.optax.project(plan, inner), 2),
    "MultiSteps inside": lambda plan, inner: affinet.optax.project(plan, optax.MultiSteps(inner, 2)),
    "apply_if_finite around": lambda plan, inner: optax.apply_if_finite(affinet.optax.project(plan, inner), 3),
    "apply_if_finite inside": lambda plan, inner: affinet.optax.project(plan, optax.apply_if_finite(inner, 3)),
    "multi_transform inside": lambda plan, inner: affinet.optax.project(
        plan,
        optax.multi_transform({"x": inner, "y": optax.adam(schedule)}, {"a": "x", "b": "y", "c": "x"}),
    ),
}


@pytest.mark.parametrize("name", AROUND)
def test_wrappers_end_at_the_constrained_optimum(name: str) -> None:
    tree = params_of()
    plan = plan_of(tree)
    end, _ = trained(AROUND[name](plan, optax.adam(schedule)), tree, STEPS * 2 if "Multi" in name else STEPS)
    assert gap(plan, end) < ROUNDING
    assert float(plan.projector(tree).stationarity(jax.grad(loss_of)(end), at=end)) < 1e-8


@pytest.mark.parametrize("outside", [True, False])
def test_rates_that_are_injected_can_be_changed_between_steps(outside: bool) -> None:
    tree = params_of()
    plan = plan_of(tree)

    def make(learning_rate: Any) -> Any:
        return affinet.optax.project(plan, optax.adam(learning_rate))

    optimizer = (
        optax.inject_hyperparams(make)(learning_rate=RATE)
        if outside
        else affinet.optax.project(plan, optax.inject_hyperparams(optax.adam)(learning_rate=RATE))
    )
    state, step = optimizer.init(tree), jax.jit(step_of(optimizer))
    for _ in range(3):
        tree, state = step(tree, state)
    before = tree
    (state if outside else state.inner).hyperparams["learning_rate"] = jnp.asarray(0.0)
    tree, state = step(tree, state)
    assert gap(plan, tree) < ROUNDING
    moved = max(float(jnp.max(jnp.abs(tree[name] - before[name]))) for name in tree)
    assert moved < ROUNDING


def test_a_step_that_is_not_finite_leaves_everything_as_it_was() -> None:
    """Also the averaged multipliers and the faces: the next step is the one that it would have been."""
    tree = params_of()
    plan = plan_of(tree)
    optimizer = optax.apply_if_finite(affinet.optax.project(plan, optax.adam(RATE)), 10)
    update = jax.jit(optimizer.update)
    state = optimizer.init(tree)
    for _ in range(3):
        updates, state = update(jax.grad(loss_of)(tree), state, tree)
        tree = optax.apply_updates(tree, updates)
    broken = jax.grad(loss_of)(tree)
    broken["a"] = broken["a"].at[4, 2].set(jnp.nan)
    updates, after = update(broken, state, tree)
    assert all(bool(jnp.all(update == 0.0)) for update in jax.tree.leaves(updates))
    for one, other in zip(jax.tree.leaves(state.inner_state), jax.tree.leaves(after.inner_state), strict=True):
        np.testing.assert_array_equal(one, other)
    gradients = jax.grad(loss_of)(tree)
    wanted, _ = update(gradients, state, tree)
    got, _ = update(gradients, after, tree)
    for name in tree:
        np.testing.assert_array_equal(got[name], wanted[name])


def test_gradients_that_are_not_finite_reach_the_weights() -> None:
    """As without rules: a step that cannot be taken is not skipped without a word."""
    tree = params_of()
    plan = plan_of(tree)
    optimizer = affinet.optax.project(plan, optax.sgd(RATE))
    gradients = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), tree)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(tree), tree)
    end = optax.apply_updates(tree, updates)
    assert all(bool(jnp.all(jnp.isnan(x))) for x in end.values())


def test_schedule_free_keeps_all_its_weights_on_equations() -> None:
    """Those that it steps from, and their average, which is the one to evaluate."""
    tree = params_of()
    plan = affinet.plan(rules_of(affinet.weights(tree))[:2])
    inner = contrib.schedule_free(optax.adam(RATE, b1=0.0), RATE, b1=0.9)
    end, state = trained(affinet.optax.project(plan, inner), tree)
    evaluated = contrib.schedule_free_eval_params(state.inner, end)
    for weights in (end, state.inner.z, evaluated):
        assert gap(plan, weights) < ROUNDING
    assert_near_the_optimum(plan, evaluated)


@pytest.mark.parametrize("kind", ["bounds with sums", "ball", "unit rows"])
def test_schedule_free_evaluates_on_inequalities_and_nonlinear_equations(kind: str) -> None:
    """Its average is an extrapolation from two points of the set, and stays in it: `z` makes up for that."""
    tree = params_of()
    w = affinet.weights(tree)
    plan = affinet.plan(
        {
            "bounds with sums": [w.a[:3] >= 0.1, w.a[3:].sum(dim=1) == 1.0],
            "ball": families.l2_ball(w.a, 0.5, dim=1),
            "unit rows": families.unit_norm(w.a, dim=1),
        }[kind]
    )
    inner = contrib.schedule_free(optax.sgd(RATE), RATE, b1=0.9)
    step = step_of(affinet.optax.project(plan, inner))

    def watched(carried: Any, _: Any) -> Any:
        carried = step(*carried)
        return carried, contrib.schedule_free_eval_params(carried[1].inner, carried[0])

    start = (tree, affinet.optax.project(plan, inner).init(tree))
    _, evaluated = jax.jit(lambda start: jax.lax.scan(watched, start, None, length=STEPS))(start)
    for number in (0, 1, 10, 100, STEPS - 1):
        assert gap(plan, jax.tree.map(lambda x, number=number: x[number], evaluated)) < ROUNDING
    assert_near_the_optimum(plan, jax.tree.map(lambda x: x[-1], evaluated))


def assert_near_the_optimum(plan: affinet.Plan, evaluated: Tree) -> None:
    """An average over n steps forgets its start no faster than one over n, and losses are squares."""
    ends, _ = trained(affinet.optax.project(plan, optax.adam(schedule)), params_of())
    lost = float(loss_of(params_of()) - loss_of(ends))
    assert abs(float(loss_of(evaluated) - loss_of(ends))) < lost * (10.0 / STEPS) ** 2


def test_seeds_under_vmap_are_the_runs_of_each_seed() -> None:
    trees = [params_of(seed) for seed in range(3)]
    plan = plan_of(trees[0])
    optimizer = affinet.optax.project(plan, optax.adam(RATE))

    def run(tree: Tree) -> Tree:
        step = step_of(optimizer)
        carried, _ = jax.lax.scan(lambda c, _: (step(*c), None), (tree, optimizer.init(tree)), None, length=10)
        return carried[0]

    together = jax.jit(jax.vmap(run))(jax.tree.map(lambda *xs: jnp.stack(xs), *trees))
    for number, tree in enumerate(trees):
        alone = jax.jit(run)(tree)
        for name in tree:
            np.testing.assert_allclose(together[name][number], alone[name], rtol=0, atol=1e-12)


def test_donated_buffers_make_the_same_steps() -> None:
    tree = params_of()
    plan = plan_of(tree)
    optimizer = affinet.optax.project(plan, optax.adam(RATE))
    plain, donated = jax.jit(step_of(optimizer)), jax.jit(step_of(optimizer), donate_argnums=(0, 1))
    one = (tree, optimizer.init(tree))
    other = jax.tree.map(jnp.copy, one)
    for _ in range(5):
        one, other = plain(*one), donated(*other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(x, y)


def test_steps_without_jit_are_those_with_it() -> None:
    tree = params_of()
    plan = plan_of(tree)
    optimizer = affinet.optax.project(plan, optax.adam(RATE))
    one = other = (tree, optimizer.init(tree))
    step = step_of(optimizer)
    compiled = jax.jit(step)
    for _ in range(2):
        one, other = step(*one), compiled(*other)
    for name in tree:
        np.testing.assert_allclose(one[0][name], other[0][name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtypes_stay_and_rules_hold_in_them(dtype: str) -> None:
    tree = jax.tree.map(lambda x: x.astype(dtype), params_of())
    plan = plan_of(tree)
    optimizer = affinet.optax.project(plan, optax.sgd(RATE, momentum=0.9))
    state, step = optimizer.init(tree), jax.jit(step_of(optimizer))
    for _ in range(30):
        tree, state = step(tree, state)
    assert {x.dtype for x in tree.values()} == {jnp.dtype(dtype)}
    # Eight entries of at most four, half a spacing each, twice: the update rounds once and the sum once.
    assert gap(plan, tree) <= 8 * 4 * float(jnp.finfo(dtype).eps)
    assert bool(jnp.all(tree["b"] == tree["b"].T))
    assert bool(jnp.all(tree["a"][3:] >= jnp.asarray(0.1, dtype)))


def test_weights_changed_from_outside_are_moved_back_onto_the_rules() -> None:
    """As when a checkpoint is loaded between two steps: the next step starts at the nearest point."""
    tree = params_of()
    plan = plan_of(tree)
    optimizer = affinet.optax.project(plan, optax.adam(schedule))
    state, step = optimizer.init(tree), jax.jit(step_of(optimizer))
    for _ in range(20):
        tree, state = step(tree, state)
    tree = jax.tree.map(lambda x: 1.5 * x + 0.3, tree)
    assert gap(plan, tree) > 0.1
    tree, state = step(tree, state)
    assert gap(plan, tree) < ROUNDING

    def body(carried: Any, _: Any) -> Any:
        return step(*carried), None

    tree, _ = jax.lax.scan(body, (tree, state), None, length=STEPS)[0]
    assert float(plan.projector(tree).stationarity(jax.grad(loss_of)(tree), at=tree)) < 1e-8
