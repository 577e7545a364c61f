"""Weights without a gradient under rules: unused branches, experts, optimizers that step in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet.errors import GradientError


class Experts(torch.nn.Module):
    """A few vectors, of which a loss may use some."""

    def __init__(self, count: int, size: int = 1, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.e = torch.nn.ParameterList([torch.zeros(size, dtype=dtype) for _ in range(count)])


def tied(model: Experts) -> list[affinet.Constraint]:
    w = affinet.weights(model)
    return [w[f"e.{k}"] == w["e.0"] for k in range(1, len(model.e))]


def values(model: Experts) -> Tensor:
    return torch.stack([p.detach().clone() for p in model.e])


@pytest.mark.parametrize("used", [[0], [1, 2], [0, 1, 2, 3]])
def test_tied_weights_move_together_whichever_of_them_are_used(used: list[int]) -> None:
    """The SGD identity: one weight in four places, a gradient of 1 in each place that is used."""
    model = Experts(4)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    affinet.project(model, optimizer, tied(model))
    (-sum(model.e[k].sum() for k in used)).backward()
    optimizer.step()
    assert torch.equal(values(model), torch.full((4, 1), len(used) / 4.0, dtype=torch.float64))
    assert [p.grad is None for p in model.e] == [k not in used for k in range(4)]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1),
        lambda p: optim.AdamW(p, lr=0.1),
        lambda p: optim.RMSprop(p, lr=0.1),
    ],
    ids=["SGD", "Adam", "AdamW", "RMSprop"],
)
def test_a_missing_gradient_is_a_gradient_of_zeros_for_tied_weights(
    make: Callable[[Any], optim.Optimizer],
) -> None:
    ends = []
    for filled in (False, True):
        torch.manual_seed(0)
        model = Experts(4, 3)
        optimizer = make(model.parameters())
        affinet.project(model, optimizer, tied(model))
        for step in range(30):
            optimizer.zero_grad(set_to_none=True)
            (model.e[step % 3] - torch.arange(3.0)).square().sum().backward()
            if filled:
                for p in model.e:
                    p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            optimizer.step()
        ends.append(values(model))
    assert torch.equal(*ends)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_entries_that_no_rule_couples_to_a_gradient_stay_where_momentum_and_decay_would_move_them(
    momentum: float,
) -> None:
    model = Experts(2, 4)
    w = affinet.weights(model)
    optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=momentum, weight_decay=0.5)
    rules = [w["e.0"][0] == w["e.1"][0], w["e.1"][2:].sum() == 1]
    handle = affinet.project(model, optimizer, rules)
    torch.nn.init.ones_(model.e[1])
    with torch.no_grad():
        model.e[0].fill_(1.0)
        model.e[1][2:] = 0.5
    for _ in range(3):
        optimizer.zero_grad()
        model.e[0].sum().backward()
        optimizer.step()
        assert torch.equal(model.e[1].detach()[1:], torch.tensor([1.0, 0.5, 0.5]).double())
        assert torch.equal(model.e[0][0], model.e[1][0])
        assert model.e[1].grad is None
    assert max(handle.violation().values()) == 0.0


def test_weights_without_a_gradient_and_without_a_coupling_are_no_business_of_the_step() -> None:
    model = Experts(4, 3)
    w = affinet.weights(model)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    affinet.project(model, optimizer, [w[f"e.{k}"].sum() == 1 for k in range(4)])
    before = values(model)
    model.e[0].square().sum().backward()
    optimizer.step()
    assert torch.equal(values(model)[1:], before[1:])
    assert [p in optimizer.state for p in model.e] == [True, False, False, False]


def test_frozen_weights_are_constants_and_get_no_gradient() -> None:
    model = Experts(2)
    model.e[1].requires_grad_(False).fill_(2.0)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    affinet.project(model, optimizer, tied(model))
    (-model.e[0].sum()).backward()
    optimizer.step()
    assert torch.equal(values(model), torch.full((2, 1), 2.0).double())
    assert model.e[1].grad is None


def test_projecting_before_clipping_fills_what_is_coupled() -> None:
    model = Experts(4)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    handle = affinet.project(model, optimizer, tied(model))
    (-8.0 * model.e[0].sum()).backward()
    handle.project_gradients()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert float(norm) == pytest.approx(4.0)
    optimizer.step()
    assert torch.allclose(values(model), torch.full((4, 1), 0.5).double(), rtol=1e-5)
    assert [p.grad is None for p in model.e] == [False, True, True, True]


def test_a_closure_that_leaves_gradients_missing_moves_all_that_are_tied() -> None:
    model = Experts(3)
    optimizer = optim.LBFGS(model.parameters(), lr=1.0, max_iter=20)
    affinet.project(model, optimizer, tied(model))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model.e[1] - 3.0).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(values(model), torch.full((3, 1), 3.0).double(), atol=1e-9)


def test_a_step_that_raises_leaves_missing_gradients_to_the_next() -> None:
    class Failing(optim.SGD):
        fails = True

        def step(self, closure: Any = None) -> Any:
            if self.fails:
                raise RuntimeError("out of luck")
            return super().step(closure)

    model = Experts(4)
    optimizer = Failing(model.parameters(), lr=1.0)
    with pytest.warns(UserWarning, match="could not learn"):
        affinet.project(model, optimizer, tied(model))
    for fails in (True, False):
        optimizer.zero_grad()
        (-model.e[0].sum()).backward()
        optimizer.fails = fails
        if fails:
            with pytest.raises(RuntimeError, match="out of luck"):
                optimizer.step()
        else:
            optimizer.step()
    assert torch.equal(values(model), torch.full((4, 1), 0.25).double())


# Optimizers that step in the backward pass


def in_backward(
    model: Experts, kind: type[optim.Optimizer], clear: Callable[[optim.Optimizer], None]
) -> list[optim.Optimizer]:
    optimizers = [kind([p], lr=0.05) for p in model.e]  # type: ignore[call-arg]

    def stepping(optimizer: optim.Optimizer) -> Callable[[Tensor], None]:
        def step(_: Tensor) -> None:
            optimizer.step()
            clear(optimizer)

        return step

    for p, optimizer in zip(model.e, optimizers, strict=True):
        p.register_post_accumulate_grad_hook(stepping(optimizer))
    return optimizers


CLEARING: dict[str, Callable[[optim.Optimizer], None]] = {
    "none": lambda one: one.zero_grad(set_to_none=True),
    "zeros": lambda one: one.zero_grad(set_to_none=False),
    "kept": lambda one: None,
}


@pytest.mark.parametrize("clear", CLEARING)
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_stepping_in_the_backward_pass_under_a_rule_across_optimizers_is_refused(
    kind: type[optim.Optimizer], clear: str
) -> None:
    model = Experts(2)
    optimizers = in_backward(model, kind, CLEARING[clear])
    affinet.project(model, optimizers, tied(model))
    before = values(model)
    with pytest.raises(GradientError, match=r"steps inside the backward pass.*e\.\d.*after backward\(\) has ended"):
        ((model.e[0] - 1.0).square() + (model.e[1] - 5.0).square()).sum().backward()
    assert torch.equal(values(model), before)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
@pytest.mark.parametrize(("c", "d"), [(1.0, 5.0), (2.0, 5.0), (3.0, 5.0)])
def test_stepping_after_the_backward_pass_ends_at_the_optimum(kind: type[optim.Optimizer], c: float, d: float) -> None:
    model = Experts(2)
    optimizers = [kind([p], lr=0.05) for p in model.e]  # type: ignore[call-arg]
    affinet.project(model, optimizers, tied(model))
    for _ in range(800):
        ((model.e[0] - c).square() + (model.e[1] - d).square()).sum().backward()
        for one in optimizers:
            one.step()
            one.zero_grad()
    assert float(model.e[0].detach()) == pytest.approx((c + d) / 2.0, abs=1e-3)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_stepping_in_the_backward_pass_is_right_where_no_rule_couples_the_optimizers(
    kind: type[optim.Optimizer],
) -> None:
    model = Experts(2, 2)
    w = affinet.weights(model)
    handle = affinet.project(
        model, in_backward(model, kind, CLEARING["none"]), [w[f"e.{k}"][0] == w[f"e.{k}"][1] for k in range(2)]
    )
    centre = torch.tensor([1.0, 5.0]).double()
    for _ in range(800):
        sum((p - centre).square().sum() for p in model.e).backward()  # type: ignore[union-attr]
    assert max(handle.violation().values()) == 0.0
    assert torch.allclose(values(model), torch.full((2, 2), 3.0).double(), atol=1e-3)
