"""The problems of Hock and Schittkowski have their published optima, by an independent solver and by their rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import affinet
from affinet.language.evaluation import evaluate
from benchmarks.hock_schittkowski import OPTIMAL, PROBLEMS, STARTS, Point, Problem

BY_HAND = {"HS61": (5.3, -2.1, 3.2), "HS26": (1.1, 0.9, 0.9), "HS46": (1.1, 0.9, 1.1, 0.9, 1.1)}
"""Starts for the solver: derivatives vanish at the published start of HS61; at the optima of the other two the loss is
of the fourth and sixth order, where a solver of the second order comes to a halt early."""


def optimum(problem: Problem) -> np.ndarray:
    """The optimum by SciPy's SLSQP, from the published start unless `BY_HAND` has another."""

    def loss(x: np.ndarray) -> float:
        return float(problem.loss(torch.from_numpy(x)))

    def gradient(x: np.ndarray) -> np.ndarray:
        return torch.func.grad(problem.loss)(torch.from_numpy(x)).numpy()

    def residuals(x: np.ndarray) -> np.ndarray:
        return problem.residuals(torch.from_numpy(x)).numpy()

    def derivatives(x: np.ndarray) -> np.ndarray:
        return torch.func.jacrev(problem.residuals)(torch.from_numpy(x)).numpy()

    equations = {"type": "eq", "fun": residuals, "jac": derivatives}
    start = np.array(BY_HAND.get(problem.name, problem.start))
    options = {"ftol": 1e-15, "maxiter": 1000}
    return np.asarray(minimize(loss, start, jac=gradient, method="SLSQP", constraints=equations, options=options).x)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_an_independent_solver_ends_at_the_published_optimum(problem: Problem) -> None:
    point = problem.check(torch.from_numpy(optimum(problem)))
    assert point.violation < 1e-7
    assert abs(point.gap) <= OPTIMAL * max(1.0, abs(problem.optimum))
    assert point.stationarity < 1e-3  # what SLSQP's own test of the objective leaves of the gradient


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_the_rules_are_the_equations(problem: Problem) -> None:
    starts = problem.starts()
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(starts)
    rules = problem.rules(affinet.weights(model).w)
    values = np.stack([evaluate(rule.expression, {"w": starts.numpy()}) for rule in rules], axis=-1)
    np.testing.assert_allclose(values, problem.residuals(starts).numpy(), rtol=1e-12, atol=1e-12)


def test_there_are_216_starts_and_they_do_not_change() -> None:
    assert sum(len(problem.starts()) for problem in PROBLEMS) == len(PROBLEMS) * STARTS == 216
    for problem in PROBLEMS:
        starts = problem.starts()
        assert torch.equal(starts, problem.starts())
        assert torch.equal(starts[0], torch.tensor(problem.start, dtype=torch.float64))
        assert len(starts.unique(dim=0)) == STARTS


def test_a_point_off_the_set_or_off_the_optimum_is_no_kkt_point() -> None:
    circle = next(problem for problem in PROBLEMS if problem.name == "HS7")
    best = torch.tensor([0.0, 3.0**0.5], dtype=torch.float64)
    assert circle.check(best).is_kkt
    assert circle.check(best).is_optimal(circle)
    assert not circle.check(best + 1e-6).is_kkt
    elsewhere = torch.tensor([0.5, (4 - 1.25**2) ** 0.5], dtype=torch.float64)
    assert circle.check(elsewhere).violation < 1e-12
    assert not circle.check(elsewhere).is_kkt
    assert not Point(float("nan"), float("nan"), float("nan")).is_kkt
