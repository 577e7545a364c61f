"""Optimizers that change weights in `eval()` and `train()`, under inequalities."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from tests.training.guests import ScheduleFree

DRAW = np.random.default_rng(1)
INPUTS, OUTPUTS = DRAW.normal(size=(40, 6)), DRAW.normal(size=(40, 5))
START = DRAW.normal(size=(5, 6))

RULES: dict[str, Callable[[affinet.Expression], list[affinet.Constraint]]] = {
    "simplex": lambda w: [families.simplex(w, 1)],
    "bounds": lambda w: [w >= 0],
    "chain": lambda w: [families.monotone(w, 1)],
    "ball": lambda w: [families.l2_ball(w, 0.3, dim=1)],
    "polyhedron": lambda w: [w[:, 0] + w[:, 1] >= 0.4 + w[:, 2], w.sum(dim=0)[3] == 0.2],
    "equations": lambda w: [w.sum(dim=1) == 1],
}
EXACT = 1e-12
"""A cell adds up at most thirty products of numbers below ten in float64, a few times."""


class Net(torch.nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(START, dtype=dtype))

    def forward(self) -> Tensor:
        weight = self.weight.to(torch.float64)
        return 0.5 * (torch.tensor(INPUTS) @ weight.T - torch.tensor(OUTPUTS)).square().sum() / len(INPUTS)


def trained(net: Net, optimizer: optim.Optimizer, steps: int, look: Callable[[int], None] = lambda step: None) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        net().backward()
        optimizer.step()
        look(step)


def least(rule: str) -> float:
    """The least value under the rule, by gradient descent with momentum under the same rule."""
    net = Net()
    optimizer = optim.SGD(net.parameters(), lr=0.3, momentum=0.5)
    affinet.project(net, optimizer, RULES[rule](affinet.weights(net).weight))
    trained(net, optimizer, 1500)
    return net().item()


@pytest.mark.parametrize("rule", RULES)
def test_the_weights_of_eval_satisfy_the_rules_and_come_to_the_optimum(rule: str) -> None:
    net = Net()
    optimizer = ScheduleFree(net.parameters(), lr=0.1, scaled=False)
    handle = affinet.project(net, optimizer, RULES[rule](affinet.weights(net).weight))
    best, worst = least(rule), 0.0

    def look(step: int) -> None:
        nonlocal worst
        if step < 20 or step % 50 == 0:
            optimizer.eval()
            worst = max(worst, *handle.violation().values())
            assert net().item() >= best * (1.0 - EXACT)
            optimizer.train()
            worst = max(worst, *handle.violation().values())

    trained(net, optimizer, 2000, look)
    optimizer.eval()
    assert max(worst, *handle.violation().values()) < EXACT
    # An average over n steps of weights that come to rest forgets the first of them as 1/n, in the value as 1/n².
    assert net().item() <= best * (1.0 + 10.0 / 2000**2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "equations"])
def test_evaluating_does_not_change_the_training(rule: str, dtype: torch.dtype) -> None:
    weights = []
    for evaluates in (False, True):
        net = Net(dtype)
        optimizer = ScheduleFree(net.parameters(), lr=0.1)
        affinet.project(net, optimizer, RULES[rule](affinet.weights(net).weight))

        def look(step: int, net: Net = net, optimizer: ScheduleFree = optimizer) -> None:
            before = net.weight.detach().clone()
            for _ in range(2):
                optimizer.eval()
                optimizer.eval()
                optimizer.train()
            assert torch.equal(net.weight, before)

        trained(net, optimizer, 50, look if evaluates else lambda step: None)
        weights.append(net.weight.detach())
    assert torch.equal(*weights)


def test_weights_that_were_written_to_in_between_stay() -> None:
    net = Net()
    optimizer = ScheduleFree(net.parameters(), lr=0.1)
    handle = affinet.project(net, optimizer, RULES["simplex"](affinet.weights(net).weight))
    trained(net, optimizer, 10)
    optimizer.eval()
    vertex = torch.zeros_like(net.weight)
    vertex[:, 0] = 1.0
    net.weight.data.copy_(vertex)
    optimizer.train()
    z, beta = optimizer.state[net.weight]["z"], 0.9
    # Of two points of the set that `train()` mixes the result is one, so that nothing else is moved.
    assert torch.allclose(net.weight, beta * vertex + (1.0 - beta) * z, rtol=0.0, atol=EXACT)
    assert max(handle.violation().values()) < EXACT


def test_two_optimizers_of_one_rule_evaluate_together_and_return_one_after_the_other() -> None:
    first, second = (torch.nn.Linear(3, 1, bias=False).to(torch.float64) for _ in range(2))
    net = torch.nn.ModuleList([first, second])
    optimizers = [ScheduleFree(layer.parameters(), lr=0.1) for layer in net]
    w = affinet.weights(net)
    handle = affinet.project(
        net, optimizers, [affinet.concat([w["0.weight"], w["1.weight"]], 1).sum() <= 1, w["0.weight"] >= 0]
    )
    for _ in range(20):
        ((first.weight - 2.0).square().sum() + (second.weight - 1.0).square().sum()).backward()
        for optimizer in optimizers:
            optimizer.step()
        net.zero_grad()
    before = [layer.weight.detach().clone() for layer in net]
    for optimizer in optimizers:
        optimizer.eval()
        assert max(handle.violation().values()) < EXACT
    for optimizer in optimizers:
        optimizer.train()
    assert all(torch.equal(layer.weight, former) for layer, former in zip(net, before, strict=True))


def test_removed_rules_and_copies_leave_no_wrapper() -> None:
    net = Net()
    optimizer = ScheduleFree(net.parameters(), lr=0.1)
    handle = affinet.project(net, optimizer, RULES["bounds"](affinet.weights(net).weight))
    assert "eval" not in vars(deepcopy(optimizer))
    handle.remove()
    assert "eval" not in vars(optimizer)
    assert "train" not in vars(optimizer)


def test_rules_that_become_inequalities_hold_in_eval() -> None:
    net = Net()
    optimizer = ScheduleFree(net.parameters(), lr=0.3)
    w = affinet.weights(net).weight
    handle = affinet.project(net, optimizer, RULES["equations"](w))
    trained(net, optimizer, 20)
    handle.update(RULES["simplex"](w))
    trained(net, optimizer, 20)
    optimizer.eval()
    assert max(handle.violation().values()) < EXACT
