"""For elementwise optimizers the sandwich is the optimizer run on u in `w = Π(u)`: the same trajectory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, optim

import affinet
from tests.training.problems import CENTRE, COUNT, CURVATURE, RULES, SHAPES, truth

STEPS = 200
NEAR = 1e-9
"""Of weights of size one, within 200 steps: what rounding of 1e-16 a step may grow to. The rates are such that the
optimizers are on their way. Around an optimum, at a constant rate, RMSprop, Adadelta and NAdam hop about it chaotically
(the rate times the curvature over √v grows past 2): runs that differ by a rounding part, with affinet or without."""
PARTED = NEAR / 1000
"""How far apart two runs without affinet are, from starts that differ by a rounding, once runs are compared no more."""
ELEMENTWISE: dict[str, tuple[str, dict[str, Any]]] = {
    "ASGD": ("ASGD", {"lr": 0.01, "lambd": 0.0}),
    "Adadelta": ("Adadelta", {"lr": 0.1, "eps": 1e-3}),
    "Adagrad": ("Adagrad", {"lr": 0.05}),
    "Adam": ("Adam", {"lr": 0.01}),
    "Adam, amsgrad": ("Adam", {"lr": 0.01, "amsgrad": True}),
    "AdamW": ("AdamW", {"lr": 0.01, "weight_decay": 0.0}),
    "Adamax": ("Adamax", {"lr": 0.01}),
    "NAdam": ("NAdam", {"lr": 0.01}),
    "RAdam": ("RAdam", {"lr": 0.01}),
    "RMSprop": ("RMSprop", {"lr": 0.0005}),
    "RMSprop, centered, momentum": ("RMSprop", {"lr": 0.0003, "centered": True, "momentum": 0.5}),
    "SGD": ("SGD", {"lr": 0.02}),
    "SGD, nesterov": ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "SGD, dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.5}),
}


class Layers(torch.nn.Module):
    """The weights themselves, under rules."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(start[:12].clone().view(3, 4))
        self.b = torch.nn.Parameter(start[12:].clone().view(4, 2))

    def flat(self) -> Tensor:
        return torch.cat([self.a.reshape(-1), self.b.reshape(-1)])


def objective(flat: Tensor) -> Tensor:
    away = flat - torch.tensor(CENTRE)
    return 0.5 * away @ torch.tensor(CURVATURE) @ away


@pytest.mark.parametrize("optimizer", ELEMENTWISE)
@settings(max_examples=2, phases=[Phase.explicit, Phase.generate])
@given(rules=st.sampled_from(sorted(RULES)), seed=st.integers(0, 2**16))
def test_the_sandwich_is_the_optimizer_on_u_with_w_the_projection_of_u(optimizer: str, rules: str, seed: int) -> None:
    name, options = ELEMENTWISE[optimizer]
    start = torch.tensor(np.random.default_rng(seed).standard_normal(COUNT))
    oracle = truth(rules)
    tangent = torch.tensor(np.eye(COUNT) - oracle.inverse @ oracle.matrix)
    base = torch.tensor(oracle.inverse @ oracle.rhs)

    model = Layers(start)
    ours = getattr(optim, name)(model.parameters(), **options)
    w = affinet.weights(SHAPES)
    affinet.project(model, ours, RULES[rules](w["a"], w["b"]))
    free, twin = Layers(start), Layers(start * (1 + 2**-50))
    theirs = [(each, getattr(optim, name)(each.parameters(), **options)) for each in (free, twin)]

    for number in range(STEPS):
        ours.zero_grad()
        objective(model.flat()).backward()
        ours.step()
        for each, stepping in theirs:
            stepping.zero_grad()
            objective(base + tangent @ each.flat()).backward()
            stepping.step()
        with torch.no_grad():
            far = float((model.flat() - (base + tangent @ free.flat())).abs().max())
            assert far <= NEAR, f"{far:.2g} apart after {number + 1} steps"
            if (tangent @ (free.flat() - twin.flat())).abs().max() > PARTED:
                break
