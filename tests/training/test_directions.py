"""Weights that are maximized next to weights that are minimized, and optimizers whose groups do not tell which.

Truth: the equilibrium at which neither side gains by a move that the rules allow, by trying every set of active rows.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.training.directions import maximizes
from tests.training.inequality_problems import PROBLEMS, cosine

DRAW = np.random.default_rng(2)
COUNT = 3
PAYOFF, SLOPE = DRAW.standard_normal((COUNT, COUNT)), DRAW.standard_normal(2 * COUNT)
EXACT = 1e-10
"""A thousand steps at a rate of 0.05 shrink a distance of one by `|0.95 + 0.05 i |P|| = 0.965` each; |P| is 3.4."""


class Game(torch.nn.Module):
    """`½ |x|² + xᵀ P y − ½ |y|² + c·(x, y)`, which x makes small and y makes large."""

    def __init__(self) -> None:
        super().__init__()
        self.x = torch.nn.Parameter(torch.zeros(COUNT, dtype=torch.float64))
        self.y = torch.nn.Parameter(torch.zeros(COUNT, dtype=torch.float64))

    def flat(self) -> Tensor:
        return torch.cat([self.x, self.y])

    def forward(self) -> Tensor:
        payoff, slope = torch.from_numpy(PAYOFF), torch.from_numpy(SLOPE)
        return 0.5 * self.x @ self.x + self.x @ payoff @ self.y - 0.5 * self.y @ self.y + slope @ self.flat()


SIGNS = np.repeat([1.0, -1.0], COUNT)
FIELD = np.block([[np.eye(COUNT), PAYOFF], [-PAYOFF.T, np.eye(COUNT)]])
"""What each side descends is `FIELD w + SIGNS c`."""


def equilibrium(equations: np.ndarray, totals: np.ndarray, sides: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The point of `{A w = b, G w ≤ h}` with `−F(w)` in its normal cone: one set of active rows fulfils all signs."""
    rows = range(len(sides))
    for active in chain.from_iterable(combinations(rows, size) for size in range(len(sides) + 1)):
        a = np.concatenate([equations, sides[list(active)]])
        if np.linalg.matrix_rank(a) < len(a):
            continue
        kkt = np.block([[FIELD, a.T], [a, np.zeros((len(a), len(a)))]])
        rhs = np.concatenate([-SIGNS * SLOPE, totals, limits[list(active)]])
        point, forces = np.split(np.linalg.solve(kkt, rhs), [2 * COUNT])
        if (sides @ point <= limits + 1e-12).all() and (forces[len(equations) :] >= 0.0).all():
            return point
    raise AssertionError("no set of active rows fulfils all signs")


NONE, NO_TOTALS = np.zeros((0, 2 * COUNT)), np.zeros(0)
ONES = np.ones((1, 2 * COUNT))
RULES: dict[str, tuple[Callable[[Any], list[Any]], tuple[np.ndarray, ...]]] = {
    "a simplex for each side": (
        lambda w: [families.simplex(w.x, dim=0), families.simplex(w.y, dim=0)],
        (np.kron(np.eye(2), np.ones(COUNT)), np.ones(2), -np.eye(2 * COUNT), np.zeros(2 * COUNT)),
    ),
    "bounds": (
        lambda w: [affinet.between(-0.2, w.x, 0.2), affinet.between(-0.2, w.y, 0.2)],
        (NONE, NO_TOTALS, np.concatenate([np.eye(2 * COUNT), -np.eye(2 * COUNT)]), np.full(4 * COUNT, 0.2)),
    ),
    "a budget of both": (
        lambda w: [w.x.sum() + w.y.sum() <= 0.5, w.x >= 0, w.y >= 0],
        (NONE, NO_TOTALS, np.concatenate([ONES, -np.eye(2 * COUNT)]), np.concatenate([[0.5], np.zeros(2 * COUNT)])),
    ),
    "sums of each side": (
        lambda w: [w.x.sum() == 1, w.y.sum() == 1],
        (np.kron(np.eye(2), np.ones(COUNT)), np.ones(2), NONE, NO_TOTALS),
    ),
    "a sum of both": (lambda w: [w.x.sum() + w.y.sum() == 1], (ONES, np.ones(1), NONE, NO_TOTALS)),
    "ties of both": (
        lambda w: [w.x == w.y],
        (np.concatenate([np.eye(COUNT), -np.eye(COUNT)], 1), np.zeros(COUNT), NONE, NO_TOTALS),
    ),
}


def players(game: Game, one: bool, decay: float = 0.0) -> list[optim.Optimizer]:
    groups = [{"params": [game.x]}, {"params": [game.y], "maximize": True}]
    if one:
        return [optim.SGD(groups, lr=0.05, weight_decay=decay)]
    return [optim.SGD([group], lr=0.05, weight_decay=decay) for group in groups]


def play(game: Game, optimizers: list[optim.Optimizer], steps: int = 1_000) -> None:
    for _ in range(steps):
        game.zero_grad()
        game().backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("one", [True, False], ids=["one optimizer", "two optimizers"])
@pytest.mark.parametrize("rules", RULES)
def test_each_side_is_moved_in_its_own_direction(rules: str, one: bool) -> None:
    write, rows = RULES[rules]
    game, truth = Game(), equilibrium(*rows)
    optimizers = players(game, one)
    handle = affinet.project(game, optimizers, write(affinet.weights(game)))
    play(game, optimizers)
    assert float(np.abs(game.flat().detach().numpy() - truth).max()) <= EXACT
    assert handle.stationarity() <= EXACT


@pytest.mark.parametrize("early", [False, True], ids=["in the step", "before it"])
def test_coupled_decay_draws_each_side_to_zero(early: bool) -> None:
    """The optimizer negates the gradient of what it maximizes and adds λ w to it afterwards."""
    global FIELD
    write, rows = RULES["a sum of both"]
    plain, game = FIELD, Game()
    FIELD = FIELD + 0.5 * np.eye(2 * COUNT)
    try:
        truth = equilibrium(*rows)
    finally:
        FIELD = plain
    (optimizer,) = players(game, one=True, decay=0.5)
    handle = affinet.project(game, optimizer, write(affinet.weights(game)))
    for _ in range(1_000):
        game.zero_grad()
        game().backward()
        if early:
            handle.project_gradients()
        optimizer.step()
    assert float(np.abs(game.flat().detach().numpy() - truth).max()) <= EXACT


def value(total: tuple[float, float]) -> float:
    """What the game is worth if the shares of x and of y sum to these totals."""
    _, (equations, _, sides, limits) = RULES["a simplex for each side"]
    w = torch.from_numpy(equilibrium(equations, np.array(total), sides, limits))
    game = Game()
    with torch.no_grad():
        game.x.copy_(w[:COUNT])
        game.y.copy_(w[COUNT:])
        return float(game())


def test_prices_are_those_of_the_side_that_a_rule_is_about() -> None:
    game = Game()
    (optimizer,) = players(game, one=True)
    w = affinet.weights(game)
    handle = affinet.project(
        game,
        optimizer,
        [(w.x >= 0).named("x"), (w.y >= 0).named("y"), (w.x.sum() == 1).named("X"), (w.y.sum() == 1).named("Y")],
    )
    with handle.watch(multipliers=True) as watch:
        play(game, [optimizer])
    prices = handle.multipliers()
    assert bool((prices["x"] >= 0.0).all())  # a bound from below costs what is minimized
    assert bool((prices["y"] <= 0.0).all())
    assert bool((prices["x"] > 0.1).any())
    assert bool((prices["y"] < -0.1).any())
    for k, name in enumerate(("X", "Y")):
        more, less = ([1.0 + d * (j == k) for j in range(2)] for d in (1e-4, -1e-4))
        # A central difference of a quadratic is exact, but for the rounding of the values.
        assert abs(float(prices[name]) - (value((more[0], more[1])) - value((less[0], less[1]))) / 2e-4) <= 1e-8
        assert torch.allclose(watch.history[-1].multipliers[name], prices[name], rtol=0, atol=1e-9)
    changes = {rule.name: rule.change for rule in handle.report().rules}
    assert changes["x"] < 0.0 < changes["y"]  # each side gains


# Optimizers whose groups do not tell


class Attribute(optim.Optimizer):
    """SGD whose option `maximize` is an attribute, as in the package pytorch_optimizer."""

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, maximize: bool = False) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.maximize = maximize

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    d = -p.grad if self.maximize else p.grad
                    p.sub_(d + group["weight_decay"] * p, alpha=group["lr"])


class Ascent(optim.Optimizer):
    """Moves weights up the gradient, whatever is asked."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for p in self.param_groups[0]["params"]:
            p.add_(p.grad, alpha=self.param_groups[0]["lr"])


class Still(Attribute):
    def step(self, closure: Any = None) -> Any: ...


UNTOLD: dict[str, Callable[[Any], optim.Optimizer]] = {
    "attribute": lambda p: Attribute(p, lr=0.05, maximize=True),
    "ascent": lambda p: Ascent(p, lr=0.05),
}


@pytest.mark.parametrize("kind", UNTOLD)
def test_an_optimizer_that_climbs_without_telling_reaches_the_optimum(kind: str) -> None:
    known = PROBLEMS["rows="]
    model = known.model(torch.float64)
    first, optimizer = float(model().detach()), UNTOLD[kind](model.parameters())
    handle = affinet.project(model, optimizer, known.plan(model))
    scheduler = cosine(optimizer, 1_500)
    for _ in range(1_500):
        optimizer.zero_grad()
        (-model()).backward()
        optimizer.step()
        scheduler.step()
    assert (float(model().detach()) - known.best) / (first - known.best) <= 1e-9
    assert bool((handle.multipliers()["lower"] <= 0.0).all())  # a bound from below costs what is maximized
    assert float(handle.multipliers()["lower"].min()) < -0.1


@pytest.mark.parametrize("maximize", [False, True])
def test_coupled_decay_is_found_whichever_way_the_optimizer_moves(maximize: bool) -> None:
    """The minimum of `½ |w − t|² + ¼ |w|²` where w sums to one."""
    target = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = Attribute(model.parameters(), lr=0.1, weight_decay=0.5, maximize=maximize)
    w = affinet.weights(model).w
    affinet.project(model, optimizer, [w.sum() == 1])
    for _ in range(300):
        optimizer.zero_grad()
        loss = 0.5 * (model.w - target).square().sum()
        (-loss if maximize else loss).backward()
        optimizer.step()
    best = target / 1.5
    best = best + (1.0 - best.sum()) / 3.0
    assert float((model.w.detach() - best).abs().max()) <= 1e-14


def test_where_a_copy_does_not_move_the_attribute_decides() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    for maximize in (False, True):
        optimizer = Still([parameter], lr=0.1, maximize=maximize)
        assert maximizes(optimizer, optimizer.param_groups[0], parameter) is maximize
