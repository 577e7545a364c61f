"""Trainings with inequalities end at the optimum, with every optimizer, and are feasible after every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet.blocks.cone import Cone
from affinet.blocks.entry_sets import View
from affinet.blocks.places import Following, box
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.training.inequality_problems import OPTIMIZERS, PROBLEMS, Quadratic, cone_plan, cosine, train

UNIT = 2.0**-53
GAP = 1e-9
"""The loss above the best, relative to its fall: what the issue asks of every optimizer that shrinks its steps."""
LONG_STEPS = {"RMSprop": 5e-7, "Adagrad": 5e-7, "Muon": 5e-7}
"""Steps of these are as long as the learning rate however small the gradient is, so that the last ones decide; the
bound is the worst that the design found."""
SLOW = {"SGD": 1e-8}
"""300 steps of momentum are not enough for a condition number of 400: 3e-9 with the final bounds as equations, too."""


def first_loss(problem: str) -> float:
    return float(PROBLEMS[problem].model(torch.float64)().detach())


def steps_of(optimizer: str) -> int:
    return 40 if optimizer == "LBFGS" else 300


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_optimizer_ends_at_the_optimum_and_is_feasible_after_every_step(problem: str, optimizer: str) -> None:
    known = PROBLEMS[problem]
    model, _, _, path = train(known, OPTIMIZERS[optimizer], steps_of(optimizer))
    gap = (float(model().detach()) - known.best) / (first_loss(problem) - known.best)
    assert gap <= {**LONG_STEPS, **SLOW}.get(optimizer, GAP)
    for w in path:
        assert w.min() >= 0.0
        if problem != "nnls":
            sums = w.sum(1) - 1.0
            # A sum of n numbers is rounded n times, and the weights were rounded once.
            assert (abs(sums) if problem != "rows<=" else sums).max() <= w.shape[1] * UNIT * 2.0


@pytest.mark.parametrize("optimizer", ["Adam", "NAdam", "Adafactor", "RMSprop"])
def test_at_the_optimum_y_is_the_negative_gradient_and_signs_are_right(optimizer: str) -> None:
    model, _, handle, _ = train(PROBLEMS["rows="], OPTIMIZERS[optimizer], 300)
    model.zero_grad()
    model().backward()
    (state,) = handle.state_dict()["inequalities"]
    g, w, y = model.weight.grad, model.weight.detach(), state["y"]
    assert float((y + g).abs().amax()) <= 1e-7 * float(g.norm())
    # y = ν − μ with μ ≥ 0, and 0 where w > 0: the largest entry of a row is ν, at every weight that is not zero.
    prices = y.amax(1, keepdim=True) - y
    assert bool((prices >= 0.0).all())
    assert float(prices[w > 0.0].abs().amax()) <= 1e-7 * float(g.norm())
    # A loss that is 1e-13 above the best, of curvature one, has a gradient of 1e-6.5.
    assert handle.stationarity() <= 1e-6


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "NAdam", "Adamax", "RMSprop", "Adagrad"])
def test_the_metric_of_the_optimizer_has_the_same_optimum(optimizer: str) -> None:
    known = PROBLEMS["rows="]
    # Adagrad adds up the squares of gradients that are not projected, and slows down by them.
    make = (lambda p: optim.Adagrad(p, lr=1.0)) if optimizer == "Adagrad" else OPTIMIZERS[optimizer]
    model, _, _, path = train(known, make, 300, metric="optimizer")
    gap = (float(model().detach()) - known.best) / (first_loss("rows=") - known.best)
    assert gap <= GAP
    assert all(w.min() >= 0.0 and abs(w.sum(1) - 1.0).max() <= 2.0 * w.shape[1] * UNIT for w in path)


BOXED = ("SGD", "Adam", "AdamW", "NAdam", "Adamax", "RMSprop", "Adagrad")


@pytest.mark.parametrize("optimizer", BOXED)
def test_a_box_under_an_entrywise_optimizer_is_a_clamp_after_the_step(optimizer: str) -> None:
    """To the bit, with gradients as they are, and with coupled decay and two groups."""
    weights, gradients = [], []
    for ruled in (True, False):
        model = PROBLEMS["nnls"].model(torch.float32)
        extra = torch.nn.Parameter(torch.ones(3))
        made = OPTIMIZERS[optimizer]([{"params": [model.weight], "weight_decay": 0.1}, {"params": [extra]}])
        if ruled:
            affinet.project(model, made, cone_plan(model, upper=0.25))
        for _ in range(40):
            made.zero_grad()
            model().backward()
            made.step()
            if not ruled:
                model.weight.data.clamp_(0.0, 0.25)
        weights.append(model.weight.detach().clone())
        gradients.append(model.weight.grad.clone())
    assert torch.equal(*weights)
    assert torch.equal(*gradients)
    assert bool((weights[0] == 0.0).any())
    assert bool((weights[0] == 0.25).any())


class Mixed(optim.Adam):
    """A class of its own may do anything, so that its steps count as not entrywise."""


def test_a_box_under_an_unknown_optimizer_takes_the_normal_map() -> None:
    known = PROBLEMS["nnls"]
    model, _, handle, _ = train(known, lambda p: Mixed(p, lr=0.1), 300)
    assert handle.state_dict()["inequalities"][0] is not None
    assert float(model.weight.grad[model.weight == 0.0].abs().amax()) == 0.0
    assert (float(model().detach()) - known.best) / (first_loss("nnls") - known.best) <= GAP


class Halves(torch.nn.Module):
    """The weights of a quadratic in two parameters: the rows of one matrix, cut in the middle."""

    def __init__(self) -> None:
        super().__init__()
        whole = PROBLEMS["rows="].model(torch.float64)
        self.inputs, self.outputs = whole.inputs, whole.outputs
        self.left, self.right = (torch.nn.Parameter(half.clone()) for half in whole.weight.detach().split(4, 1))

    @property
    def weight(self) -> Tensor:
        return torch.cat([self.left, self.right], 1)

    def forward(self) -> Tensor:
        return 0.5 * (self.inputs @ self.weight.mT - self.outputs).square().sum() / len(self.inputs)

    def plan(self) -> Plan:
        """Rows over both parameters that are not negative and sum to one: entries of a row, cell after cell."""
        w = affinet.weights(self)
        rules = [w.left >= 0, w.right >= 0, (w.left.sum(dim=1) + w.right.sum(dim=1) == 1).named("sums")]
        system = System.of(rules)
        left, right = system.layout.parameters
        pieces = [box(View(p, 4 * row, ((4, 1),))) for row in range(6) for p in (left, right)]
        ones, zero = np.ones((1, 8)), np.zeros((1, 1))
        cone = Cone(Following(tuple(pieces)), 6, 8, ones, zero + 1.0, True, zero, zero + np.inf, (0, 1, 2))
        return Plan(system, (cone,))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_rules_over_weights_of_two_optimizers_are_learned_jointly(order: tuple[int, int]) -> None:
    model, known = Halves(), PROBLEMS["rows="]
    optimizers: list[optim.Optimizer] = [optim.Adam([model.left], lr=0.1), optim.RMSprop([model.right], lr=0.03)]
    affinet.project(model, optimizers, model.plan())
    schedulers = [cosine(optimizer, 400) for optimizer in optimizers]
    for _ in range(400):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model().backward()
        for number in order:
            optimizers[number].step()
            w = model.weight.detach()
            assert float(w.min()) >= 0.0
            assert float((w.sum(1) - 1.0).abs().amax()) <= 16.0 * UNIT
        for scheduler in schedulers:
            scheduler.step()
    assert (float(model().detach()) - known.best) / (first_loss("rows=") - known.best) <= LONG_STEPS["RMSprop"]


def test_a_missing_gradient_of_half_a_cell_counts_as_zero() -> None:
    """The other half moves it, so that the sum stays; of a whole block without gradients nothing is learned."""
    model = Halves()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, model.plan())
    for _ in range(3):
        optimizer.zero_grad()
        (model.left * torch.arange(4.0)).sum().backward()
        optimizer.step()
        w = model.weight.detach()
        assert float(w.min()) >= 0.0
        assert float((w.sum(1) - 1.0).abs().amax()) <= 16.0 * UNIT
    before, state = model.weight.detach().clone(), handle.state_dict()["inequalities"][0]["y"].clone()
    optimizer.zero_grad()
    optimizer.step()
    assert torch.equal(model.weight, before)
    assert torch.equal(handle.state_dict()["inequalities"][0]["y"], state)


class Rows(Quadratic):
    """Rows of weights that are drawn towards targets: `½ Σ s_r |w_r − t_r|²`, with a size of its own for each row."""

    def __init__(self, rows: int = 1_000, dtype: torch.dtype = torch.float64, sizes: Any = 1.0) -> None:
        torch.nn.Module.__init__(self)
        self.weight = torch.nn.Parameter(torch.full((rows, 4), 0.25, dtype=dtype))
        draw = np.random.default_rng(3)
        self.target = torch.tensor(draw.normal(size=(rows, 4)))
        self.sizes = torch.as_tensor(sizes, dtype=torch.float64).reshape(-1, 1)

    def forward(self) -> Tensor:
        return 0.5 * (self.sizes * (self.weight.double() - self.target).square()).sum()

    def nearest(self) -> Tensor:
        """The optimum: the nearest point of each target to the simplex, by sorting (Held, Wolfe, Crowder 1974)."""
        ordered = self.target.sort(1, descending=True).values
        excess = (ordered.cumsum(1) - 1.0) / torch.arange(1, 5)
        count = (ordered > excess).sum(1, keepdim=True)
        return (self.target - excess.gather(1, count - 1)).clamp_min(0.0)


def distance(model: Rows) -> float:
    """How far the farthest weight is from its optimum."""
    return float((model.weight.detach().double() - model.nearest()).abs().amax())


def descend(model: Rows, optimizer: optim.Optimizer, steps: int) -> None:
    scheduler = cosine(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model().backward()
        optimizer.step()
        scheduler.step()


def attach(model: Rows, optimizer: optim.Optimizer) -> affinet.Handle:
    return affinet.project(model, optimizer, cone_plan(model, total=1.0))


@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, lr=0.05, betas=(0.9, 0.95)), lambda p: optim.SGD(p, lr=0.1)])
def test_a_vertex_is_left_when_the_target_moves(make: Any) -> None:
    """Weights at a vertex have no projected gradient and do not step; their multipliers release them all the same."""
    model = Rows()
    model.target *= 20.0  # nearly every row ends at a vertex
    optimizer = make(model.parameters())
    attach(model, optimizer)
    descend(model, optimizer, 150)
    assert float((model.weight == 1.0).any(1).double().mean()) > 0.9
    model.target = torch.tensor(np.random.default_rng(4).normal(size=model.target.shape))
    for group in optimizer.param_groups:
        group.update(lr=group["initial_lr"])
    descend(model, optimizer, 400)
    assert distance(model) <= 1e-5


def test_rows_with_gradients_of_very_different_sizes_all_reach_their_optimum() -> None:
    """The reach of y, and the floor of noise, belong to the row."""
    sizes = 10.0 ** np.linspace(-6.0, 0.0, 1_000)
    model = Rows(sizes=sizes)
    optimizer = optim.Adam(model.parameters(), lr=0.05, eps=1e-14)
    attach(model, optimizer)
    descend(model, optimizer, 400)
    assert distance(model) <= 1e-6


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_weights_of_few_digits_end_near_the_optimum_and_on_the_set(dtype: torch.dtype, bound: float) -> None:
    """Steps below half a spacing move nothing: in bfloat16, of spacing 4e-3 there, weights stop some spacings away."""
    model = Rows(dtype=dtype)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    handle, scheduler = attach(model, optimizer), cosine(optimizer, 400)
    for _ in range(400):
        descend_once(model, optimizer)
        scheduler.step()
        w = model.weight.detach().double()
        # Four weights of at most one are rounded by half a spacing each.
        assert float(w.min()) >= 0.0
        assert float((w.sum(1) - 1.0).abs().amax()) <= 2.0 * torch.finfo(dtype).eps
    assert distance(model) <= bound
    y = handle.state_dict()["inequalities"][0]["y"]
    assert torch.finfo(y.dtype).eps <= torch.finfo(torch.float32).eps
    # Off by the tangential gradient, which is that of four weights, and by the rounding of gradients of size 4.
    gap = y + (model.weight.detach().double() - model.target)
    assert float(gap[model.weight > 0].abs().amax()) <= 2.0 * bound + 4.0 * torch.finfo(dtype).eps


def descend_once(model: Rows, optimizer: optim.Optimizer) -> None:
    optimizer.zero_grad()
    model().backward()
    optimizer.step()
