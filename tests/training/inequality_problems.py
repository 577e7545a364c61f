"""Problems with inequalities whose optimum is known from independent solvers, and their trainings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import cos, inf, pi
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, optim

import affinet
from affinet.blocks.cone import Cone
from affinet.blocks.entry_sets import View
from affinet.blocks.places import box
from affinet.plans.plan import Plan
from affinet.system.system import System


class Quadratic(torch.nn.Module):
    """`½ |X Wᵀ − Y|² / m` of a matrix W, whose rows are the cells of the rules."""

    def __init__(self, inputs: np.ndarray, outputs: np.ndarray, start: np.ndarray, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(start, dtype=dtype))
        self.register_buffer("inputs", torch.tensor(inputs))
        self.register_buffer("outputs", torch.tensor(outputs))

    def forward(self) -> Tensor:
        residual = self.inputs @ self.weight.to(self.inputs.dtype).mT - self.outputs
        return 0.5 * residual.square().sum() / len(self.inputs)


def cone_plan(
    model: torch.nn.Module, *, lower: float = 0.0, upper: float = inf, total: float | None = None, equation: bool = True
) -> Plan:
    """Bounds on every entry of `weight`, and with `total` the sum of each row, `== total` or `<= total`."""
    shape = tuple(model.weight.shape)
    w = affinet.weights(model).weight
    rules = [(w >= lower).named("lower")]
    rules += [(w <= upper).named("upper")] * (upper < inf)
    if total is not None:
        rules.append((w.sum(dim=1) == total if equation else w.sum(dim=1) <= total).named("sums"))
    system = System.of(rules)
    (parameter,) = system.layout.parameters
    steps = ((shape[0], shape[1]), (shape[1], 1))
    row, rhs = (None, np.zeros((1, 1))) if total is None else (np.ones((1, shape[1])), np.full((1, 1), total))
    entries = box(View(parameter, 0, steps))
    bounds = np.full((1, 1), lower), np.full((1, 1), upper)
    return Plan(system, (Cone(entries, *shape, row, rhs, equation, *bounds, tuple(range(len(rules)))),))


@dataclass(frozen=True)
class Problem:
    """A quadratic under inequalities. `best` is its least value, published with the design of the method."""

    name: str
    best: float
    model: Callable[[torch.dtype], Quadratic]
    plan: Callable[[torch.nn.Module], Plan]


@cache
def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    inputs, outputs = load_diabetes(return_X_y=True)
    return inputs / inputs.std(0), ((outputs - outputs.mean()) / outputs.std())[:, None]


@cache
def _rows() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    outputs, inputs = 6, 8
    x = draw.normal(size=(200, inputs)) * 10.0 ** draw.uniform(-0.5, 0.5, inputs)
    mixing = np.eye(inputs) + 0.3 * draw.normal(size=(inputs, inputs))
    x = x @ mixing
    y = x @ (draw.normal(size=(inputs, outputs)) * 0.5 + 0.2) + 0.5 * draw.normal(size=(200, outputs))
    return x, y


def _nnls(dtype: torch.dtype) -> Quadratic:
    return Quadratic(*_diabetes(), np.full((1, 10), 0.1), dtype)


def _nnls_sum(dtype: torch.dtype) -> Quadratic:
    inputs, outputs = _diabetes()
    return Quadratic(inputs * 10.0 ** np.linspace(-0.5, 0.5, 10), outputs, np.full((1, 10), 0.1), dtype)


def _rows_model(dtype: torch.dtype) -> Quadratic:
    return Quadratic(*_rows(), np.full((6, 8), 0.125), dtype)


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("nnls", 0.259210653594, _nnls, cone_plan),
        Problem("nnls_sum", 0.25974307093, _nnls_sum, lambda model: cone_plan(model, total=1.0)),
        Problem("rows=", 9.04809666965, _rows_model, lambda model: cone_plan(model, total=1.0)),
        Problem("rows<=", 9.04809666965, _rows_model, lambda model: cone_plan(model, total=1.0, equation=False)),
    )
}

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.02, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.0),
    "Adamax": lambda p: optim.Adamax(p, lr=0.1),
    "NAdam": lambda p: optim.NAdam(p, lr=0.1),
    "RAdam": lambda p: optim.RAdam(p, lr=0.1),
    "Adadelta": lambda p: optim.Adadelta(p, lr=10.0),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.1),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "Rprop": lambda p: optim.Rprop(p, lr=0.1),
    "Adafactor": lambda p: optim.Adafactor(p, lr=0.1),
    "Muon": lambda p: optim.Muon(p, lr=0.1, weight_decay=0.0),
    "LBFGS": lambda p: optim.LBFGS(
        p, max_iter=10, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=1e-15
    ),
}


def cosine(optimizer: optim.Optimizer, steps: int) -> optim.lr_scheduler.LRScheduler:
    """The learning rate falls to zero as a cosine."""
    return optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 * (1.0 + cos(pi * min(k, steps) / steps)))


def train(
    problem: Problem,
    make: Callable[[Any], optim.Optimizer],
    steps: int,
    dtype: torch.dtype = torch.float64,
    metric: str = "euclidean",
) -> tuple[Quadratic, optim.Optimizer, affinet.Handle, list[np.ndarray]]:
    """Train a problem with the learning rate falling to zero; the weights after every step are returned too."""
    model = problem.model(dtype)
    optimizer = make(model.parameters())
    handle = affinet.project(model, optimizer, problem.plan(model), metric=metric)
    scheduler, path = cosine(optimizer, steps), []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model()
        loss.backward()
        return loss

    for _ in range(steps):
        if isinstance(optimizer, optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
            scheduler.step()
        path.append(model.weight.detach().double().numpy().copy())
    return model, optimizer, handle, path
