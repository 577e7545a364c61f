"""Optimizers of other packages under nonlinear equations: feasible after every step, and the published optimum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, optim

import affinet
from tests.integrations.test_optimizers import LONG, SHRINKS
from tests.training.curved_problems import PROBLEMS
from tests.training.guests import EightBitAdam

pytorch_optimizer = pytest.importorskip("pytorch_optimizer")
schedulefree = pytest.importorskip("schedulefree")

STEPS = 500
FEASIBLE = 1e-12
"""A return stops at 8 roundoffs of the terms and of derivatives times weights, which are below 100 here."""
SHARPNESS = 1e-4
"""How far away SAM takes the gradient."""

# Averages over n steps forget their start no faster than one over n, and losses are squares near an optimum.
AVERAGED = (10.0 / STEPS) ** 2

OPTIMIZERS: dict[str, tuple[Callable[[Any, float], Any], float]] = {
    "Lookahead": (lambda p, rate: pytorch_optimizer.Lookahead(optim.Adam(p, lr=0.05 * rate)), SHRINKS),
    "Prodigy": (lambda p, rate: pytorch_optimizer.Prodigy(p, lr=0.5), SHRINKS),
    "D-adapted SGD": (lambda p, rate: pytorch_optimizer.DAdaptSGD(p, lr=1.0), SHRINKS),
    "AdaBelief": (lambda p, rate: pytorch_optimizer.AdaBelief(p, lr=0.05 * rate), SHRINKS),
    "MADGRAD": (lambda p, rate: pytorch_optimizer.MADGRAD(p, lr=0.05 * rate), SHRINKS),
    "SOAP": (lambda p, rate: pytorch_optimizer.SOAP(p, lr=0.05 * rate), SHRINKS),
    "8 bits": (lambda p, rate: EightBitAdam(p, lr=0.05 * rate), SHRINKS),
    "ADOPT": (lambda p, rate: pytorch_optimizer.ADOPT(p, lr=0.05 * rate), LONG),
    "Adan": (lambda p, rate: pytorch_optimizer.Adan(p, lr=0.05 * rate), LONG),
    "Lion": (lambda p, rate: pytorch_optimizer.Lion(p, lr=0.02 * rate), LONG),
    "SAM": (
        lambda p, rate: pytorch_optimizer.SAM(p, base_optimizer=optim.SGD, rho=SHARPNESS, lr=0.02 * rate),
        SHARPNESS,
    ),
    "schedule-free AdamW": (lambda p, rate: schedulefree.AdamWScheduleFree(p, lr=0.05 * rate), AVERAGED),
    "schedule-free SGD": (lambda p, rate: schedulefree.SGDScheduleFree(p, lr=0.02 * rate), AVERAGED),
}


@pytest.mark.parametrize("problem", ["HS39", "sum of eigenvalues"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_other_optimizers_reach_the_published_optimum(name: str, problem: str) -> None:
    golden, (make, reach) = PROBLEMS[problem], OPTIMIZERS[name]
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.tensor(golden.start))
    optimizer = make([model.w], golden.rate)
    handle = affinet.project(model, optimizer, golden.rules(affinet.weights(model).w))
    averages = "schedule-free" in name
    if averages:
        optimizer.train()
    schedule = None if averages else optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = golden.loss(model.w)
        value.backward()
        return value

    for _ in range(STEPS):
        loss()
        optimizer.step(loss) if name == "SAM" else optimizer.step()
        if schedule is not None:
            schedule.step()
        assert max(handle.violation().values()) < FEASIBLE
    if averages:
        optimizer.eval()
        assert max(handle.violation().values()) < FEASIBLE
    assert float(golden.loss(model.w).detach()) - golden.optimum <= reach * max(1.0, abs(golden.optimum))
