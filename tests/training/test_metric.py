"""metric="optimizer": the projection in the metric of the optimizer's own steps, its limit, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet.blocks.bordered import Bordered
from affinet.blocks.commuting import Commuting
from affinet.blocks.joined import Joined
from affinet.training.metric import RESISTANCE, metric_of
from tests.contract.building import conditioning_of, oracle_of, plan_of
from tests.contract.cases import CASES, Case
from tests.limits import planned
from tests.training.problems import RULES, Copy, Problems, distances, train

RECIPES: dict[str, tuple[dict[str, Any], int, float]] = {
    "Adam": ({"lr": 0.2}, 700, 1e-9),
    "Adam, amsgrad": ({"lr": 0.4, "amsgrad": True}, 1000, 1e-9),
    "AdamW": ({"lr": 0.2, "weight_decay": 0.0}, 700, 1e-9),
    "NAdam": ({"lr": 0.2}, 700, 1e-9),
    "Adamax": ({"lr": 0.5}, 1000, 1e-9),
    "RMSprop": ({"lr": 0.1}, 700, 1e-9),
    # Its buffer adds up g/√v with the v of many steps: normal to the rules once v has settled, by e a hundred steps.
    "RMSprop, momentum": ({"lr": 0.005, "momentum": 0.9}, 2600, 1e-7),
    "Adagrad": ({"lr": 1.5}, 1500, 1e-9),
}


def make(recipe: str, parameters: Iterable[Any]) -> optim.Optimizer:
    optimizer: optim.Optimizer = getattr(optim, recipe.partition(",")[0])(parameters, **RECIPES[recipe][0])
    return optimizer


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_limit_is_the_constrained_optimum(recipe: str) -> None:
    decays = (0.0,) if recipe == "AdamW" else (0.0, 0.3)
    copies = [Copy(rules, decay) for decay in decays for rules in RULES]
    model, (_, steps, reach) = Problems(copies), RECIPES[recipe]
    optimizer = make(recipe, model.groups())
    handle = affinet.project(model, optimizer, model.rules(), metric="optimizer")
    train(model, optimizer, steps)
    assert max(handle.violation().values()) < 1e-12
    far = {name: distance for name, distance in distances(copies, model.found()).items() if not distance <= reach}
    assert not far, far


@pytest.mark.parametrize("several", [False, True])
def test_the_limit_is_that_of_groups_and_of_optimizers_with_rates_of_their_own(several: bool) -> None:
    """One optimizer with two groups to 1e-9 in 1,000 steps; two optimizers to 1e-7 in 2,000, with a short memory.

    Each of two projects after its own step, with second moments that the other has not brought up to date. Their half
    steps cancel at the optimum once the moments have settled, which takes as long as those remember: with the
    usual β₂ = 0.999 they are 2e-5 off after 2,500 steps still.
    """
    copies, steps = [Copy(rules) for rules in RULES], 2000 if several else 1000
    model = Problems(copies)
    first = [p for name, p in model.named_parameters() if name.endswith(".a")]
    second = [p for name, p in model.named_parameters() if name.endswith(".b")]
    rates = (0.1, 0.05) if several else (0.3, 0.1)
    groups = [{"params": part, "lr": rate} for part, rate in zip((first, second), rates, strict=True)]
    optimizers = [optim.Adam([group], betas=(0.9, 0.99)) for group in groups] if several else [optim.Adam(groups)]
    handle = affinet.project(model, optimizers, model.rules(), metric="optimizer")
    schedules = [
        optim.lr_scheduler.LambdaLR(one, lambda t: float(np.cos(np.pi / 2 * t / steps)) ** 2) for one in optimizers
    ]
    for _ in range(steps):
        model.zero_grad()
        model().backward()
        for one in optimizers:
            one.step()
        for schedule in schedules:
            schedule.step()
    assert max(handle.violation().values()) < 1e-12
    assert max(distances(copies, model.found()).values()) < (1e-7 if several else 1e-9)


# The projection itself


@cache
def dense_answer(case: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights, a metric over two decades, and the nearest feasible point in it by a dense pseudo-inverse."""
    truth, draw = oracle_of(case), np.random.default_rng(5)
    sizes = [p.size for p in truth.layout.parameters]
    weights, metric = draw.standard_normal(sum(sizes)), 10.0 ** draw.uniform(-1, 1, sum(sizes))
    root = np.sqrt(metric)
    gap = truth.matrix @ weights - truth.rhs
    nearest = weights - (np.linalg.pinv(truth.matrix / root, rcond=1e-11) @ gap) / root
    named = []
    for flat in (weights, metric, nearest):
        pieces = np.split(flat, np.cumsum(sizes)[:-1])
        named.append({p.name: piece.reshape(p.shape) for p, piece in zip(truth.layout.parameters, pieces, strict=True)})
    return named[0], named[1], named[2]


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.tensor(values) for name, values in arrays.items()}


@pytest.mark.parametrize("path", ["equations", "terms"])
@pytest.mark.parametrize("case", [case for case in CASES if case.rank], ids=str)
def test_every_block_projects_in_the_metric_as_a_dense_solve_does(case: Case, path: str) -> None:
    plan = plan_of(case.name, path)
    weights, metric, wanted = (tensors(part) for part in dense_answer(case.name))
    projector = plan.projector(weights)
    inside = [base for block in plan.blocks for base in (block.bases if isinstance(block, Bordered) else (block,))]
    inside = [block.base if isinstance(block, Joined) else block for block in inside]
    if any(isinstance(block, Commuting) for block in inside):
        with pytest.raises(affinet.AttachError, match="do not commute"):
            projector.project_in_metric_(weights, metric)
        return
    projector.project_in_metric_(weights, metric)
    far = max(float((weights[name] - wanted[name]).abs().max()) for name in wanted)
    assert far <= 1e-12 * max(1.0, conditioning_of(case.name))


def test_the_cases_above_hold_every_kind_of_block() -> None:
    kinds = {
        type(block).__name__
        for case in CASES
        for path in ("equations", "terms")
        for block in plan_of(case.name, path).blocks
    }
    assert kinds >= {"Slices", "Commuting", "Mirror", "Pairs", "Fixed", "Ties", "Dense", "Bordered"}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("redundant", [False, True])
def test_large_components_project_in_the_metric(redundant: bool, tied: bool) -> None:
    """By a factor where rows are independent, by conjugate gradients where they are not."""
    draw = np.random.default_rng(2)
    matrix = draw.standard_normal((12, 40)) * (draw.random((12, 40)) < 0.3)
    matrix = np.concatenate([matrix, matrix[:3].sum(0, keepdims=True)]) if redundant else matrix
    w = affinet.weights({"a": (40,)})
    ties = [w.a[0] == 2 * w.a[20] + 1, w.a[3] == w.a[30]] if tied else []
    rules = [affinet.families.linear([w.a], matrix, matrix @ np.linspace(-1, 1, 40)), *ties]
    plan = planned(rules, dense_rows=4)
    assert "Sparse" in {type(block).__name__ for block in plan.blocks}
    rows = [*matrix, *([np.eye(40)[0] - 2 * np.eye(40)[20], np.eye(40)[3] - np.eye(40)[30]] if tied else [])]
    a, b = np.array(rows), np.concatenate([matrix @ np.linspace(-1, 1, 40), [1.0, 0.0] if tied else []])
    start, metric = draw.standard_normal(40), 10.0 ** draw.uniform(-1, 1, 40)
    root = np.sqrt(metric)
    wanted = start - (np.linalg.pinv(a / root, rcond=1e-11) @ (a @ start - b)) / root
    weights = {"a": torch.tensor(start)}
    plan.projector(weights).project_in_metric_(weights, {"a": torch.tensor(metric)})
    assert np.abs(weights["a"].numpy() - wanted).max() < 1e-9


def test_an_even_metric_is_the_euclidean_projection() -> None:
    w = affinet.weights({"a": (4, 5)})
    start = {"a": torch.randn(4, 5, dtype=torch.float64)}
    projector = affinet.plan([w.a.sum(dim=1) == 1, w.a[0, 0] == w.a[1, 1]]).projector(start)
    wanted = projector.project(start)["a"]
    projector.project_in_metric_(start, {"a": torch.full((4, 5), 7.0, dtype=torch.float64)})
    assert torch.allclose(start["a"], wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_metric_is_what_the_last_step_divided_by(recipe: str) -> None:
    """`D_i / lr_i` times a step is the gradient: read from a first step, where both moments are of one g."""
    parameter = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    parameter.grad = torch.tensor([1.0, -2.0, 0.3, 5.0], dtype=torch.float64)
    optimizer = make(recipe, [parameter])
    gradient = parameter.grad.clone()
    optimizer.step()
    found = metric_of([optimizer], {"p": parameter})["p"] * -parameter.detach()
    ratio = (found / gradient).detach()
    assert torch.allclose(ratio, ratio[:1].expand(4), rtol=1e-6, atol=0)


# What is refused


def refused(optimizer: optim.Optimizer, model: torch.nn.Module, rules: Any, metric: Any, match: str) -> None:
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(affinet.AttachError, match=match):
        affinet.project(model, optimizer, rules, metric=metric)
    assert not optimizer._optimizer_step_pre_hooks
    assert all(torch.equal(p, kept) for p, kept in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("metric", ["optimiser", "Euclidean", ""])
def test_unknown_metrics_are_refused(metric: str) -> None:
    model = Problems([Copy("tie")])
    match = f"metric is '{metric}'; it is 'euclidean' or 'optimizer'"
    refused(optim.Adam(model.parameters()), model, model.rules(), metric, match)


OTHERS = [
    getattr(optim, name) for name in ("SGD", "Adadelta", "RAdam", "LBFGS", "Rprop", "Muon") if hasattr(optim, name)
]


@pytest.mark.parametrize("kind", OTHERS)
def test_optimizers_without_a_diagonal_metric_are_refused_by_name(kind: type[optim.Optimizer]) -> None:
    model = Problems([Copy("tie")])
    known = ", ".join(one.__name__ for one in RESISTANCE)
    match = rf"{kind.__name__} has no diagonal metric.*{known}"
    refused(kind(model.parameters()), model, model.rules(), "optimizer", match)  # type: ignore[call-arg]


def test_a_centered_rmsprop_is_refused() -> None:
    model = Problems([Copy("tie")])
    centered = optim.RMSprop(model.parameters(), centered=True)
    refused(centered, model, model.rules(), "optimizer", r"centered RMSprop.*centered=False")


def test_rules_along_several_axes_are_refused_by_the_name_of_the_parameter() -> None:
    model = torch.nn.Linear(6, 5, bias=False, dtype=torch.float64)
    w = affinet.weights(model)
    rules = [w.weight.sum(dim=1) == 0, w.weight.sum(dim=0) == 0]
    refused(optim.Adam(model.parameters()), model, rules, "optimizer", r"several axes of weight.*does not commute")


# What it is good for


class Scaled(torch.nn.Module):
    """A quadratic whose curvature runs over many decades along the axes, as with features of unequal scales."""

    def __init__(self, decades: float) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
        self.curvature = torch.logspace(-decades / 2, decades / 2, 20, dtype=torch.float64)
        self.centre = torch.tensor(np.random.default_rng(4).standard_normal(20))

    def forward(self) -> Tensor:
        return 0.5 * (self.curvature * (self.w - self.centre).square()).sum()


def steps_to(residual: float, metric: Any, decades: float, most: int = 4000, rate: float = 0.05) -> int:
    """Steps of Adam until `‖P g‖ / ‖g‖` stays below the residual for ten of them; `most` where it does not."""
    model = Scaled(decades)
    optimizer = optim.Adam(model.parameters(), lr=rate)
    handle = affinet.project(model, optimizer, affinet.weights(model).w.sum() == 20, metric=metric)
    below = 0
    for step in range(most):
        optimizer.zero_grad()
        model().backward()
        optimizer.step()
        below = below + 1 if handle.stationarity() < residual else 0
        if below == 10:
            return step + 1
    return most


@pytest.mark.parametrize("decades", [4.0, 6.0])
def test_on_badly_scaled_problems_the_metric_needs_fewer_steps(decades: float) -> None:
    """One rule over entries whose curvatures lie 4 or 6 decades apart: the euclidean projection mixes their gradients.

    At 4 decades and lr 0.1, 2,000 steps do not reach the residual of 1e-4 that the metric reaches in some 300.
    """
    metric = steps_to(1e-4, "optimizer", decades, most=1000, rate=0.1)
    assert metric < 600
    assert steps_to(1e-4, "euclidean", decades, most=2 * metric, rate=0.1) == 2 * metric


def test_on_evenly_scaled_problems_the_two_need_about_as_many() -> None:
    metric, euclidean = (steps_to(1e-4, kind, 0.0, most=1000, rate=0.1) for kind in ("optimizer", "euclidean"))
    assert 0.5 * euclidean < metric < 2 * euclidean
