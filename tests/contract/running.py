"""A few steps of training with rules, beside the same steps without: same weights, same gradients, same optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor, optim

import affinet
from tests.contract.building import PRECISIONS, model_of, numbers, oracle_of_training, plain, plan_along, rules_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.oracle import Oracle

STEPS = 4
Make = Callable[[Iterable[Tensor]], optim.Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1, foreach=True),
    "Adam": lambda p: optim.Adam(p, lr=0.05, weight_decay=0.1, foreach=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.05, weight_decay=0.1, fused=True),
}
"""All elementwise: an entry's update depends on that entry's own gradients only."""


@dataclass
class Run:
    """What happened: `oracle` has frozen parameters as constants, `steps` the weights after attaching and each step."""

    oracle: Oracle
    before: dict[str, np.ndarray]
    moved: dict[str, float]
    plan: affinet.Plan | None = None
    steps: list[dict[str, Tensor]] = field(default_factory=list)
    free: list[dict[str, Tensor]] = field(default_factory=list)


@cache
def run_of(case_name: str, dtype: str, path: str, optimizer: str) -> Run:
    """The run of a case of the table."""
    case = next(case for case in CASES if case.name == case_name)
    precision = next(precision for precision in PRECISIONS if str(precision) == dtype)
    return trained(case, precision.dtype, path, OPTIMIZERS[optimizer])


def trained(case: Case, dtype: torch.dtype, path: str, make: Make) -> Run:
    """Train under the rules of a case with seeded gradients that know nothing of the weights."""
    model, free = model_of(case, dtype), model_of(case, dtype)
    optimizer, stock = make(model.parameters()), make(free.parameters())
    before = plain(dict(model.named_parameters()))
    handle = affinet.project(model, optimizer, plan_along(path, rules_of(case)))
    run = Run(oracle_of_training(case, handle), before, handle.moved, handle.projector.plan)
    run.steps.append(_copied(model))
    run.free.append(_copied(free))
    for step in range(STEPS):
        for one, opt in ((model, optimizer), (free, stock)):
            give_gradients(one, case, step)
            opt.step()
        run.steps.append(_copied(model))
        run.free.append(_copied(free))
    return run


def give_gradients(model: torch.nn.Module, case: Case, step: int) -> None:
    """Seeded gradients for all parameters that are trained."""
    gradients = numbers(case, "gradients", step)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter).copy_(torch.tensor(gradients[name]))


def quadratic(case: Case, oracle: Oracle) -> tuple[np.ndarray, np.ndarray]:
    """Curvature h and centre c of `f(w) = Σ h (w − c)² / 2` over the entries of the oracle."""
    sizes, centres = numbers(case, "curvature"), numbers(case, "centre")
    flat = [
        np.concatenate([np.zeros(0), *(of[p.name].ravel() for p in oracle.layout.parameters)])
        for of in (sizes, centres)
    ]
    return 0.5 + np.abs(flat[0]), flat[1]


def _copied(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
