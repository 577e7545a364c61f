"""Law 3: every optimizer's limit is the optimum of the constrained problem, found by a dense KKT solve.

Here one model under one kind of rules, each recipe with another kind; every pair of an optimizer and a kind of rules
is in `test_every_optimizer.py`, where one run holds all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.system.system import System
from tests.oracle import oracle

SHAPES = {"a.weight": (3, 4), "b.weight": (4, 2)}
DRAW = np.random.default_rng(20)
SPREAD = DRAW.standard_normal((20, 20))
CURVATURE = SPREAD @ SPREAD.T / 20 + 0.5 * np.eye(20)
CENTRE = DRAW.standard_normal(20)

RULES: dict[str, Callable[[Any], list[affinet.Constraint]]] = {
    "tie": lambda w: [w.a.weight[0, 1] == w.a.weight[2, 3], w.a.weight[0, 0] == -w.b.weight[3, 1]],
    "scaled tie": lambda w: [w.a.weight[0, 0] == 3 * w.b.weight[1, 1] + 1, w.a.weight[1] == 2 * w.a.weight[2]],
    "sums": lambda w: [w.a.weight.sum(dim=1) == 1, w.b.weight.sum(dim=0) == [1, -1]],
    "dense": lambda w: [families.linear([w.a.weight, w.b.weight], DENSE, [1.0, 2.0, 3.0])],
    "cross-layer": lambda w: [w.a.weight[:2, :2] == w.b.weight[:2].T, w.a.weight.sum() + w.b.weight.sum() == 2],
}
DENSE = DRAW.standard_normal((3, 20))


@dataclass(frozen=True)
class Recipe:
    """How an optimizer is run to its optimum: `decay` is the coupled λ of the objective it then has."""

    make: Callable[[Iterable[Tensor]], optim.Optimizer]
    steps: int
    reach: float
    decay: float = 0.0


def _adam(p: Iterable[Tensor], **options: Any) -> optim.Optimizer:
    return optim.Adam(p, lr=0.05, foreach=True, **options)


RECIPES = {
    "SGD": Recipe(lambda p: optim.SGD(p, lr=0.2), 600, 1e-6),
    "SGD with momentum": Recipe(lambda p: optim.SGD(p, lr=0.05, momentum=0.9), 600, 1e-6),
    "SGD with decay": Recipe(lambda p: optim.SGD(p, lr=0.2, weight_decay=0.3), 600, 1e-6, 0.3),
    "Adam": Recipe(_adam, 2500, 1e-12),
    "Adam with decay": Recipe(lambda p: _adam(p, weight_decay=0.3), 2500, 1e-6, 0.3),
    "AdamW without decay": Recipe(lambda p: optim.AdamW(p, lr=0.05, weight_decay=0.0), 2500, 1e-6),
    "RMSprop": Recipe(lambda p: optim.RMSprop(p, lr=0.02), 2500, 1e-12),
    "Adagrad": Recipe(lambda p: optim.Adagrad(p, lr=0.5), 2500, 1e-12),
    "LBFGS": Recipe(
        lambda p: optim.LBFGS(
            p, lr=1.0, max_iter=30, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=0
        ),
        6,
        1e-6,
    ),
}


class Twenty(torch.nn.Module):
    """Twenty weights in two layers and the quadratic objective over them."""

    def __init__(self, *, maximize: bool = False) -> None:
        super().__init__()
        draw = np.random.default_rng(1)
        for layer, (name, shape) in zip("ab", SHAPES.items(), strict=True):
            self.add_module(layer, torch.nn.Module())
            self.get_submodule(layer).register_parameter(
                name.partition(".")[2], torch.nn.Parameter(torch.tensor(draw.standard_normal(shape)))
            )
        self._curvature, self._centre = torch.tensor(CURVATURE), torch.tensor(CENTRE)
        self._sign = -1.0 if maximize else 1.0

    def flat(self) -> Tensor:
        return torch.cat([parameter.reshape(-1) for parameter in self.parameters()])

    def forward(self) -> Tensor:
        away = self.flat() - self._centre
        return self._sign * 0.5 * away @ self._curvature @ away


@cache
def optimum(rules: str, decay: float = 0.0) -> np.ndarray:
    """The constrained minimum of `f + decay ‖w‖² / 2`, from the KKT system."""
    truth = oracle(System.of(RULES[rules](affinet.weights(SHAPES))))
    a, b, n = truth.matrix, truth.rhs, 20
    curvature = CURVATURE + decay * np.eye(n)
    system = np.block([[curvature, a.T], [a, np.zeros((len(b), len(b)))]])
    return np.linalg.lstsq(system, np.concatenate([CURVATURE @ CENTRE, b]), rcond=1e-13)[0][:n]


def train(
    model: Twenty, optimizer: optim.Optimizer, steps: int, after: Callable[[], object] = lambda: None
) -> np.ndarray:
    """Minimize with a cosine schedule; the weights it ends at."""
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model()
        loss.backward()
        return loss

    for _ in range(steps):
        if isinstance(optimizer, optim.LBFGS):
            optimizer.step(closure)
            continue
        closure()
        optimizer.step()
        after()
        schedule.step()
    return model.flat().detach().numpy()


@pytest.mark.parametrize(("recipe", "rules"), list(zip(RECIPES, cycle(RULES), strict=False)))
def test_the_limit_is_the_constrained_optimum(recipe: str, rules: str) -> None:
    how, model = RECIPES[recipe], Twenty()
    optimizer = how.make(model.parameters())
    affinet.project(model, optimizer, RULES[rules](affinet.weights(model)))
    found, wanted = train(model, optimizer, how.steps), optimum(rules, how.decay)
    assert np.abs(found - wanted).max() <= how.reach


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_limit_is_the_same_under_maximize(decay: float) -> None:
    model = Twenty(maximize=True)
    optimizer = optim.Adam(model.parameters(), lr=0.05, maximize=True, weight_decay=decay)
    affinet.project(model, optimizer, RULES["sums"](affinet.weights(model)))
    assert np.abs(train(model, optimizer, 2500) - optimum("sums", decay)).max() <= 1e-6


@pytest.mark.parametrize("kind", [optim.NAdam, optim.RAdam, optim.Adamax])
def test_other_optimizers_with_coupled_decay_reach_it_too(kind: type[optim.Optimizer]) -> None:
    model = Twenty()
    optimizer = kind(model.parameters(), lr=0.05, weight_decay=0.3)  # type: ignore[call-arg]
    affinet.project(model, optimizer, RULES["sums"](affinet.weights(model)))
    assert np.abs(train(model, optimizer, 2500) - optimum("sums", 0.3)).max() <= 1e-6


@pytest.mark.parametrize("kind", [optim.Adam, optim.RMSprop, optim.Adagrad])
def test_stepping_and_then_projecting_stops_elsewhere(kind: type[optim.Optimizer]) -> None:
    """The usual recipe, so that the test above could fail: its fixed point is `P D⁻¹ g = 0`."""
    model = Twenty()
    rules = affinet.plan(RULES["scaled tie"](affinet.weights(model)))
    projector, weights = rules.projector(model), dict(model.named_parameters())
    projector.project_(weights, passes=2)
    optimizer = kind(model.parameters(), lr=0.05)  # type: ignore[call-arg]
    found = train(model, optimizer, 2500, lambda: projector.project_(weights))
    assert max(projector.violation(weights).values()) < 1e-12
    assert np.linalg.norm(found - optimum("scaled tie")) > 1.0


def test_a_different_decay_is_a_different_optimum() -> None:
    assert np.abs(optimum("sums", 0.3) - optimum("sums")).max() > 0.05
