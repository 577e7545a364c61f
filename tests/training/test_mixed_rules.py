"""Training on nonlinear equations with affine inequalities on the same weights: published optima, and the traps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet.blocks.curved import Curved
from affinet.blocks.mixed_set import MixedSet
from affinet.errors import InfeasibleError, RuleError
from tests.limits import planned


@dataclass(frozen=True)
class Problem:
    """A problem of Hock and Schittkowski (1981): start, loss, rules about one weight, and the published optimum."""

    start: list[float]
    loss: Callable[[Any], Tensor]
    rules: Callable[[Any], list[Any]]
    optimum: float
    rate: float = 1.0


def _hs80(w: Any) -> list[Any]:
    bounds = np.array([2.3, 2.3, 3.2, 3.2, 3.2])
    equations = [w @ w == 10, w[1] * w[2] - 5 * w[3] * w[4] == 0, w[0] ** 3 + w[1] ** 3 == -1]
    return [*equations, affinet.between(-bounds, w, bounds)]


def _hs74(w: Any) -> list[Any]:
    a, x, y, s, t = 0.55, w[0], w[1], w[2], w[3]
    return [
        1000 * (-s - 0.25).sin() + 1000 * (-t - 0.25).sin() + 894.8 - x == 0,
        1000 * (s - 0.25).sin() + 1000 * (s - t - 0.25).sin() + 894.8 - y == 0,
        1000 * (t - 0.25).sin() + 1000 * (t - s - 0.25).sin() + 1294.8 == 0,
        affinet.between(-a, s - t, a),
        affinet.between(0, w[:2], 1200),
        affinet.between(-a, w[2:], a),
    ]


PROBLEMS = {
    "HS63": Problem(
        [2.0, 2.0, 2.0],
        lambda w: 1000 - w[0] ** 2 - 2 * w[1] ** 2 - w[2] ** 2 - w[0] * w[1] - w[0] * w[2],
        lambda w: [8 * w[0] + 14 * w[1] + 7 * w[2] == 56, w @ w == 25, w >= 0],
        961.7151721,
    ),
    "HS74": Problem(
        [0.0, 0.0, 0.0, 0.0],
        lambda w: 3 * w[0] + 1e-6 * w[0] ** 3 + 2 * w[1] + 2e-6 / 3 * w[1] ** 3,
        _hs74,
        5126.4981,
        rate=30.0,
    ),
    "HS80": Problem([-2.0, 2.0, 2.0, -1.0, -1.0], lambda w: torch.exp(torch.prod(w)), _hs80, 0.0539498478),
    "HS81": Problem(
        [-2.0, 2.0, 2.0, -1.0, -1.0],
        lambda w: torch.exp(torch.prod(w)) - 0.5 * (w[0] ** 3 + w[1] ** 3 + 1) ** 2,
        _hs80,
        0.0539498478,
    ),
    # HS71 with its inequality as an equation with a slack weight, x0 x1 x2 x3 - slack = 25.
    "HS71": Problem(
        [1.0, 5.0, 5.0, 1.0, 0.0],
        lambda w: w[0] * w[3] * (w[0] + w[1] + w[2]) + w[2],
        lambda w: [
            w[0] * w[1] * w[2] * w[3] - w[4] == 25,
            w[:4] @ w[:4] == 40,
            affinet.between(1, w[:4], 5),
            w[4] >= 0,
        ],
        17.0140173,
    ),
    # HS43, three slack weights.
    "HS43": Problem(
        [0.0] * 7,
        lambda w: (w[:4] ** 2).sum() + w[2] ** 2 - 5 * w[0] - 5 * w[1] - 21 * w[2] + 7 * w[3],
        lambda w: [
            w[:4] @ w[:4] + w[0] - w[1] + w[2] - w[3] + w[4] == 8,
            w[:4] @ w[:4] + w[1] ** 2 + w[3] ** 2 - w[0] - w[3] + w[5] == 10,
            w[:3] @ w[:3] + w[0] ** 2 + 2 * w[0] - w[1] - w[3] + w[6] == 5,
            w[4:] >= 0,
        ],
        -44.0,
    ),
}
OPTIMIZERS: dict[str, Callable[[Any, float], optim.Optimizer]] = {
    "Adam": lambda p, rate: optim.Adam(p, lr=0.1 * rate),
    "SGD": lambda p, rate: optim.SGD(p, lr=0.01 * rate, momentum=0.9),
}


def module(start: Any, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.as_tensor(np.asarray(start), dtype=dtype))
    return model


def step(optimizer: optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def mixed(plan: Any) -> list[MixedSet]:
    return [block.set for block in plan.blocks if isinstance(block, Curved) and isinstance(block.set, MixedSet)]


@pytest.mark.parametrize(
    ("problem", "optimizer"),
    # HS74 has weights of 1,000 and of 0.1: SGD takes another number of steps.
    [
        (problem, optimizer)
        for problem in PROBLEMS
        for optimizer in OPTIMIZERS
        if (problem, optimizer) != ("HS74", "SGD")
    ],
)
def test_published_optima_are_reached(problem: str, optimizer: str) -> None:
    chosen = PROBLEMS[problem]
    model = module(chosen.start)
    stepper = OPTIMIZERS[optimizer](model.parameters(), chosen.rate)
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
    assert mixed(handle.plan)
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, 1000)
    for count in range(1000):
        step(stepper, lambda: chosen.loss(model.w))
        schedule.step()
        if count % 50 == 0:
            assert max(handle.violation().values()) <= 1e-11  # terms of 1,000 times a few hundred roundoffs
    found = float(chosen.loss(model.w.detach()))
    assert abs(found - chosen.optimum) <= 1e-7 * max(1.0, abs(chosen.optimum))


def test_nonnegative_unit_rows_reach_their_nearest_points() -> None:
    """The row of length one and w ≥ 0 nearest to a row with a positive entry is its positive part, scaled."""
    random = np.random.default_rng(0)
    target = random.normal(size=(12, 6))
    target[:, 0] = np.abs(target[:, 0]) + 0.1
    model = module(np.full((12, 6), 0.3))
    w = affinet.weights(model).w
    stepper = optim.Adam(model.parameters(), lr=0.05)
    handle = affinet.project(model, stepper, [(w**2).sum(dim=1) == 1, w >= 0])
    (cells,) = mixed(handle.plan)
    assert cells.shape == (12, 6)
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, 400)
    for _ in range(400):
        step(stepper, lambda: (model.w - torch.from_numpy(target)).square().sum())
        schedule.step()
        assert float(model.w.detach().min()) >= 0.0
    positive = np.maximum(target, 0.0)
    expected = positive / np.linalg.norm(positive, axis=1, keepdims=True)
    assert np.abs(model.w.detach().numpy() - expected).max() <= 1e-7
    # Bounds that hold entries have the price of the gradient there, the others none.
    prices = handle.multipliers()["w >= 0"].numpy()
    assert np.abs(prices - np.where(target < 0.0, -2.0 * target, 0.0)).max() <= 1e-5


def test_inequalities_elsewhere_keep_their_own_sets() -> None:
    """Of `w >= 0`, the rows that the equation reads join it; the others are clamped as ever."""
    model = module(np.full((50, 4), 0.5))
    w = affinet.weights(model).w
    plan = affinet.plan([w[0] @ w[0] == 1, w >= 0])
    assert sorted(block.size for block in plan.blocks) == [4, 196]
    (cells,) = mixed(plan)
    assert cells.shape == (1, 4)


def test_sides_of_inequalities_and_sums_hold() -> None:
    """`>=` and `<=` on sums, a linear equation, and bounds, all on the weights of a product of two layers."""
    random = np.random.default_rng(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(3, 2, bias=False)).double()
    w = affinet.weights(model)
    rules = [
        (w[1].weight @ w[0].weight).trace() == 0.5,
        w[0].weight.sum() >= 1.0,
        w[1].weight.sum(dim=0) <= 0.3,
        w[1].weight[0].sum() == 0.1,
        affinet.between(-0.8, w[0].weight, 0.8),
    ]
    stepper = optim.Adam(model.parameters(), lr=0.02)
    handle = affinet.project(model, stepper, rules)
    x, y = (torch.from_numpy(random.normal(size=(32, n))) for n in (4, 2))
    for count in range(300):
        stepper.param_groups[0]["lr"] = 0.02 * (1.0 - count / 300)
        step(stepper, lambda: (model(x) - y).square().mean())
        assert max(handle.violation().values()) <= 1e-14
    assert handle.stationarity() <= 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(dtype: torch.dtype) -> None:
    target = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 1.0, 2.0]], dtype=dtype)

    def begin() -> tuple[torch.nn.Module, optim.Optimizer, affinet.Handle]:
        model = module(np.full((2, 3), 0.5), dtype)
        w = affinet.weights(model).w
        stepper = optim.Adam(model.parameters(), lr=0.05, eps=1e-4)
        return model, stepper, affinet.project(model, stepper, [w.norm(dim=1) == 1, w >= 0.0, w[0, 0] + w[1, 0] <= 0.7])

    def steps(model: torch.nn.Module, stepper: optim.Optimizer) -> None:
        for _ in range(8):
            step(stepper, lambda: (model.w - target).square().sum())

    model, stepper, handle = begin()
    steps(model, stepper)
    spacing = torch.finfo(dtype).eps
    assert max(handle.violation().values()) <= 4 * spacing
    saved = model.w.detach().clone(), copy.deepcopy(stepper.state_dict()), copy.deepcopy(handle.state_dict())
    steps(model, stepper)
    other, again, resumed = begin()
    other.load_state_dict({"w": saved[0]})
    again.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    steps(other, again)
    assert torch.equal(other.w, model.w)


def test_rules_without_a_common_point_are_refused_and_change_nothing() -> None:
    model = module([2.0, 3.0])
    w = affinet.weights(model).w
    with pytest.raises(InfeasibleError, match="no weights that satisfy"):
        affinet.project(model, optim.SGD(model.parameters(), lr=0.1), [w @ w == 1, w >= 1.0])
    assert model.w.detach().tolist() == [2.0, 3.0]


def test_groups_that_are_too_large_name_the_way_out() -> None:
    w = affinet.weights({"w": (30, 30)}).w
    with pytest.raises(RuleError, match=r"only smaller groups are kept at every step. affinet.lagrange"):
        planned([w @ w == np.eye(30), w >= 0.0], most_mixed=1000)


def test_a_step_of_nothing_changes_no_bit() -> None:
    model = module([0.6, 0.8, 0.0])
    w = affinet.weights(model).w
    stepper = optim.SGD(model.parameters(), lr=0.1)
    affinet.project(model, stepper, [w @ w == 1, w >= 0.0])
    before = model.w.detach().clone()
    model.w.grad = torch.zeros_like(model.w)
    stepper.step()
    assert torch.equal(model.w.detach(), before)


def test_a_line_search_stays_on_the_rules() -> None:
    chosen = PROBLEMS["HS63"]
    model = module(chosen.start)
    stepper = optim.LBFGS(model.parameters(), max_iter=10, line_search_fn="strong_wolfe")
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))

    def closure() -> Tensor:
        stepper.zero_grad()
        value = chosen.loss(model.w)
        value.backward()
        return value

    for _ in range(20):
        stepper.step(closure)
        assert max(handle.violation().values()) <= 1e-12
    assert float(chosen.loss(model.w.detach())) == pytest.approx(chosen.optimum, rel=1e-7)
