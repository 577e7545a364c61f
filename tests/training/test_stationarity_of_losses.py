"""`handle.stationarity(loss_fn)` is that of a loss of all data, and leaves gradients as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import affinet

RATE = 0.5
"""The coupled decay of the optimizers."""


def attached(method: str) -> tuple[Any, torch.nn.Sequential, torch.optim.Optimizer]:
    """A handle of a network whose first weight has rows that sum to one; the second layer is in no rule."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
    rules = [affinet.weights(model)["0"].weight.sum(dim=1) == 1]
    if method == "reparametrize":
        handle: Any = affinet.reparametrize(model, rules)
        return handle, model, torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=RATE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=RATE)
    attach: Callable[..., Any] = affinet.project if method == "project" else affinet.lagrange
    return attach(model, optimizer, rules), model, optimizer


def loss_of(model: torch.nn.Module, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    loss: torch.Tensor = (model(x).square().sum(dim=1) - x[:, 0]).square().mean()
    return loss


@pytest.mark.parametrize("calls_backward", [False, True])
@pytest.mark.parametrize("method", ["project", "reparametrize", "lagrange"])
def test_it_is_that_of_the_loss_and_not_of_the_last_step(method: str, calls_backward: bool) -> None:
    handle, model, optimizer = attached(method)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
    before = {name: (p.grad, p.grad.clone()) for name, p in model.named_parameters() if p.grad is not None}
    of_last_step = handle.stationarity()

    def loss_fn() -> Any:
        loss = loss_of(model, 10)
        return loss.backward() if calls_backward else loss

    measured = handle.stationarity(loss_fn)
    assert handle.stationarity() == of_last_step
    assert before.keys() == {name for name, p in model.named_parameters() if p.grad is not None}
    for name, parameter in model.named_parameters():
        assert parameter.grad is before[name][0]
        assert torch.equal(parameter.grad, before[name][1])
    weight = model[0].weight.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        loss_of(lambda x: model[2](torch.tanh(x @ weight.T + model[0].bias)), 10),  # type: ignore[arg-type]
        [weight],
    )
    if method != "reparametrize":  # there decay acts on the free numbers
        gradient = gradient + RATE * weight.detach()
    if method == "lagrange":
        remaining = gradient - next(iter(handle.multipliers().values()))[:, None]
    else:
        remaining = gradient - gradient.mean(dim=1, keepdim=True)
    # Twelve numbers, each a sum of twenty products, in float64.
    assert measured == pytest.approx(float(remaining.norm() / gradient.norm()), rel=1e-12)
