"""Every kind of block with inequalities, trained to an optimum that is the nearest point in the metric of the loss."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.blocks.ball import Ball
from affinet.blocks.chain import Chain
from affinet.blocks.classes import Classes
from affinet.blocks.cone import Cone
from affinet.blocks.entry_sets import View
from affinet.blocks.namespace import NumPy
from affinet.blocks.places import Part, Stepped, box
from affinet.blocks.polyhedron import Polyhedron
from affinet.language.calculus.terms import Parameter
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.training.inequality_problems import cosine

ROWS, WIDTH = 6, 5
WEIGHT = Parameter("weight", (ROWS, WIDTH))
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
"""Of infinite bounds, where the law runs on NumPy arrays without its driver."""


def entries() -> Stepped:
    """The rows, cell after cell."""
    return box(View(WEIGHT, 0, ((ROWS, WIDTH), (WIDTH, 1))))


def single(number: float) -> np.ndarray:
    return np.full((1, 1), number)


def polyhedron(cells: int) -> Polyhedron:
    """Random rows around the point zero in each of `cells` cells: one equation, four inequalities, some bounds."""
    draw, width = np.random.default_rng(5), ROWS * WIDTH // cells
    count = np.arange(ROWS * WIDTH)
    matrix, rhs = draw.normal(size=(cells, 5, width)), np.abs(draw.normal(size=(cells, 5)))
    rhs[:, 0] = 0.0
    lower, upper = np.full((cells, width), -inf), np.full((cells, width), inf)
    lower[:, ::2], upper[:, 1] = -0.2, 0.3
    classes = Classes(count, np.ones(1), np.zeros(1), count)
    return Polyhedron((Part(WEIGHT, count),), classes, matrix, rhs, 1, lower, upper, (0,))


def tied_polyhedron() -> Polyhedron:
    """Pairs of equal entries, with a sum and bounds over them."""
    half = ROWS * WIDTH // 2
    classes = Classes(np.tile(np.arange(half), 2), np.ones(1), np.zeros(1), np.arange(half))
    matrix, bounds = np.ones((1, 1, half)), (np.zeros((1, half)), np.full((1, half), 0.3))
    return Polyhedron((Part(WEIGHT, np.arange(2 * half)),), classes, matrix, np.ones((1, 1)), 1, *bounds, (0,))


BLOCKS: dict[str, Callable[[], Any]] = {
    "box": lambda: Cone(entries(), ROWS, WIDTH, None, single(0.0), False, single(-0.3), single(0.4), (0,)),
    "simplex": lambda: Cone(
        entries(), ROWS, WIDTH, np.ones((1, WIDTH)), single(1.0), True, single(0.0), single(inf), (0,)
    ),
    "knapsack": lambda: Cone(
        entries(), ROWS, WIDTH, np.array([[1.0, 2.0, -1.0, 0.5, 1.0]]), single(0.4), False, single(-1), single(1), (0,)
    ),
    "chain": lambda: Chain(entries(), ROWS, WIDTH, np.full((1, WIDTH - 1), 0.1), single(-1.0), single(1.0), (0,)),
    "l1 ball": lambda: Ball(entries(), ROWS, WIDTH, 1, single(1.0), (0,)),
    "l2 ball": lambda: Ball(entries(), ROWS, WIDTH, 2, single(0.7), (0,)),
    "small polyhedra": lambda: polyhedron(ROWS),
    "one polyhedron": lambda: polyhedron(1),
    "polyhedron with ties": tied_polyhedron,
}

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.5),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "Rprop": lambda p: optim.Rprop(p, lr=0.03, step_sizes=(1e-12, 0.1)),
    "LBFGS": lambda p: optim.LBFGS(
        p, max_iter=10, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=1e-15
    ),
}


class Drawn(torch.nn.Module):
    """`½ Σ s (w − t)²`."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        draw = np.random.default_rng(2)
        self.weight = torch.nn.Parameter(torch.zeros(ROWS, WIDTH, dtype=dtype))
        self.target = torch.tensor(draw.normal(size=(ROWS, WIDTH)))
        self.curvature = torch.tensor(10.0 ** draw.uniform(-0.5, 0.5, (ROWS, WIDTH)))

    def forward(self) -> Tensor:
        return 0.5 * (self.curvature * (self.weight.double() - self.target).square()).sum()


def optimum(block: Any, model: Drawn) -> np.ndarray:
    """The nearest point to the target in the metric of the curvatures, in the shape of the set."""
    law = block.law()
    target, curvature = (x.numpy().reshape(law.shape) for x in (model.target, model.curvature))
    return np.asarray(law.set.nearest(NumPy(), target, curvature)[0]).reshape(ROWS, WIDTH)


@pytest.mark.parametrize(
    ("optimizer", "dtype"), [*((each, torch.float64) for each in OPTIMIZERS), ("Adam", torch.float32)]
)
@pytest.mark.parametrize("kind", BLOCKS)
def test_every_kind_ends_at_its_optimum(kind: str, optimizer: str, dtype: torch.dtype) -> None:
    model, block = Drawn(dtype), BLOCKS[kind]()
    system = System.of([(affinet.weights(model).weight.sum() <= 1e6).named("rule")])
    made = OPTIMIZERS[optimizer](model.parameters())
    handle = affinet.project(model, made, Plan(system, (block,)))

    def closure() -> Tensor:
        made.zero_grad()
        loss = model()
        loss.backward()
        return loss

    scheduler = cosine(made, 600)
    for _ in range(30 if optimizer == "LBFGS" else 600):
        if optimizer == "LBFGS":
            made.step(closure)
        else:
            closure()
            made.step()
            scheduler.step()
        w = model.weight.detach()
        if made.state[model.weight].get("step", 0) % 10:
            continue
        gap = (handle.projector.project({"weight": w})["weight"] - w).abs().amax()
        assert float(gap) <= 4.0 * torch.finfo(dtype).eps
    w, best = model.weight.detach().double().numpy(), optimum(block, model)
    # A loss that is 1e-12 above its best is 1e-6 away; in float32 the rounding of gradients decides.
    assert np.abs(w - best).max() <= (1e-5 if dtype == torch.float64 else 1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("family", ["simplex", "l2_ball", "monotone", "dense"])
def test_a_training_at_rest_is_stationary_in_every_dtype(family: str, dtype: torch.dtype) -> None:
    """Gradients are kept in float64; which inequalities are active is up to the rounding of the weights."""
    draw = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(8, 4, bias=False, dtype=dtype)
    model.weight.data = torch.randn(4, 8, generator=draw, dtype=dtype)
    w = affinet.weights(model).weight
    rules: dict[str, Any] = {
        "simplex": lambda: families.simplex(w, dim=1),
        "l2_ball": lambda: families.l2_ball(w, 0.3, dim=1),
        "monotone": lambda: families.monotone(w, dim=1),
        "dense": lambda: np.random.default_rng(0).normal(size=(20, 8)) @ w.T <= 0.1,
    }
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    handle = affinet.project(model, optimizer, rules[family]())
    inputs, outputs = (torch.randn(200, n, generator=draw, dtype=dtype) for n in (8, 4))
    schedule = cosine(optimizer, 600)
    for _ in range(600):
        optimizer.zero_grad()
        (model(inputs) - outputs - inputs[:, :4]).square().mean().backward()
        optimizer.step()
        schedule.step()
    assert handle.stationarity() <= 1e-4  # as near as Adam comes in so many steps; of one inactive bound it is near 1


def test_a_line_search_method_starts_anew_where_the_face_has_moved() -> None:
    """Gradients along two faces differ by more than the curvature says: LBFGS stood still 2e-2 above the optimum."""
    draw = np.random.default_rng(0)  # convex regression on 41 knots
    x = draw.uniform(-1.0, 1.0, 120)
    truth = np.maximum(np.abs(x - 0.1) - 0.3, 0.0) + 0.5 * np.maximum(x - 0.5, 0.0)
    outputs = torch.tensor(truth + 0.15 * draw.normal(size=120))
    inputs = (1.0 - (torch.tensor(x)[:, None] * 20.0 + 20.0 - torch.arange(41)).abs()).clamp_min(0.0)
    model = torch.nn.Module()
    model.heights = torch.nn.Parameter(torch.zeros(41, dtype=torch.float64))
    optimizer = optim.LBFGS(model.parameters(), max_iter=10, line_search_fn="strong_wolfe")
    handle = affinet.project(model, optimizer, families.convex(affinet.weights(model).heights))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.5 * (inputs @ model.heights - outputs).square().sum()
        loss.backward()
        return loss

    for _ in range(40):
        optimizer.step(closure)
    assert handle.stationarity() <= 1e-4
