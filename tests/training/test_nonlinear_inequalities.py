"""Nonlinear inequalities under `affinet.project`: published optima, prices, degenerate bounds, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, sqrt
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
from affinet.blocks.mixed_set import MixedSet
from affinet.errors import InfeasibleError, RuleError, ShortenedStepsWarning
from affinet.language.evaluation import evaluate


@dataclass(frozen=True)
class Problem:
    """A problem of Hock and Schittkowski (1981): its start, loss, rules, least value, and a factor for all rates."""

    start: list[float]
    loss: Callable[[Any], Any]
    rules: Callable[[Any], list[Any]]
    optimum: float
    rate: float = 1.0


def _hs43(w: Any) -> list[Any]:
    return [
        8 - w @ w - w[0] + w[1] - w[2] + w[3] >= 0,
        10 - w @ w - w[1] ** 2 - w[3] ** 2 + w[0] + w[3] >= 0,
        2 * w[0] ** 2 + w[1] ** 2 + w[2] ** 2 + 2 * w[0] - w[1] - w[3] <= 5,
    ]


def _hs100(w: Any) -> list[Any]:
    return [
        2 * w[0] ** 2 + 3 * w[1] ** 4 + w[2] + 4 * w[3] ** 2 + 5 * w[4] <= 127,
        7 * w[0] + 3 * w[1] + 10 * w[2] ** 2 + w[3] - w[4] <= 282,
        23 * w[0] + w[1] ** 2 + 6 * w[5] ** 2 - 8 * w[6] <= 196,
        -4 * w[0] ** 2 - w[1] ** 2 + 3 * w[0] * w[1] - 2 * w[2] ** 2 - 5 * w[5] + 11 * w[6] >= 0,
    ]


def _hs113(w: Any) -> list[Any]:
    return [
        105 - 4 * w[0] - 5 * w[1] + 3 * w[6] - 9 * w[7] >= 0,
        -10 * w[0] + 8 * w[1] + 17 * w[6] - 2 * w[7] >= 0,
        8 * w[0] - 2 * w[1] - 5 * w[8] + 2 * w[9] + 12 >= 0,
        -3 * (w[0] - 2) ** 2 - 4 * (w[1] - 3) ** 2 - 2 * w[2] ** 2 + 7 * w[3] + 120 >= 0,
        -5 * w[0] ** 2 - 8 * w[1] - (w[2] - 6) ** 2 + 2 * w[3] + 40 >= 0,
        -0.5 * (w[0] - 8) ** 2 - 2 * (w[1] - 4) ** 2 - 3 * w[4] ** 2 + w[5] + 30 >= 0,
        -(w[0] ** 2) - 2 * (w[1] - 2) ** 2 + 2 * w[0] * w[1] - 14 * w[4] + 6 * w[5] >= 0,
        3 * w[0] - 6 * w[1] - 12 * (w[8] - 8) ** 2 + 7 * w[9] >= 0,
    ]


def _hs34(w: Any) -> list[Any]:
    return [w[1] - w[0].exp() >= 0, w[2] - w[1].exp() >= 0, affinet.between(0, w, [100, 100, 10])]


def _hs100_loss(w: Any) -> Any:
    squares = (w[0] - 10) ** 2 + 5 * (w[1] - 12) ** 2 + 3 * (w[3] - 11) ** 2 + 7 * w[5] ** 2
    return squares + w[2] ** 4 + 10 * w[4] ** 6 + w[6] ** 4 - 4 * w[5] * w[6] - 10 * w[5] - 8 * w[6]


def _hs113_loss(w: Any) -> Any:
    first = w[0] ** 2 + w[1] ** 2 + w[0] * w[1] - 14 * w[0] - 16 * w[1] + (w[2] - 10) ** 2 + 4 * (w[3] - 5) ** 2
    second = (w[4] - 3) ** 2 + 2 * (w[5] - 1) ** 2 + 5 * w[6] ** 2 + 7 * (w[7] - 11) ** 2
    return first + second + 2 * (w[8] - 10) ** 2 + (w[9] - 7) ** 2 + 45


PROBLEMS = {
    "HS10": Problem(
        [-10.0, 10.0], lambda w: w[0] - w[1], lambda w: [-3 * w[0] ** 2 + 2 * w[0] * w[1] - w[1] ** 2 + 1 >= 0], -1.0
    ),
    "HS11": Problem(
        [4.9, 0.1], lambda w: (w[0] - 5) ** 2 + w[1] ** 2 - 25, lambda w: [w[1] >= w[0] ** 2], -8.498464223
    ),
    "HS12": Problem(
        [0.0, 0.0],
        lambda w: 0.5 * w[0] ** 2 + w[1] ** 2 - w[0] * w[1] - 7 * w[0] - 7 * w[1],
        lambda w: [4 * w[0] ** 2 + w[1] ** 2 <= 25],
        -30.0,
    ),
    "HS14": Problem(
        [2.0, 2.0],
        lambda w: (w[0] - 2) ** 2 + (w[1] - 1) ** 2,
        lambda w: [1 - 0.25 * w[0] ** 2 - w[1] ** 2 >= 0, w[0] - 2 * w[1] == -1],
        9 - 2.875 * sqrt(7),
    ),
    "HS22": Problem(
        [2.0, 2.0],
        lambda w: (w[0] - 2) ** 2 + (w[1] - 1) ** 2,
        lambda w: [w[0] + w[1] <= 2, w[1] >= w[0] ** 2],
        1.0,
    ),
    "HS29": Problem(
        [1.0, 1.0, 1.0],
        lambda w: -w[0] * w[1] * w[2],
        lambda w: [w[0] ** 2 + 2 * w[1] ** 2 + 4 * w[2] ** 2 <= 48],
        -16 * sqrt(2),
    ),
    # From the published start (0, 0, 3) every method that keeps w1 = 0 ends at the stationary point (0, 0, 2).
    "HS33": Problem(
        [0.0, 0.1, 3.0],
        lambda w: (w[0] - 1) * (w[0] - 2) * (w[0] - 3) + w[2],
        lambda w: [w[2] ** 2 >= w[1] ** 2 + w[0] ** 2, w @ w >= 4, w >= 0, w[2] <= 5],
        sqrt(2) - 6,
    ),
    "HS34": Problem([0.0, 1.05, 2.9], lambda w: -w[0], _hs34, -0.834032445, rate=10.0),
    "HS43": Problem([0.0] * 4, lambda w: w @ w + w[2] ** 2 - 5 * w[0] - 5 * w[1] - 21 * w[2] + 7 * w[3], _hs43, -44.0),
    "HS65": Problem(
        [-5.0, 5.0, 0.0],
        lambda w: (w[0] - w[1]) ** 2 + (w[0] + w[1] - 10) ** 2 / 9 + (w[2] - 5) ** 2,
        lambda w: [w @ w <= 48, affinet.between([-4.5, -4.5, -5], w, [4.5, 4.5, 5])],
        0.9535288567,
    ),
    "HS66": Problem([0.0, 1.05, 2.9], lambda w: 0.2 * w[2] - 0.8 * w[0], _hs34, 0.5181632741, rate=10.0),
    "HS100": Problem([1.0, 2, 0, 4, 0, 1, 1], _hs100_loss, _hs100, 680.6300573),
    "HS113": Problem([2.0, 3, 5, 5, 1, 2, 7, 3, 6, 10], _hs113_loss, _hs113, 24.3062091, rate=10.0),
}
OPTIMIZERS: dict[str, Callable[[Any, float], optim.Optimizer]] = {
    "Adam": lambda p, rate: optim.Adam(p, lr=0.1 * min(rate, 2.0)),
    "SGD": lambda p, rate: optim.SGD(p, lr=0.01, momentum=0.9),
    "RMSprop": lambda p, rate: optim.RMSprop(p, lr=0.01 * rate),
}
CASES = [(problem, "Adam") for problem in PROBLEMS]
CASES += [(problem, optimizer) for problem in ("HS12", "HS43", "HS100") for optimizer in ("SGD", "RMSprop")]
CASES += [("HS34", "RMSprop"), ("HS113", "RMSprop"), ("HS14", "SGD")]


def module(start: Any, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.as_tensor(np.asarray(start), dtype=dtype))
    return model


def attached(
    start: Any, rules: Callable[[Any], Any], rate: float = 0.05
) -> tuple[torch.nn.Module, optim.Optimizer, affinet.Handle]:
    model = module(start)
    stepper = optim.Adam(model.parameters(), lr=rate)
    return model, stepper, affinet.project(model, stepper, rules(affinet.weights(model).w))


def train(model: torch.nn.Module, stepper: optim.Optimizer, loss: Callable[[Any], Tensor], steps: int = 400) -> None:
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, steps)
    for _ in range(steps):
        stepper.zero_grad()
        loss(model.w).backward()
        stepper.step()
        schedule.step()


def distance(target: Any) -> Callable[[Any], Tensor]:
    point = torch.as_tensor(target, dtype=torch.float64)
    return lambda w: (w - point).square().sum()


@pytest.mark.parametrize(("problem", "optimizer"), CASES)
def test_published_optima_are_reached(problem: str, optimizer: str) -> None:
    chosen = PROBLEMS[problem]
    model = module(chosen.start)
    stepper = OPTIMIZERS[optimizer](model.parameters(), chosen.rate)
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, 1000)
    for count in range(1000):
        stepper.zero_grad()
        chosen.loss(model.w).backward()
        stepper.step()
        schedule.step()
        if count % 50 == 0:
            assert max(handle.violation().values()) <= 1e-11  # terms of 1,000 times a few hundred roundoffs
    # The published values have ten digits.
    assert abs(float(chosen.loss(model.w.detach())) - chosen.optimum) <= 2e-8 * max(1.0, abs(chosen.optimum))
    assert handle.stationarity() <= 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_random_problems_end_where_an_independent_solver_stays(seed: int) -> None:
    """A curved equation, curved and affine inequalities, and bounds: SLSQP finds nothing lower from where we end."""
    random = np.random.default_rng(seed)
    n = 6
    matrices = random.normal(size=(3, n, n))
    forms = [m @ m.T / n + 0.3 * np.eye(n) for m in matrices[:2]]
    forms.append((matrices[2] + matrices[2].T) / 4)  # neither convex nor concave
    slope, target = random.normal(size=n), 3.0 * random.normal(size=n)

    def rules(w: Any) -> list[Any]:
        inside, curved, outside = (w @ form @ w for form in forms)
        return [inside <= 2.0, curved == 1.0, outside >= -0.5, slope @ w <= 0.2, w >= -0.8]

    model, stepper, handle = attached(0.1 * random.normal(size=n), rules, rate=0.1)
    train(model, stepper, distance(target), 800)
    assert max(handle.violation().values()) <= 1e-13
    assert handle.stationarity() <= 1e-7
    x = model.w.detach().numpy()
    constraints = []
    for rule in rules(affinet.weights({"w": (n,)}).w):
        sign = {"==": 1.0, ">=": 1.0, "<=": -1.0}[rule.sense]

        def side(z: Any, expression: Any = rule.expression, sign: float = sign) -> Any:
            return np.atleast_1d(sign * evaluate(expression, {"w": z}))

        constraints.append({"type": "eq" if rule.sense == "==" else "ineq", "fun": side})
    other = minimize(
        lambda z: ((z - target) ** 2).sum(),
        x,
        jac=lambda z: 2.0 * (z - target),
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    ours = ((x - target) ** 2).sum()
    far = [abs(c["fun"](other.x)).max() if c["type"] == "eq" else -c["fun"](other.x).min() for c in constraints]
    assert max(far) <= 1e-6  # SLSQP's own accuracy
    assert ours <= other.fun + 1e-5 * ours
    prices = handle.multipliers()
    senses = {rule.name: rule.sense for rule in handle.plan.system.every}
    for name, price in prices.items():
        assert senses[name] == "==" or float((-1.0 if senses[name] == ">=" else 1.0) * price.max()) <= 1e-12


@pytest.mark.parametrize(
    ("rule", "price"),
    [
        (lambda w: w @ w <= 4, -1.5),
        (lambda w: -3 * (w @ w) >= -12, 0.5),
        (lambda w: (w @ w).sqrt() <= 2, -6.0),
        (lambda w: (0.5 * (w @ w)).exp() <= exp(2.0), -3.0 * exp(-2.0)),
    ],
)
def test_prices_are_the_change_of_the_least_loss_per_bound(rule: Callable[[Any], Any], price: float) -> None:
    """The least distance of (3, 4) from a disc of radius r is (5 − r)², whatever form the rule has."""
    model, stepper, handle = attached([0.1, 0.2], lambda w: [rule(w).named("disc"), w[0] * w[1] >= -5])
    train(model, stepper, distance([3.0, 4.0]))
    assert np.allclose(model.w.detach().numpy(), [1.2, 1.6], atol=1e-7)
    prices = handle.multipliers()
    assert abs(float(prices["disc"]) - price) <= 1e-5
    assert float(prices["w[0] * w[1] >= -5"]) == 0.0
    assert handle.active()["disc"].count == 1
    report = str(handle.report())
    assert "steps under 'disc': 400, all of them in full" in report


def test_certificates_use_the_curvature_of_inequalities_that_push() -> None:
    """On the circle, the far point of a distance is a saddle or maximum along it; the near one a minimum."""
    model, stepper, handle = attached([0.1, 0.2], lambda w: [w @ w >= 1, w[0] * w[1] >= -5])
    train(model, stepper, distance([0.3, 0.4]))
    near = handle.certificate(lambda: distance([0.3, 0.4])(model.w))
    assert near.verdict == "local minimum"
    assert near.at_bound == 1
    # With ν = ∂f*/∂(r²) = (r − .5)/r at r = 1, the Hessian 2 − 2ν along the circle is 1.
    assert near.smallest == pytest.approx(1.0, abs=1e-5)
    with torch.no_grad():
        model.w.mul_(-1.0)
    stepper.zero_grad()
    far = handle.certificate(lambda: distance([0.3, 0.4])(model.w))
    assert far.verdict != "local minimum"


def test_a_touched_bound_without_force_changes_nothing() -> None:
    """The unconstrained optimum lies exactly on the circle: the multiplier is zero, and the weights get there."""
    model, stepper, handle = attached([0.1, 0.2], lambda w: [w @ w <= 1, w[0] * w[1] <= 5])
    train(model, stepper, distance([0.6, 0.8]), 800)
    assert np.abs(model.w.detach().numpy() - [0.6, 0.8]).max() <= 1e-6
    assert abs(float(handle.multipliers()["w @ w <= 1"])) <= 1e-5


def test_two_inequalities_that_leave_no_room_are_an_equation() -> None:
    model, stepper, handle = attached([1.0, 0.1], lambda w: [w @ w <= 1, w @ w >= 1])
    train(model, stepper, distance([3.0, 4.0]))
    assert np.abs(model.w.detach().numpy() - [0.6, 0.8]).max() <= 1e-7
    assert max(handle.violation().values()) <= 1e-14


def test_an_equation_and_an_inequality_that_follows_from_it() -> None:
    model, stepper, handle = attached([1.0, 0.1, 0.0], lambda w: [w @ w == 1, w @ w <= 1, 2 * (w @ w) <= 2, w[2] >= 0])
    train(model, stepper, distance([3.0, 4.0, -1.0]))
    assert np.abs(model.w.detach().numpy() - [0.6, 0.8, 0.0]).max() <= 1e-7
    assert max(handle.violation().values()) <= 1e-14


def test_a_bound_is_left_when_the_loss_moves() -> None:
    model, stepper, _ = attached([0.0, 0.0], lambda w: [w @ w <= 1, w[0] * w[1] <= 5])
    for _ in range(200):
        stepper.zero_grad()
        distance([3.0, 4.0])(model.w).backward()
        stepper.step()
    assert float(model.w.detach().square().sum()) == pytest.approx(1.0, abs=1e-12)
    train(model, stepper, distance([0.1, -0.2]), 600)
    assert np.abs(model.w.detach().numpy() - [0.1, -0.2]).max() <= 1e-6


def test_weights_outside_move_onto_the_bound_and_not_past_it() -> None:
    """Gauss and Newton's first step from (0.1, 0.2) to the outside of the disc is five times too long."""
    model, _, _ = attached([0.1, 0.2], lambda w: [w @ w >= 1, w[0] * w[1] <= 5])
    assert np.allclose(model.w.detach().numpy(), np.array([1.0, 2.0]) / sqrt(5.0), atol=1e-12)


@pytest.mark.parametrize(
    "rule",
    [
        lambda w: (w**2).sum(dim=1) <= 1,
        lambda w: w.norm(dim=1) <= 1,
        lambda w: -3 * (w**2).sum(dim=1) >= -3,
        lambda w: 2 - 2 * w.norm(dim=1) >= 0,
    ],
)
def test_bounded_lengths_are_balls(rule: Callable[[Any], Any]) -> None:
    model, stepper, handle = attached([[3.0, 4.0], [0.1, 0.2]], lambda w: [rule(w)])
    assert all(isinstance(block, Ball) for block in handle.plan.blocks)
    assert np.allclose(model.w.detach().numpy(), [[0.6, 0.8], [0.1, 0.2]], atol=1e-15)
    train(model, stepper, distance([[3.0, 4.0], [0.3, 0.4]]))
    assert np.abs(model.w.detach().numpy() - [[0.6, 0.8], [0.3, 0.4]]).max() <= 1e-6
    assert max(handle.violation().values()) <= 1e-14
    assert handle.report().returns == {}


@pytest.mark.parametrize(
    "rule",
    [
        lambda w: (w**2).sum(dim=1) >= 1,
        lambda w: -w.norm(dim=1) <= -1,
        lambda w: 2 - 2 * w.norm(dim=1) <= 0,
    ],
)
def test_lengths_bounded_from_below_are_not(rule: Callable[[Any], Any]) -> None:
    model, _, handle = attached([[3.0, 4.0], [0.1, 0.2]], lambda w: [rule(w)])
    assert all(isinstance(block, Curved) and isinstance(block.set, MixedSet) for block in handle.plan.blocks)
    expected = [[3.0, 4.0], [0.1 / sqrt(0.05), 0.2 / sqrt(0.05)]]
    assert np.allclose(model.w.detach().numpy(), expected, atol=1e-12)
    assert handle.plan.rank == 0
    assert handle.plan.inequalities == 2


def test_infinite_bounds_say_nothing() -> None:
    limits = np.array([1.0, np.inf])
    model, stepper, handle = attached([[1.0, 2.0], [1.0, 2.0]], lambda w: [w[:, 0] * w[:, 1] <= limits])
    assert np.allclose(model.w.detach().numpy()[1], [1.0, 2.0])
    train(model, stepper, distance([[3.0, 3.0], [3.0, 3.0]]))
    # With the sum s and the product p, the loss is s² − 6 s + 18 − 2 p in each row: s = 3 where p is bounded by 1.
    found = model.w.detach().numpy()
    assert np.abs([found[0].sum() - 3.0, found[0].prod() - 1.0, *(found[1] - 3.0)]).max() <= 1e-5
    prices = handle.multipliers()["w[:, 0] * w[:, 1] <= [1.0, inf]"]
    assert prices[1] == 0.0
    assert float(prices[0]) == pytest.approx(-2.0, abs=1e-4)


def test_plans_with_nonlinear_inequalities_are_kept_in_files(tmp_path: Path) -> None:
    w = affinet.weights({"w": (3,)}).w
    plan = affinet.plan([w @ w <= 4, (w[0] * w[1] >= -1.0).named("product"), w[2].exp() <= 3, w[0] >= -1])
    plan.save(tmp_path / "plan.safetensors")
    again = affinet.Plan.load(tmp_path / "plan.safetensors")
    assert str(again) == str(plan)
    x = {"w": np.array([2.0, -1.0, 2.0])}
    violation = again.projector(x).violation(x)
    assert violation == plan.projector(x).violation(x)
    assert violation == {
        "w @ w <= 4": 5.0,
        "product": 1.0,
        "exp(w[2]) <= 3": pytest.approx(exp(2.0) - 3.0),
        "w[0] >= -1": 0.0,
    }


def test_explanations_tell_equations_from_inequalities() -> None:
    model = module([1.2, 1.6, 0.0])
    w = affinet.weights(model).w
    plan = affinet.plan([(w @ w <= 4).named("disc"), w[0] * w[1] == 1.92, w[2] <= 5])
    told = str(affinet.explain(plan, w[0], weights=model))
    assert "in 1 equation" in told
    assert "in 1 inequality" in told
    assert '"disc" is at its bound' in told
    assert "is in 2 inequalities" not in str(plan)
    assert "keeps 1 nonlinear inequality" in str(plan)


def test_new_bounds_reach_a_running_training() -> None:
    model, stepper, handle = attached([0.1, 0.2], lambda w: [(w @ w <= 4).named("disc"), w[0] * w[1] <= 9])
    for _ in range(150):
        stepper.zero_grad()
        distance([3.0, 4.0])(model.w).backward()
        stepper.step()
    w = affinet.weights(model).w
    handle.update([(w @ w <= 1).named("disc"), w[0] * w[1] <= 9])
    assert float(model.w.detach().norm()) == pytest.approx(1.0, abs=1e-12)
    handle.update([(w @ w <= 9).named("disc"), w[0] * w[1] <= 9])
    train(model, stepper, distance([3.0, 4.0]))
    assert np.abs(model.w.detach().numpy() - [1.8, 2.4]).max() <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(dtype: torch.dtype) -> None:
    target = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 1.0, 2.0]], dtype=dtype)

    def begin() -> tuple[torch.nn.Module, optim.Optimizer, affinet.Handle]:
        model = module(np.full((2, 3), 0.2), dtype)
        w = affinet.weights(model).w
        stepper = optim.Adam(model.parameters(), lr=0.05, eps=1e-4)
        rules = [(w**2 @ np.array([1.0, 2.0, 3.0])) <= 1, w[0, 0] * w[1, 0] >= -0.1]
        return model, stepper, affinet.project(model, stepper, rules)

    def steps(model: torch.nn.Module, stepper: optim.Optimizer, handle: affinet.Handle) -> None:
        for _ in range(12):
            stepper.zero_grad()
            (model.w - target).square().sum().backward()
            stepper.step()
            # Terms of at most 3 in all, rounded once each.
            assert max(handle.violation().values()) <= 4 * torch.finfo(dtype).eps

    model, stepper, handle = begin()
    steps(model, stepper, handle)
    saved = model.w.detach().clone(), copy.deepcopy(stepper.state_dict()), copy.deepcopy(handle.state_dict())
    steps(model, stepper, handle)
    other, again, resumed = begin()
    other.load_state_dict({"w": saved[0]})
    again.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    steps(other, again, resumed)
    assert torch.equal(other.w, model.w)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(lambda w: [w[0] @ w[0] + w[1] @ w[1] + 0 * w[0, 0] * w[1, 0] <= 4], id="curved"),
        pytest.param(lambda w: [w.norm(dim=1) == 1, w[:, 0] + w[:, 1] <= 0.3], id="lengths and sums"),
        pytest.param(lambda w: [w.norm(dim=1) == 1, w >= 0.1], id="lengths and bounds"),  # 0.1 has no binary number
    ],
)
def test_weights_at_rest_are_stationary_to_their_rounding(
    rules: Callable[[Any], list[Any]], dtype: torch.dtype
) -> None:
    """Inequalities are at their bound where rounded weights are as near to it as rounding allows."""
    torch.manual_seed(0)
    model = module(torch.randn(2, 4, dtype=torch.float64).numpy(), dtype)
    target = torch.tensor([[2.0, 1.0, -1.0, 3.0], [1.0, -2.0, 2.0, 0.5]], dtype=dtype)
    stepper = optim.Adam(model.parameters(), lr=0.05)
    handle = affinet.project(model, stepper, rules(affinet.weights(model).w))
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, 500)
    for _ in range(500):
        stepper.zero_grad()
        (0.5 * (model.w - target).square().sum()).backward()
        stepper.step()
        schedule.step()
    # g = w - target, |w| <= |g|: the last step, of a rate of 5e-7, and rounding move each of 8 entries by that much.
    assert handle.stationarity() <= 8 * (5e-7 + torch.finfo(dtype).eps)
    # A step that is shorter than the rounding of its start is no step without a way back.
    assert "refused" not in str(handle.report())


def test_a_line_search_stays_on_the_rules() -> None:
    chosen = PROBLEMS["HS43"]
    model = module(chosen.start)
    stepper = optim.LBFGS(model.parameters(), max_iter=10, line_search_fn="strong_wolfe")
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))

    def closure() -> Tensor:
        stepper.zero_grad()
        value: Tensor = chosen.loss(model.w)
        value.backward()
        return value

    for _ in range(30):
        stepper.step(closure)
        assert max(handle.violation().values()) <= 1e-12
    assert float(chosen.loss(model.w.detach())) == pytest.approx(chosen.optimum, rel=1e-7)


def test_frozen_weights_are_constants_of_inequalities() -> None:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.tensor([0.1, 0.2], dtype=torch.float64))
    model.v = torch.nn.Parameter(torch.tensor([2.0, 0.5], dtype=torch.float64), requires_grad=False)
    w = affinet.weights(model)
    stepper = optim.Adam([model.w], lr=0.05)
    handle = affinet.project(model, stepper, [w.v[0] * (w.w @ w.w) <= 2, w.w[0] * w.v[1] >= -5])
    train(model, stepper, distance([3.0, 4.0]))
    assert np.abs(model.w.detach().numpy() - [0.6, 0.8]).max() <= 1e-7
    assert max(handle.violation().values()) <= 1e-14


def test_frozen_weights_that_violate_an_inequality_are_told() -> None:
    model = module([2.0, 2.0])
    model.w.requires_grad_(False)
    model.v = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    w = affinet.weights(model)
    with pytest.raises(InfeasibleError, match=r"this rule cannot hold"):
        affinet.project(model, optim.SGD([model.v], lr=0.1), [w.w @ w.w <= 1, w.v.sum() == 1])


def test_inequalities_without_a_common_point_name_the_way_out_and_change_nothing() -> None:
    model = module([2.0, 3.0])
    w = affinet.weights(model).w
    with pytest.raises(InfeasibleError, match=r"no weights that satisfy(.|\n)*affinet\.lagrange\(model"):
        affinet.project(model, optim.SGD(model.parameters(), lr=0.1), [w @ w <= 1, w[0] * w[1] >= 2])
    assert model.w.detach().tolist() == [2.0, 3.0]


def test_a_gradient_that_vanishes_at_its_bound_is_told() -> None:
    """`(w0² + w1²)² <= 0` holds at one point, where no multipliers exist: steps are given up, and counted."""
    model, stepper, handle = attached([0.0, 0.0, 1.0], lambda w: [(w[0] ** 2 + w[1] ** 2) ** 2 <= 0, w[2] * w[0] <= 1])
    with pytest.warns(ShortenedStepsWarning, match=r"affinet\.lagrange\(model"):
        train(model, stepper, distance([3.0, 4.0, 1.0]), 12)
    counts = handle.report().returns["(w[0]**2 + w[1]**2)**2 <= 0"]
    assert counts.shortened + counts.refused >= 10


def test_a_ball_of_nonlinear_expressions_is_refused() -> None:
    w = affinet.weights({"w": (3,)}).w
    with pytest.raises(RuleError, match=r"bounds the norm of an expression x that is not affine"):
        affinet.plan([families.l2_ball(w**2, 1.0)])
