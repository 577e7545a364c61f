"""Nonlinear equations under Muon, maximizing, scaled gradients, compiled steps, updates, and in few bits."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from tests.training.curved_problems import PROBLEMS
from tests.training.test_nonlinear import allowed, train


def stepped(model: torch.nn.Module, stepper: optim.Optimizer, loss: Callable[[Tensor], Tensor], count: int) -> None:
    for _ in range(count):
        stepper.zero_grad()
        loss(model.w).backward()
        stepper.step()


@pytest.mark.skipif(not hasattr(optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("problem", ["sum of eigenvalues", "orthonormal rows", "nearest determinant"])
def test_muon_ends_at_the_optimum(problem: str) -> None:
    """Its steps keep their length, so that rates fall with the eighth power, as in `test_every_optimizer.py`."""
    chosen = PROBLEMS[problem]
    model = chosen.model()
    stepper = optim.Muon(model.parameters(), lr=0.05, weight_decay=0.0)
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
    schedule = optim.lr_scheduler.LambdaLR(stepper, lambda step: (1 - step / 1200) ** 8)
    for step in range(1200):
        stepped(model, stepper, chosen.loss, 1)
        schedule.step()
        if step % 100 == 0:
            assert all(handle.violation()[name] <= limit for name, limit in allowed(handle, model).items())
    found = float(chosen.loss(model.w.detach()))
    # Muon orthogonalises in bfloat16: at the end the step's direction is off by some 1e-2, and its length by the rate.
    assert abs(found - chosen.optimum) <= 1e-8 * max(1.0, abs(chosen.optimum))


@pytest.mark.parametrize("problem", ["HS78", "least eigenvalue", "sum of eigenvalues"])
def test_maximizing_the_opposite_has_the_same_bits_and_the_opposite_prices(problem: str) -> None:
    chosen = PROBLEMS[problem]
    ends = []
    for maximize in (False, True):
        model = chosen.model()
        stepper = optim.Adam(model.parameters(), lr=0.03, maximize=maximize)
        handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
        sign = -1.0 if maximize else 1.0
        stepped(model, stepper, lambda w, sign=sign: sign * chosen.loss(w), 50)  # type: ignore[misc]
        ends.append((model.w.detach(), handle.multipliers(), handle.stationarity()))
    (w, prices, stationarity), (other, opposite, same) = ends
    assert torch.equal(w, other)
    assert stationarity == same
    for name, price in prices.items():
        assert torch.equal(price, -opposite[name])


@pytest.mark.parametrize("optimizer", ["Adam", "LBFGS"])
@pytest.mark.parametrize(
    ("problem", "shifted"),
    [
        ("HS7", lambda w, b: (1 + w[0] ** 2) ** 2 + w[1] ** 2 == 4 + b),
        ("nearest determinant", lambda w, b: w.det() == 1 + b),
    ],
)
def test_prices_are_differences_of_the_optimal_value(problem: str, shifted: Any, optimizer: str) -> None:
    chosen, width = PROBLEMS[problem], 1e-3

    def solved(shift: float) -> tuple[float, float]:
        model = chosen.model()
        w = affinet.weights(model).w
        if optimizer == "Adam":
            stepper: optim.Optimizer = optim.Adam(model.parameters(), lr=0.03 * chosen.rate)
        else:
            stepper = optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")
        handle = affinet.project(model, stepper, [shifted(w, shift).named("priced"), *chosen.rules(w)[1:]])
        for _ in train(model, chosen.loss, stepper, 800 if optimizer == "Adam" else 20):
            pass
        return float(chosen.loss(model.w.detach())), float(handle.multipliers()["priced"])

    (upper, _), (lower, _), (_, price) = solved(width), solved(-width), solved(0.0)
    # What central differences leave is width² / 6 times the third derivative of the optimal value: below 1 here.
    assert price == pytest.approx((upper - lower) / (2 * width), abs=1e-6)


@pytest.mark.parametrize("problem", ["HS78", "least eigenvalue", "orthonormal rows"])
def test_scaled_gradients_have_the_bits_of_plain_ones(problem: str) -> None:
    chosen = PROBLEMS[problem]
    ends = []
    for scaled in (False, True):
        model = chosen.model(torch.float32)
        stepper = optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1, fused=True)
        affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
        for _ in range(20):
            stepper.zero_grad()
            scaler.scale(chosen.loss(model.w)).backward()
            scaler.step(stepper)
            scaler.update()
        ends.append(model.w.detach())
    # The scale is a power of two: no number is rounded otherwise.
    torch.testing.assert_close(ends[0], ends[1], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("problem", ["HS78", "least eigenvalue", "orthonormal rows"])
def test_a_compiled_step_is_a_plain_one(problem: str) -> None:
    chosen = PROBLEMS[problem]
    ends = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = chosen.model()
        stepper = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
        with warnings.catch_warnings():
            # torch's own, of what it does inside an optimizer's step.
            warnings.filterwarnings("ignore", message=r".*(lru_cache|Profiler record function).*")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\..*")
            step = torch.compile(stepper.step, backend="eager") if compiled else stepper.step
            for _ in range(5):
                stepper.zero_grad()
                chosen.loss(model.w).backward()
                step()
        ends.append(model.w.detach())
    # Compiled, SGD may fuse products and sums: a rounding per step of entries below 4.
    torch.testing.assert_close(*ends, rtol=0.0, atol=1e-13)


def test_updated_rules_go_on_to_an_optimum_of_their_own_and_resume_with_the_same_bits() -> None:
    first, second = PROBLEMS["HS42"], PROBLEMS["HS78"]

    def made() -> tuple[torch.nn.Module, optim.Optimizer, affinet.Handle]:
        model = second.model()
        stepper = optim.Adam(model.parameters(), lr=0.03)
        return model, stepper, affinet.project(model, stepper, first.rules(affinet.weights(model).w))

    model, stepper, handle = made()
    stepped(model, stepper, second.loss, 20)
    handle.update(second.rules(affinet.weights(model).w))
    stepped(model, stepper, second.loss, 10)
    saved = model.w.detach().clone(), copy.deepcopy(stepper.state_dict()), copy.deepcopy(handle.state_dict())
    other, again, resumed = made()
    resumed.update(second.rules(affinet.weights(other).w))
    other.load_state_dict({"w": saved[0]})
    again.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    stepped(model, stepper, second.loss, 10)
    stepped(other, again, second.loss, 10)
    assert torch.equal(model.w, other.w)
    for _ in train(model, second.loss, stepper, 800):
        pass
    assert handle.certificate(lambda: second.loss(model.w)).verdict == "local minimum"
    assert max(handle.violation().values()) <= 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_weights_of_fewer_bits_hold_to_their_rounding(problem: str, dtype: torch.dtype) -> None:
    """`8 u (Σ|terms| + Σ|∂c/∂w_j||w_j|)` with the u of the weights, as docs/numerics.md promises."""
    chosen = PROBLEMS[problem]
    model = chosen.model(dtype)
    stepper = optim.Adam(model.parameters(), lr=0.01, eps=1e-4)
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
    for _ in train(model, lambda w: chosen.loss(w.double()), stepper, 15):
        limits = allowed(handle, model)
        assert all(handle.violation()[name] <= limit for name, limit in limits.items())


@pytest.mark.parametrize("problem", ["HS78", "sum of eigenvalues", "nearest determinant"])
def test_float32_comes_as_near_as_its_rounding(problem: str) -> None:
    """At an optimum the loss is flat along the equations: what is left is rounding of the loss and of the equations."""
    chosen = PROBLEMS[problem]
    model = chosen.model(torch.float32)
    stepper = optim.Adam(model.parameters(), lr=0.03)
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
    for _ in train(model, chosen.loss, stepper, 600):
        pass
    prices = handle.multipliers()
    gap = abs(float(chosen.loss(model.w.detach().double())) - chosen.optimum)
    shifts = sum(float(prices[name].abs().sum()) * limit for name, limit in allowed(handle, model).items())
    assert gap <= shifts + 32 * torch.finfo(torch.float32).eps * max(1.0, abs(chosen.optimum))


def test_frozen_factors_are_constants_of_the_equations() -> None:
    """`D @ E == I` with E frozen is linear in D; with both trained it is not."""
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.D = torch.nn.Parameter(torch.randn(3, 5, dtype=torch.float64))
    model.E = torch.nn.Parameter(torch.randn(5, 3, dtype=torch.float64), requires_grad=False)
    target, w = torch.randn(3, 5, dtype=torch.float64), affinet.weights(model)
    stepper = optim.Adam(model.parameters(), lr=0.05)
    handle = affinet.project(model, stepper, families.product(w.D, w.E, np.eye(3)))
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, 500)
    for _ in range(500):
        stepper.zero_grad()
        (model.D - target).square().sum().backward()
        stepper.step()
        schedule.step()
    inverse = torch.linalg.pinv(model.E)
    nearest = target - (target @ model.E - torch.eye(3)) @ inverse
    torch.testing.assert_close(model.D.detach(), nearest, rtol=0, atol=1e-9)
    assert max(handle.violation().values()) <= 1e-14


def test_two_optimizers_come_to_rest_at_a_kkt_point() -> None:
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.a, model.b = (torch.nn.Parameter(torch.randn(3, dtype=torch.float64)) for _ in range(2))
    target = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    w = affinet.weights(model)
    steppers = [optim.SGD([model.a], lr=0.05, momentum=0.9), optim.Adam([model.b], lr=0.05)]
    handle = affinet.project(model, steppers, [w.a @ w.b == 1, (w.a**2).sum() == (w.b**2).sum()])
    schedules = [optim.lr_scheduler.CosineAnnealingLR(stepper, 800) for stepper in steppers]
    for _ in range(800):
        for stepper in steppers:
            stepper.zero_grad()
        ((model.a - target).square().sum() + (model.b + target).square().sum()).backward()
        for stepper, schedule in zip(steppers, schedules, strict=True):
            stepper.step()
            schedule.step()
            assert max(handle.violation().values()) <= 1e-13
    assert handle.stationarity() <= 1e-8
