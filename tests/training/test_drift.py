"""Float drift: the violation after a hundred thousand steps is that after the first."""

from __future__ import annotations

import torch
from torch import optim

import affinet

STEPS = 100_000


def test_float32_weights_are_as_near_the_rules_after_all_steps_as_after_the_first() -> None:
    """Another gradient every step, in cycles of sum zero, so that weights wander and keep their size."""
    model = torch.nn.Module()
    model.register_parameter("a", torch.nn.Parameter(torch.randn(8)))
    w = affinet.weights(model)
    rules = [w.a.sum() == 1, w.a[0] - 3 * w.a[1] + w.a[5] == 0.3]
    optimizer = optim.SGD(model.parameters(), lr=1e-2)
    handle = affinet.project(model, optimizer, rules)
    gradient, seen = torch.randn(8), []
    turned = [torch.roll(gradient - gradient.mean(), shift) for shift in range(8)]
    for step in range(STEPS):
        model.a.grad = turned[step % 8].clone()
        optimizer.step()
        if step < 100 or step >= STEPS - 100:
            seen.append(max(handle.violation().values()))
    first, last = max(seen[:100]), max(seen[100:])
    assert 0 < first <= 1e-6
    assert last <= 2 * first
