"""Weights under inequalities that are written to between steps, and steps that move nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from tests.training.inequality_problems import PROBLEMS, Quadratic, cosine
from tests.training.test_inequality_traps import UNIT, attached, is_feasible, known, step

WRITES: dict[str, Callable[[torch.nn.Parameter, Tensor], object]] = {
    "copy_": lambda weight, values: weight.detach().copy_(values),
    "data": lambda weight, values: weight.data.copy_(values),
    "new data": lambda weight, values: setattr(weight, "data", values.clone()),
    "numpy": lambda weight, values: weight.detach().numpy().__setitem__(..., values.numpy()),
}
"""Ways to write to a weight; only the first raises its version."""

RULES: dict[str, Callable[[affinet.Expression], list[affinet.Constraint]]] = {
    "simplex": lambda w: [families.simplex(w, 1)],
    "knapsack": lambda w: [w.sum(dim=1) <= 1, w >= 0],
    "chain": lambda w: [families.monotone(w, 1)],
    "ball": lambda w: [families.l2_ball(w, 0.3, dim=1)],
    "l1 ball": lambda w: [families.l1_ball(w, 0.3, dim=1)],
    "polyhedron": lambda w: [w[:, 0] + w[:, 1] >= 0.4 + w[:, 2], w >= -0.3],
}


@pytest.mark.parametrize("write", WRITES)
def test_weights_do_not_jump_back_to_the_face_of_the_former_ones(write: str) -> None:
    model, optimizer, _ = attached(lambda p: optim.SGD(p, lr=1e-4))
    for _ in range(300):
        step(model, optimizer)
    WRITES[write](model.weight, torch.full_like(model.weight, 0.125))
    step(model, optimizer)
    # One step of 1e-4 times a gradient.
    assert float((model.weight.detach() - 0.125).abs().amax()) <= 1e-4 * 2.0 * float(model.weight.grad.norm())


@pytest.mark.parametrize("write", WRITES)
def test_a_training_whose_weights_were_written_to_ends_at_the_optimum(write: str) -> None:
    model, optimizer, _ = attached(lambda p: optim.Adam(p, lr=0.1))
    draw = torch.Generator().manual_seed(3)
    scheduler = cosine(optimizer, 600)
    for number in range(600):
        if number in (50, 51, 120, 200):
            WRITES[write](model.weight, torch.randn(model.weight.shape, dtype=torch.float64, generator=draw))
        step(model, optimizer)
        scheduler.step()
        assert is_feasible(model)
    assert float(model().detach()) - PROBLEMS["rows="].best <= 1e-9


@pytest.mark.parametrize("late", [False, True], ids=["before the first step", "later"])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_without_a_move_returns_written_weights_to_the_set(rule: str, write: str, late: bool) -> None:
    model = torch.nn.Linear(4, 3, bias=False).to(torch.float64)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, RULES[rule](affinet.weights(model).weight))
    model.weight.grad = torch.zeros_like(model.weight)
    for _ in range(3 * late):
        model.weight.grad.normal_(generator=torch.Generator().manual_seed(1))
        optimizer.step()
    values = torch.tensor([[2.0, -3.0, 1.5, -1.0]] * 3, dtype=torch.float64)
    WRITES[write](model.weight, values)
    wanted = handle.projector.project({"weight": values})["weight"]
    assert max(handle.violation().values()) > 0.5
    model.weight.grad.zero_()
    optimizer.step()
    # Sums of four numbers below three.
    assert float((model.weight.detach() - wanted).abs().amax()) <= 64.0 * UNIT
    assert max(handle.violation().values()) <= 64.0 * UNIT


def vertex() -> tuple[torch.nn.Linear, optim.Optimizer, affinet.Handle]:
    """A weight at a vertex of a simplex, after a step that pushes it there."""
    model = torch.nn.Linear(3, 1, bias=False).to(torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0, 0.0]]))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, [families.simplex(affinet.weights(model).weight)])
    take(model, optimizer, [-1.0, 0.0, 0.0])
    assert model.weight.tolist() == [[1.0, 0.0, 0.0]]
    return model, optimizer, handle


def take(model: torch.nn.Linear, optimizer: optim.Optimizer, gradient: list[float]) -> None:
    model.weight.grad = torch.tensor([gradient], dtype=torch.float64)
    optimizer.step()


def test_a_face_is_left_by_what_was_learned_at_a_learning_rate_of_zero() -> None:
    """The multiplier of the bound of the second entry falls to zero while nothing moves; the first step then moves."""
    model, optimizer, handle = vertex()
    optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(100):
        take(model, optimizer, [0.0, -1.0, 0.0])
        assert model.weight.tolist() == [[1.0, 0.0, 0.0]]
    y, lower, *_ = known(handle)
    assert lower.tolist() == [[False, False, True]]
    # Of the normal cone at (1, 0, 0), the nearest vector to (0, 1, 0) is (1/2, 1/2, 0); .9**100 = 3e-5 of the first.
    assert torch.allclose(y, torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64), atol=1e-4)
    optimizer.param_groups[0]["lr"] = 0.1
    take(model, optimizer, [0.0, -1.0, 0.0])
    # Along the face the gradient is (1/2, -1/2, 0).
    assert model.weight[0, 1].item() >= 0.05 - 4.0 * UNIT


def test_gradients_of_zeros_fade_what_was_learned_and_keep_the_bits_of_the_weights() -> None:
    model, optimizer, handle = vertex()
    before = known(handle)[0]
    for _ in range(10):
        take(model, optimizer, [0.0, 0.0, 0.0])
    assert model.weight.tolist() == [[1.0, 0.0, 0.0]]
    assert torch.allclose(known(handle)[0], before * 0.9**10, rtol=1e-12, atol=0.0)


def test_a_bound_that_only_later_gradients_push_at_is_found_by_the_first_step() -> None:
    """At a learning rate of zero y stays on the face that it has; a step to the other side of a bound meets it."""
    model, optimizer, handle = vertex()
    optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(50):
        take(model, optimizer, [0.0, -1.0, 0.0])
    for _ in range(50):
        take(model, optimizer, [-1.0, 0.0, 0.0])  # the second entry is pushed at its bound again
    y = known(handle)[0]
    normal = handle.projector.tangent({"weight": y}, at=model)["weight"]
    assert float(normal.abs().amax()) <= 8.0 * UNIT
    optimizer.param_groups[0]["lr"] = 0.1
    for _ in range(100):
        take(model, optimizer, [-1.0, 0.0, 0.0])
    assert model.weight.tolist() == [[1.0, 0.0, 0.0]]
    y, lower, *_ = known(handle)
    assert lower.tolist() == [[False, True, True]]
    assert handle.stationarity() <= 1e-12


def test_warm_restarts_from_zero_end_at_the_optimum() -> None:
    model, optimizer, _ = attached(lambda p: optim.Adam(p, lr=0.1))
    scheduler = optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 100, eta_min=0.0)
    for _ in range(500):
        step(model, optimizer)
        scheduler.step()
        assert is_feasible(model)
    assert float(model().detach()) - PROBLEMS["rows="].best <= 1e-6
    assert isinstance(model, Quadratic)
