"""Balls on weights that other rules read: lengths bounded together with sums, bounds and nonlinear rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.blocks.ball import Ball
from affinet.blocks.curved import Curved
from affinet.errors import InfeasibleError, RuleError


def attached(start: Any, rules: Any, rate: float = 0.05) -> tuple[torch.nn.Module, optim.Optimizer, affinet.Handle]:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.as_tensor(np.asarray(start), dtype=torch.float64))
    stepper = optim.Adam(model.parameters(), lr=rate)
    return model, stepper, affinet.project(model, stepper, rules(affinet.weights(model).w))


def train(model: torch.nn.Module, stepper: optim.Optimizer, target: Any, steps: int = 500) -> None:
    point = torch.as_tensor(target, dtype=torch.float64)
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, steps)
    for _ in range(steps):
        stepper.zero_grad()
        loss: Tensor = (model.w - point).square().sum()
        loss.backward()
        stepper.step()
        schedule.step()


def test_a_ball_and_a_sum_have_the_price_of_the_radius() -> None:
    """On the plane Σ w = s of n entries, |w| ≤ r leaves a sphere of radius √(r² − s²/n) around (s/n, …)."""
    target, n, s, r = np.array([3.0, 4.0, -1.0]), 3, 1.0, 2.0
    model, stepper, handle = attached(
        np.zeros(3), lambda w: [families.l2_ball(w, r).named("ball"), (w.sum() == s).named("sum")]
    )
    train(model, stepper, target)
    centre = np.full(n, s / n)
    along = target - target.mean()
    inner = np.sqrt(r**2 - s**2 / n)
    assert np.abs(model.w.detach().numpy() - (centre + inner * along / np.linalg.norm(along))).max() <= 1e-7
    prices = handle.multipliers()
    gap = np.linalg.norm(along) - inner
    # f* = gap² + (Σ t − s)²/n, with ∂ inner/∂r = r/inner and ∂ inner/∂s = −s/(n inner).
    assert float(prices["ball"]) == pytest.approx(-2 * gap * r / inner, abs=1e-4)
    assert float(prices["sum"]) == pytest.approx(2 * gap * s / (n * inner) - 2 * (target.sum() - s) / n, abs=1e-4)
    assert handle.active()["ball"].count == 1
    assert handle.report().returns["ball"].steps == 500
    certificate = handle.certificate(lambda: (model.w - torch.as_tensor(target)).square().sum())
    assert certificate.verdict == "local minimum"
    # The circle that is left has the radius `inner`, and the distance to the target in its plane is `gap`.
    assert certificate.smallest == pytest.approx(2.0 + 2.0 * gap / inner, rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_balls_sums_and_bounds_end_where_an_independent_solver_does(seed: int) -> None:
    """Convex: rows in balls, column sums at most a bound, and bounded entries; SLSQP has the same optimum."""
    random = np.random.default_rng(seed)
    target = 2.0 * random.normal(size=(3, 4))
    radii, sums = random.uniform(0.8, 1.5, 3), random.uniform(0.1, 0.5, 4)

    def rules(w: Any) -> list[Any]:
        return [families.l2_ball(w, radii, dim=1), w.sum(dim=0) <= sums, w >= -0.7]

    model, stepper, handle = attached(np.zeros((3, 4)), rules)
    train(model, stepper, target, 800)
    assert max(handle.violation().values()) <= 1e-14
    other = minimize(
        lambda z: ((z - target.ravel()) ** 2).sum(),
        np.zeros(12),
        jac=lambda z: 2.0 * (z - target.ravel()),
        constraints=[
            {"type": "ineq", "fun": lambda z: radii**2 - (z.reshape(3, 4) ** 2).sum(axis=1)},
            {"type": "ineq", "fun": lambda z: sums - z.reshape(3, 4).sum(axis=0)},
        ],
        bounds=[(-0.7, None)] * 12,
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert np.abs(model.w.detach().numpy().ravel() - other.x).max() <= 1e-5  # SLSQP's own accuracy
    assert all(float(price.max()) <= 1e-12 for name, price in handle.multipliers().items() if "<=" in name)


def test_balls_that_meet() -> None:
    """Two vectors that share an entry, each in a ball; the optimum of a linear loss is symmetric."""
    model, stepper, handle = attached(
        np.zeros(3), lambda w: [families.l2_ball(w[:2], 1.0), families.l2_ball(w[1:], 1.0)]
    )
    train(model, stepper, [3.0, 0.0, 3.0])
    assert np.abs(model.w.detach().numpy() - [1.0, 0.0, 1.0]).max() <= 1e-6
    assert max(handle.violation().values()) <= 1e-14


def test_a_ball_on_the_weights_of_a_nonlinear_equation() -> None:
    """The points of the hyperbola x y = 1 within the radius √(17/4): the ends are (2, 1/2) and (1/2, 2)."""
    model, stepper, handle = attached(
        [1.0, 1.0], lambda w: [w[0] * w[1] == 1, families.l2_ball(w, np.sqrt(4.25)), w[0] >= 0]
    )
    train(model, stepper, [5.0, 0.0])
    assert np.abs(model.w.detach().numpy() - [2.0, 0.5]).max() <= 1e-7
    assert max(handle.violation().values()) <= 1e-14


def test_balls_of_sums_of_weights() -> None:
    """The norm of any affine expression, here of differences."""
    model, stepper, _ = attached(np.zeros(3), lambda w: [families.l2_ball(w.diff() - 0.1, 1.0)])
    train(model, stepper, [5.0, 0.0, -5.0])
    gaps = np.diff(model.w.detach().numpy()) - 0.1
    assert np.linalg.norm(gaps) == pytest.approx(1.0, abs=1e-12)
    # The normal of the ball, as one of w, is parallel to the gradient.
    gradient = model.w.detach().numpy() - [5.0, 0.0, -5.0]
    normal = np.array([-gaps[0], gaps[0] - gaps[1], gaps[1]])
    assert np.linalg.norm(gradient / np.linalg.norm(gradient) + normal / np.linalg.norm(normal)) <= 1e-6


def test_only_what_shares_weights_leaves_the_formula() -> None:
    w = affinet.weights({"w": (6, 4), "v": (5,)})
    plan = affinet.plan([families.l2_ball(w.w[:3], 1.0, dim=1), families.l2_ball(w.v, 2.0), w.v.sum() == 1])
    assert sorted(type(block).__name__ for block in plan.blocks) == ["Ball", "Curved"]
    assert {type(block) for block in plan.blocks} == {Ball, Curved}
    again = affinet.plan([families.l2_ball(w.w[:3], 1.0, dim=1), w.w[3:].sum(dim=1) == 1])
    assert "Curved" not in {type(block).__name__ for block in again.blocks}


def test_plans_of_joined_balls_are_kept_in_files(tmp_path: Path) -> None:
    v = affinet.weights({"v": (5,)}).v
    plan = affinet.plan([families.l2_ball(v, 2.0), v.sum() == 1, v[0] <= 1])
    plan.save(tmp_path / "plan.safetensors")
    again = affinet.Plan.load(tmp_path / "plan.safetensors")
    assert str(again) == str(plan)
    x = {"v": np.array([3.0, 0.0, 0.0, 0.0, 4.0])}
    projected = again.projector(x).project(x)
    assert max(again.projector(x).violation(projected).values()) <= 1e-14
    assert np.array_equal(projected["v"], plan.projector(x).project(x)["v"])


def test_a_ball_without_a_common_point_is_refused() -> None:
    with pytest.raises(InfeasibleError, match=r"affinet\.lagrange"):
        attached(np.zeros(3), lambda w: [families.l2_ball(w, 1.0), w.sum() == 10])


def test_a_frozen_part_of_a_ball_is_a_constant() -> None:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    model.v = torch.nn.Parameter(torch.tensor([0.6], dtype=torch.float64), requires_grad=False)
    w = affinet.weights(model)
    stepper = optim.Adam([model.w], lr=0.05)
    handle = affinet.project(model, stepper, [families.l2_ball(affinet.concat([w.w, w.v]), 1.0)])
    train(model, stepper, [3.0, 4.0])
    assert np.abs(model.w.detach().numpy() - [0.48, 0.64]).max() <= 1e-7
    assert max(handle.violation().values()) <= 1e-14


def test_sums_of_magnitudes_with_other_rules_are_refused() -> None:
    v = affinet.weights({"v": (5,)}).v
    with pytest.raises(
        RuleError, match=r"a weight whose sum of magnitudes or spectrum is bounded can be in no other rule"
    ):
        affinet.plan([families.l1_ball(v, 2.0), v.sum() == 1])
    with pytest.raises(RuleError, match=r"is nonlinear and .* bounds a norm"):
        affinet.plan([families.l1_ball(v, 2.0), v @ v == 1])


def test_other_metrics_are_refused() -> None:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(3))
    w = affinet.weights(model).w
    with pytest.raises(affinet.AttachError, match=r"are nonlinear\."):
        affinet.project(
            model, optim.Adam(model.parameters()), [families.l2_ball(w, 1.0), w.sum() == 1], metric="optimizer"
        )
