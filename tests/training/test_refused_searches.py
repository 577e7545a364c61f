"""A step of LBFGS that is refused at a trial point leaves the weights where the step began."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import affinet
from affinet.errors import GradientError


def made(values: list[float]) -> tuple[nn.Module, optim.Optimizer]:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor(values, dtype=torch.float64))
    model.other = nn.Parameter(torch.ones(2, dtype=torch.float64))  # in no rule
    return model, optim.LBFGS(model.parameters(), lr=4.0, line_search_fn="strong_wolfe", max_iter=5)


def closure_of(model: nn.Module, optimizer: optim.Optimizer, loss: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model.w) + model.other.square().sum()  # type: ignore[arg-type]
        value.backward()
        return value

    return closure


def logarithm(model: nn.Module, optimizer: optim.Optimizer) -> Any:
    return affinet.lagrange(model, optimizer, affinet.weights(model).w[0].log() == 0)


def equation(model: nn.Module, optimizer: optim.Optimizer) -> Any:
    return affinet.project(model, optimizer, affinet.weights(model).w.sum() == 3, check_finite=True)


def inequality(model: nn.Module, optimizer: optim.Optimizer) -> Any:
    return affinet.project(model, optimizer, affinet.weights(model).w.sum() <= 3, check_finite=True)


CASES: dict[str, tuple[Callable[..., Any], Callable[[Tensor], Tensor]]] = {
    "rule without a value": (logarithm, lambda w: (w + 50).square().sum()),
    "equation": (equation, lambda w: 50 * w[0] + w.square().sum() + w[0].sqrt()),
    "inequality": (inequality, lambda w: 50 * w[0] + w.square().sum() + w[0].sqrt()),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_the_beginning_of_the_step(case: str) -> None:
    attach, loss = CASES[case]
    model, optimizer = made([1.0, 2.0])
    attach(model, optimizer)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    trials: list[Tensor] = []

    def recorded(w: Tensor) -> Tensor:
        trials.append(w.detach().clone())
        return loss(w)

    with pytest.raises(GradientError):
        optimizer.step(closure_of(model, optimizer, recorded))
    assert len(trials) > 1
    assert not torch.equal(trials[0], trials[-1])
    assert all(torch.equal(former, now) for former, now in zip(before, model.parameters(), strict=True))


def test_a_training_goes_on_after_a_refusal() -> None:
    """The next steps forget the refused search, in which LBFGS had stored a half of its state."""
    model, optimizer = made([1.0, 2.0])
    logarithm(model, optimizer)
    with pytest.raises(GradientError):
        optimizer.step(closure_of(model, optimizer, lambda w: (w + 50).square().sum()))
    optimizer.param_groups[0]["lr"] = 0.5
    for _ in range(30):
        optimizer.step(closure_of(model, optimizer, lambda w: (w - 2).square().sum()))
    # log(w[0]) == 0 and w[1] nearest to 2. The penalty is hundreds of times the curvature: each dual step gains digits.
    torch.testing.assert_close(model.w.detach(), torch.tensor([1.0, 2.0], dtype=torch.float64), rtol=0, atol=1e-6)
