"""Optimizers of Keras under rules on diabetes: the constrained optimum, and what a `constraint` of Keras reaches.

On JAX and torch two optimizers are trained; AFFINET_KERAS_PRODUCT=1 (`make long`) takes all.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import affinet
from tests.integrations.diabetes_rules import LAST, RATES, SHAPE, rules_of
from tests.integrations.keras_processes import BACKENDS, printed

NEAR = 1e-8
ROUNDING = 1e-13
"""Sums of ten numbers of size one in float64."""
SOME = tuple(RATES) if os.environ.get("AFFINET_KERAS_PRODUCT") else ("Adam", "Lion")
CASES = [(backend, name) for backend in BACKENDS for name in (RATES if backend == "tensorflow" else SOME)]


@cache
def problem() -> tuple[np.ndarray, np.ndarray]:
    """Least squares on ten standardized measurements of 442 patients; responses: the progression, and its square."""
    data = load_diabetes()
    x = data.data / data.data.std(axis=0)
    y = (data.target - data.target.mean()) / data.target.std()
    return x.T @ x / len(x), x.T @ np.stack([y, y**2 - 1.0], axis=1) / len(x)


@cache
def ends(backend: str) -> dict[str, np.ndarray]:
    """Optimizer and weight → the numbers at the end."""
    with TemporaryDirectory() as folder:
        hessian, linear = problem()
        np.savez(Path(folder) / "problem.npz", hessian=hessian, linear=linear)
        printed("keras_diabetes", backend, folder, *(name for other, name in CASES if other == backend))
        with np.load(Path(folder) / "ends.npz") as stored:
            return dict(stored)


def gradient(w: np.ndarray) -> np.ndarray:
    hessian, linear = problem()
    return np.asarray(hessian @ w - linear)


@cache
def projector() -> affinet.ArrayProjector:
    plan = affinet.plan(rules_of(affinet.weights({"w": SHAPE})["w"]))
    return plan.projector({"w": np.zeros(SHAPE)})


def stationarity(w: np.ndarray) -> float:
    """The share of the gradient that lies along the rules: 0 at the constrained optimum."""
    return float(projector().stationarity({"w": gradient(w)}, at={"w": w}))


def gap(w: np.ndarray) -> float:
    return max(projector().violation({"w": w}).values())


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_optimizers_reach_the_constrained_optimum(backend: str, name: str) -> None:
    """To 1e-8; Lion, and Adam on torch, as exactly as they reach the optimum without rules.

    Entries of the steps of Lion are as long as the rate, so that weights swing by `rate / (1 − β₂)`. Adam of Keras on
    torch ends at 4e-5 without rules.
    """
    ruled, free = (ends(backend)[f"{name} {weight}"] for weight in ("ruled", "free"))
    size = np.linalg.norm(gradient(ruled))
    reach = RATES["Lion"] * LAST / (1.0 - 0.99) if name == "Lion" else 0.0
    swing = np.linalg.norm(problem()[0], 2) * np.sqrt(ruled.size) * reach / size
    own = np.linalg.norm(gradient(free)) / size if backend == "torch" else 0.0
    assert gap(ruled) < ROUNDING
    assert stationarity(ruled) <= max(NEAR, swing, own)
    assert max(swing, own) < 1e-3 or name == "RMSprop"  # what the next test finds is far above


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_a_constraint_of_keras_is_right_for_gradient_descent_only(backend: str, name: str) -> None:
    """Its weights satisfy the rules, and rest where the step, and not the gradient, is normal to them."""
    projected = ends(backend)[f"{name} projected"]
    assert gap(projected) < ROUNDING
    share = stationarity(projected)
    assert share <= NEAR if name == "SGD" else share > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_optimum_is_that_of_linear_algebra(backend: str) -> None:
    """Weights and multipliers solve one linear system; the smallest curvature, 0.009, divides what is left of 1e-8."""
    hessian, linear = (np.kron(problem()[0], np.eye(2)), problem()[1].ravel())
    rows = np.concatenate([np.kron(np.ones((1, 10)), np.eye(2)), np.kron(np.eye(10)[:1] + np.eye(10)[3:4], np.eye(2))])
    system = np.block([[hessian, rows.T], [rows, np.zeros((4, 4))]])
    wanted = np.linalg.solve(system, np.concatenate([linear, np.zeros(4)]))[:20].reshape(SHAPE)
    np.testing.assert_allclose(ends(backend)["Adam ruled"], wanted, rtol=0, atol=1e-5)
