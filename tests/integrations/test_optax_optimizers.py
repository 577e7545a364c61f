"""Optimizers of Optax under rules: the constrained optimum of quadratics, and what step-then-project reaches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib
from scipy.optimize import Bounds, LinearConstraint, minimize
from sklearn.datasets import load_diabetes

import affinet
import affinet.optax
from tests.integrations.jax_precision import x64

SHAPE = (10, 2)
STEPS, LINE_SEARCHES = 2000, 150
ROUNDING = 1e-13
"""Sums of ten numbers of size one in float64."""
NEAR = 1e-8
Tree = Any


def cosine(rate: float) -> Any:
    return optax.cosine_decay_schedule(rate, STEPS)


LAST = 1e-6
"""The share of the first rate that is left at the end, for steps that are as long as the rate at any gradient."""


def falling(rate: float) -> Any:
    return optax.exponential_decay(rate, STEPS, LAST)


@dataclass(frozen=True)
class Tried:
    """An optimizer; how far its last steps end from an optimum (`reach`); and whether a projection after it is right.

    Steps of lion have every entry as long as the rate, those of muon are as long as the rate in all directions: with a
    momentum `b` the weights swing around an optimum by up to `rate / (1 − b)` in each entry.
    """

    make: Callable[[], Any]
    reach: float = 0.0
    right_after: bool = False
    steps: int = STEPS


OPTIMIZERS = {
    "adam": Tried(lambda: optax.adam(cosine(0.1))),
    "adamw": Tried(lambda: optax.adamw(cosine(0.1), weight_decay=0.0)),
    "sgd": Tried(lambda: optax.sgd(0.1, momentum=0.9), right_after=True),
    "rmsprop": Tried(lambda: optax.rmsprop(falling(0.05))),
    "adagrad": Tried(lambda: optax.adagrad(0.5)),
    "lion": Tried(lambda: optax.lion(falling(0.05), b2=0.99), 0.05 * LAST / (1.0 - 0.99)),
    "muon": Tried(lambda: contrib.muon(falling(0.05), beta=0.95), 0.05 * LAST / (1.0 - 0.95)),
    "lbfgs": Tried(optax.lbfgs, steps=LINE_SEARCHES),
}
SETS: dict[str, Callable[[Any], list[Any]]] = {
    "equations": lambda w: [w.w.sum(dim=0) == 0.0, w.w[0] == -w.w[3]],
    "inequalities": lambda w: [w.w.sum(dim=0) == 0.0, w.w >= -0.2],
}

UNDER_INEQUALITIES = OPTIMIZERS if os.environ.get("AFFINET_JAX_PRODUCT") else ("adam", "sgd", "lion", "lbfgs")
"""The others take as long to compile; `make long` trains them, too."""
TRAINED = [*((name, "equations") for name in OPTIMIZERS), *((name, "inequalities") for name in UNDER_INEQUALITIES)]


@dataclass(frozen=True, eq=False)
class Quadratic:
    """`½ tr(Wᵀ H W) − tr(Cᵀ W)`; a pytree, so that one compiled program trains all problems."""

    hessian: Any
    linear: Any

    def __call__(self, tree: Tree) -> Any:
        return 0.5 * jnp.sum(tree["w"] * (self.hessian @ tree["w"])) - jnp.sum(self.linear * tree["w"])


jax.tree_util.register_dataclass(Quadratic)


def diabetes() -> Quadratic:
    """Least squares on ten standardized measurements of 442 patients; responses: the progression, and its square."""
    data = load_diabetes()
    x = data.data / data.data.std(axis=0)
    y = (data.target - data.target.mean()) / data.target.std()
    return Quadratic(x.T @ x / len(x), x.T @ np.stack([y, y**2 - 1.0], axis=1) / len(x))


def random_quadratic(seed: int) -> Quadratic:
    """Curvatures from 0.1 to 4 in random directions (those of diabetes go from 0.01 to 4), around a random point."""
    draw = np.random.default_rng(seed)
    axes = np.linalg.qr(draw.standard_normal((10, 10)))[0]
    hessian = (axes * np.geomspace(0.1, 4.0, 10)) @ axes.T
    return Quadratic(hessian, hessian @ draw.standard_normal(SHAPE))


PROBLEMS: dict[str, Callable[[], Quadratic]] = {
    "diabetes": diabetes,
    "quadratic 1": lambda: random_quadratic(1),
    "quadratic 2": lambda: random_quadratic(2),
}


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with x64():
        yield


def start() -> Tree:
    return {"w": jnp.asarray(np.random.default_rng(0).standard_normal(SHAPE))}


@cache
def plan_of(rules: str) -> affinet.Plan:
    return affinet.plan(SETS[rules](affinet.weights(start())))


@cache
def training(name: str, rules: str, *, after: bool) -> Callable[[Quadratic], Tree]:
    """The weights at the end of a training, under the rules or with a projection `after` every free step."""
    tried, plan = OPTIMIZERS[name], plan_of(rules)
    projector = plan.projector(start())
    optimizer = optax.with_extra_args_support(tried.make() if after else affinet.optax.project(plan, tried.make()))

    def trained(loss: Quadratic, tree: Tree) -> Tree:
        def step(carried: Any, _: Any) -> Any:
            tree, state = carried
            value, gradients = jax.value_and_grad(loss)(tree)
            updates, state = optimizer.update(gradients, state, tree, value=value, grad=gradients, value_fn=loss)
            tree = optax.apply_updates(tree, updates)
            return (projector.project(tree) if after else tree, state), None

        return jax.lax.scan(step, (tree, optimizer.init(tree)), None, length=tried.steps)[0][0]

    compiled = jax.jit(trained)
    return lambda loss: compiled(loss, projector.project(start()) if after else start())


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("name", "rules"), TRAINED)
def test_optimizers_reach_the_constrained_optimum(name: str, rules: str, problem: str) -> None:
    tried, loss, projector = OPTIMIZERS[name], PROBLEMS[problem](), plan_of(rules).projector(start())
    end = training(name, rules, after=False)(loss)
    gradients = jax.grad(loss)(end)
    assert max(float(gap) for gap in projector.violation(end).values()) < ROUNDING
    swing = np.linalg.norm(loss.hessian, 2) * np.sqrt(end["w"].size) * tried.reach / np.linalg.norm(gradients["w"])
    assert float(projector.stationarity(gradients, at=end)) < max(NEAR, swing)


@pytest.mark.parametrize(
    ("name", "rules"),
    [*((name, "equations") for name in OPTIMIZERS), ("adam", "inequalities"), ("sgd", "inequalities")],
)
def test_a_step_and_then_a_projection_is_right_for_gradient_descent_only(name: str, rules: str) -> None:
    """It is feasible, and rests where the step of the optimizer, and not the gradient, is normal to the rules."""
    loss, projector = diabetes(), plan_of(rules).projector(start())
    end = training(name, rules, after=True)(loss)
    assert max(float(gap) for gap in projector.violation(end).values()) < ROUNDING
    share = float(projector.stationarity(jax.grad(loss)(end), at=end))
    assert share < NEAR if OPTIMIZERS[name].right_after else share > 1e-3


@pytest.mark.parametrize(("opaque", "rules"), [(False, "equations"), (True, "equations"), (False, "inequalities")])
def test_sharpness_aware_minimization(opaque: bool, rules: str) -> None:
    """The gradients that it asks for itself are projected, too: with Adam they would lead elsewhere."""
    loss, plan, rho = random_quadratic(1), plan_of(rules), 1e-4
    ascent = optax.chain(contrib.normalize(), optax.sgd(rho))
    steps = STEPS if opaque else 2 * STEPS
    inner = contrib.sam(optax.adam(cosine(0.1)), ascent, opaque_mode=opaque)
    optimizer = affinet.optax.project(plan, inner)

    def step(carried: Any, _: Any) -> Any:
        tree, state = carried
        extra = {"grad_fn": lambda tree, _: jax.grad(loss)(tree)} if opaque else {}
        updates, state = optimizer.update(jax.grad(loss)(tree), state, tree, **extra)
        return (optax.apply_updates(tree, updates), state), None

    run = jax.jit(lambda tree: jax.lax.scan(step, (tree, optimizer.init(tree)), None, length=steps)[0][0])
    end, projector = run(start()), plan.projector(start())
    gradients = jax.grad(loss)(end)
    # Gradients are taken rho away, where they differ by the largest curvature times that, and so are the last weights.
    off = 2.0 * rho * np.linalg.norm(loss.hessian, 2) / np.linalg.norm(gradients["w"])
    assert max(float(gap) for gap in projector.violation(end).values()) < ROUNDING
    assert float(projector.stationarity(gradients, at=end)) < off


def test_gradients_that_an_optimizer_asks_for_are_refused_under_inequalities() -> None:
    inner = contrib.sam(optax.sgd(0.1), optax.sgd(1e-3), opaque_mode=True)
    optimizer = affinet.optax.project(plan_of("inequalities"), inner)
    with pytest.raises(affinet.AttachError, match="opaque_mode=False"):
        optimizer.update(start(), optimizer.init(start()), start(), grad_fn=lambda tree, _: tree)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("rules", SETS)
def test_the_optimum_is_that_of_other_solvers(rules: str, problem: str) -> None:
    """Equations by linear algebra, inequalities by SciPy's trust region; both without affinet."""
    loss = PROBLEMS[problem]()
    end = training("adam", rules, after=False)(loss)
    hessian, linear = np.kron(loss.hessian, np.eye(2)), np.asarray(loss.linear).ravel()
    sums = np.kron(np.ones((1, 10)), np.eye(2))
    if rules == "equations":
        rows = np.concatenate([sums, np.kron(np.eye(10)[:1] + np.eye(10)[3:4], np.eye(2))])
        kkt = np.block([[hessian, rows.T], [rows, np.zeros((4, 4))]])
        wanted = np.linalg.solve(kkt, np.concatenate([linear, np.zeros(4)]))[:20]
    else:
        found = minimize(
            lambda w: w @ hessian @ w / 2 - linear @ w,
            np.zeros(20),
            jac=lambda w: hessian @ w - linear,
            hess=lambda w: hessian,
            method="trust-constr",
            constraints=LinearConstraint(sums, 0.0, 0.0),
            bounds=Bounds(-0.2, np.inf),
            options={"gtol": 1e-12, "xtol": 1e-14, "barrier_tol": 1e-12, "maxiter": 5000},
        )
        wanted = found.x
    value = float(loss({"w": jnp.asarray(wanted.reshape(SHAPE))}))
    assert float(loss(end)) - value < 1e-8 * abs(value)
    np.testing.assert_allclose(np.asarray(end["w"]).ravel(), wanted, rtol=0, atol=1e-4)
