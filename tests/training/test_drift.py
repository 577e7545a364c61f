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


def test_every_kind_of_block_keeps_its_level() -> None:
    """Rows, columns, a mirror and a pair, with Adam's steps of random gradients that take each other back."""
    torch.manual_seed(0)
    model = torch.nn.ParameterDict({name: torch.randn(9, 9) for name in "abcde"})
    w = affinet.weights(model)
    rules = [
        (w.a.sum(dim=1) == 1).named("rows"),
        (w.b.sum(dim=1) == 0).named("both"),
        (w.b.sum(dim=0) == 0).named("columns"),
        affinet.families.symmetric(w.c).named("mirror"),
        (w.d == 3 * w.e.T).named("pair"),
    ]
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    handle = affinet.project(model, optimizer, rules)
    gradients = [{name: torch.randn(9, 9) for name in model} for _ in range(4)]
    gradients += [{name: -values for name, values in gradient.items()} for gradient in gradients]
    seen: list[dict[str, float]] = []
    for step in range(5_000):
        for name, parameter in model.items():
            parameter.grad = gradients[step % 8][name].clone()
        optimizer.step()
        if step < 50 or step >= 4_950:
            seen.append(handle.violation())
    for name in seen[0]:
        first, last = (max(found[name] for found in part) for part in (seen[:50], seen[50:]))
        assert first <= 4e-6, name
        assert last <= 2 * first + 1e-7, name
