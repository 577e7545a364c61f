"""Derivatives through projections and steps in JAX: those of linear equations are right, others are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import affinet
import affinet.optax
import affinet.testing
from affinet import families
from affinet.testing import Case
from affinet.testing.equation_truth import LinearEquations
from tests.integrations.jax_precision import x64

Tree = Any
ROUNDING = 1e-12
"""Products with a pseudo-inverse of condition below a hundred, of numbers of size one in float64."""
CASES = {case.name: case for case in affinet.testing.cases()}
ON_HOST = CASES["irregular equations as of many"]
EQUATIONS = {
    tuple(sorted({type(block).__name__ for block in case.plan.blocks})): case
    for case in CASES.values()
    if isinstance(case.truth, LinearEquations) and case is not ON_HOST
}.values()
"""A case for each kind of block."""


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with x64():
        yield


def trees(arrays: Any) -> Tree:
    return {name: jnp.asarray(array) for name, array in arrays.items()}


def dot(one: Tree, other: Tree) -> Any:
    return sum(jnp.sum(one[name] * other[name]) for name in one)


def assert_close(one: Tree, other: Tree) -> None:
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("case", EQUATIONS, ids=str)
def test_the_derivative_of_a_projection_is_the_tangent(case: Case) -> None:
    """Anywhere, and at weights that satisfy the rules, which are projected all the same."""
    tree, vectors = trees(case.weights), trees(case.vectors)
    projector = case.plan.projector(tree)
    wanted = trees(case.tangent)
    for at in (tree, projector.project(tree)):
        assert_close(jax.grad(lambda tree: dot(vectors, projector.project(tree)))(at), wanted)
        assert_close(jax.jvp(projector.project, (at,), (vectors,))[1], wanted)


@pytest.mark.parametrize("case", EQUATIONS, ids=str)
def test_the_derivative_of_a_step_is_right_where_gradients_are_normal_to_the_rules(case: Case) -> None:
    """There the projected gradient is rounding and becomes zero; its derivative stays that of a projection."""
    tree, vectors = trees(case.weights), trees(case.vectors)
    plan = case.plan
    projector = plan.projector(tree)
    placed, tangent = projector.project(tree), projector.tangent(vectors)
    normal = {name: vectors[name] - tangent[name] for name in vectors}
    optimizer = affinet.optax.project(plan, optax.sgd(0.5))

    def moved(share: Any) -> Any:
        gradients = {name: normal[name] + share * vectors[name] for name in normal}
        updates, _ = optimizer.update(gradients, optimizer.init(placed), placed)
        return dot(vectors, updates)

    wanted = -0.5 * dot(tangent, tangent)
    assert jax.jit(jax.grad(moved))(0.0) == pytest.approx(float(wanted), abs=ROUNDING)


def test_a_learning_rate_is_learnt_through_ten_steps() -> None:
    """The derivative of a loss after a scan of steps of momentum, with ties, by central differences."""
    random = np.random.default_rng(0)
    tree, target = ({"a": jnp.asarray(random.standard_normal((4, 4)))} for _ in range(2))
    w = affinet.weights(tree)
    plan = affinet.plan([w.a == w.a.T, w.a.sum(dim=1) == 1.0])

    def loss_after(rate: Any) -> Any:
        optimizer = affinet.optax.project(plan, optax.sgd(rate, momentum=0.9))

        def step(carried: Any, _: Any) -> Any:
            tree, state = carried
            gradients = jax.grad(lambda tree: jnp.sum((tree["a"] - target["a"]) ** 4))(tree)
            updates, state = optimizer.update(gradients, state, tree)
            return (optax.apply_updates(tree, updates), state), None

        (end, _), _ = jax.lax.scan(step, (tree, optimizer.init(tree)), None, length=10)
        return jnp.sum((end["a"] - target["a"]) ** 2)

    rate, width = 0.003, 1e-7
    differences = (loss_after(rate + width) - loss_after(rate - width)) / (2.0 * width)
    # Rounding of the losses over the width, and the third derivative times its square.
    assert jax.jit(jax.grad(loss_after))(rate) == pytest.approx(float(differences), rel=1e-6)


NOT_SMOOTH: dict[str, Callable[[Any], Any]] = {
    "bounds": lambda w: w.a >= 0.1,
    "simplex": lambda w: families.simplex(w.a, dim=1),
    "order": lambda w: families.monotone(w.a, dim=1),
    "ball": lambda w: families.l2_ball(w.a, 1.0, dim=1),
    "polyhedron": lambda w: np.random.default_rng(0).standard_normal((3, 4)) @ w.a <= 1.0,
    "unit rows": lambda w: families.unit_norm(w.a, dim=1),
    "orthonormal rows": lambda w: families.orthogonal(w.a),
}


@pytest.mark.parametrize("kind", NOT_SMOOTH)
def test_derivatives_of_other_sets_are_refused(kind: str) -> None:
    """In both modes: weights that satisfy them are returned as they are, whose derivative would be the identity."""
    tree = {"a": jnp.asarray(np.random.default_rng(1).standard_normal((4, 5)))}
    plan = affinet.plan(NOT_SMOOTH[kind](affinet.weights(tree)))
    projector = plan.projector(tree)
    at = projector.project(tree)
    refused = pytest.raises(affinet.AttachError, match=r"'a' are not differentiated\..*projector\.tangent|on the host")
    with refused:
        jax.grad(lambda tree: jnp.sum(projector.project(tree)["a"]))(at)
    with refused:
        jax.jvp(projector.project, (at,), (tree,))
    optimizer = affinet.optax.project(plan, optax.sgd(0.1))
    with refused:
        jax.grad(lambda tree: jnp.sum(optimizer.update(tree, optimizer.init(at), at)[0]["a"]))(tree)


def test_measures_on_the_host_are_not_differentiated() -> None:
    tree = {"a": jnp.ones((4, 5))}
    projector = affinet.plan([affinet.weights(tree).a.sum(dim=1) == 1.0]).projector(tree)
    with pytest.raises(affinet.AttachError, match=r"outside of jax\.grad"):
        jax.grad(lambda tree: sum(projector.violation(tree).values()))(tree)


def test_equations_that_are_solved_on_the_host_are_not_differentiated() -> None:
    """Sparse factors: SciPy solves with them."""
    tree = trees(ON_HOST.weights)
    projector = ON_HOST.plan.projector(tree)
    with pytest.raises(affinet.AttachError, match=r"solved on the host.*projector\.tangent"):
        jax.grad(lambda tree: jnp.sum(projector.project(tree)["w"]))(tree)
