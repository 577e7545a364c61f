"""The traps of nonlinear equations, each with its number in the figures that it was measured by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from benchmarks.hock_schittkowski import PROBLEMS as HOCK_SCHITTKOWSKI
from tests.training.curved_problems import PROBLEMS, SYMMETRIC
from tests.training.test_nonlinear import allowed, attached, train


def one_weight(start: Any, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.as_tensor(np.array(start), dtype=dtype))
    return model


def trained(
    start: Any,
    rules: Callable[[Any], Any],
    loss: Callable[[Tensor], Tensor],
    steps: int,
    rate: float = 0.03,
    **options: Any,
) -> tuple[torch.nn.Module, affinet.Handle]:
    """A weight after steps of Adam at rates that fall along half a cosine."""
    model = one_weight(start)
    stepper = optim.Adam(model.parameters(), lr=rate, **options)
    handle = affinet.project(model, stepper, rules(affinet.weights(model).w))
    for _ in train(model, loss, stepper, steps):
        pass
    return model, handle


def test_returning_after_the_step_alone_rests_elsewhere() -> None:
    """Trap 1: Adam, then normalised by hand, stops above the least eigenvalue; with rules it ends there."""
    chosen = PROBLEMS["least eigenvalue"]
    model = one_weight(np.ones(8) / 8**0.5)
    stepper = optim.Adam(model.parameters(), lr=0.03)
    for _ in train(model, chosen.loss, stepper, 600):
        with torch.no_grad():
            model.w.div_(model.w.norm())
    assert float(chosen.loss(model.w.detach())) > chosen.optimum + 0.1
    with_rules, _ = trained(np.ones(8), chosen.rules, chosen.loss, 600)
    assert float(chosen.loss(with_rules.w.detach())) == pytest.approx(chosen.optimum, abs=1e-8)


def test_decay_that_is_not_normal_is_projected_at_the_present_weights() -> None:
    """Trap 3: on HS79, coupled decay ends at a KKT point of `f + λ/2 |w|²`, 0.1 away without the shift."""
    problem = next(each for each in HOCK_SCHITTKOWSKI if each.name == "HS79")
    model, handle = trained(problem.start, problem.rules, problem.loss, 1500, weight_decay=0.1)
    w = model.w.detach()
    g = torch.func.grad(problem.loss)(w) + 0.1 * w
    derivatives = torch.func.jacrev(problem.residuals)(w)
    tangent = g - derivatives.T @ torch.linalg.lstsq(derivatives.T, g[:, None]).solution[:, 0]
    assert float(tangent.norm()) <= 1e-8
    assert max(handle.violation().values()) <= 1e-13
    plain = torch.func.grad(problem.loss)(w)
    without = plain - derivatives.T @ torch.linalg.lstsq(derivatives.T, plain[:, None]).solution[:, 0]
    assert float(without.norm()) > 1e-3  # the decay counts


def test_dependent_equations_of_a_product_of_layers() -> None:
    """Trap 5: `B A == M` of inner size 3 has 20 equations, of which 2 depend on the others where M has rank 3."""
    rng = np.random.default_rng(0)
    b, a = rng.standard_normal((5, 3)), rng.standard_normal((3, 4))
    model = torch.nn.Module()
    model.b = torch.nn.Parameter(torch.from_numpy(b + 0.1 * rng.standard_normal(b.shape)))
    model.a = torch.nn.Parameter(torch.from_numpy(a + 0.1 * rng.standard_normal(a.shape)))
    stepper = optim.Adam(model.parameters(), lr=0.03)
    w = affinet.weights(model)
    handle = affinet.project(model, stepper, families.product(w.b, w.a, b @ a))
    for step in range(400):
        stepper.zero_grad()
        stepper.param_groups[0]["lr"] = 0.03 * (1 - step / 400)
        (model.b.square().sum() + model.a.square().sum()).backward()
        stepper.step()
    assert max(handle.violation().values()) <= 1e-13
    assert handle.stationarity() <= 1e-6
    # The least |B|² + |A|² with B A = M is twice the sum of the singular values of M (Srebro, Shraibman 2005).
    found = float(model.b.detach().square().sum() + model.a.detach().square().sum())
    assert found == pytest.approx(2.0 * np.linalg.svd(b @ a)[1].sum(), abs=1e-8)


def test_a_branch_is_not_left_and_its_end_is_a_local_minimum() -> None:
    """Trap 8: `x y == 0` from the wrong axis rests at f = 1 in place of .25."""

    def loss(w: Tensor) -> Tensor:
        return (w[0] - 1) ** 2 + (w[1] - 0.5) ** 2

    for start, value in (([0.0, 2.0], 1.0), ([2.0, 0.0], 0.25)):
        model = one_weight(start)
        stepper = optim.Adam(model.parameters(), lr=0.03)
        handle = affinet.project(model, stepper, affinet.weights(model).w[0] * affinet.weights(model).w[1] == 0)
        for _ in train(model, loss, stepper, 600):
            pass
        assert float(loss(model.w.detach())) == pytest.approx(value, abs=1e-9)
        assert handle.certificate(lambda m=model: loss(m.w)).verdict == "local minimum"


def test_a_component_is_not_left() -> None:
    """Trap 8: from `det = 1` the nearest orthogonal matrix is the nearest rotation; a reflection is nearer."""
    target = torch.diag(torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64))
    model, _ = trained(np.eye(3), lambda w: w.T @ w == np.eye(3), lambda w: (w - target).square().sum(), 600)
    # det(target) < 0: of rotations the nearest has the sign of the smallest singular value turned.
    best = 9 + 4 + 1 + 3 - 2 * (3 + 2 - 1)
    assert float(torch.linalg.det(model.w.detach())) == pytest.approx(1.0)
    assert float((model.w.detach() - target).square().sum()) == pytest.approx(best, abs=1e-8)


def test_noise_leaves_an_exact_saddle() -> None:
    """Trap 9: at an eigenvector the weights stay for ever; a move of 1e-8 leads to the least eigenvalue."""
    values, vectors = np.linalg.eigh(SYMMETRIC)
    matrix = torch.from_numpy(SYMMETRIC)
    ends = []
    for noise in (0.0, 1e-8):
        model, handle = trained(
            vectors[:, 3] + noise * np.ones(8), lambda w: w @ w == 1, lambda w: w @ matrix @ w, 1200
        )
        ends.append(float(model.w.detach() @ matrix @ model.w.detach()))
        assert handle.stationarity() <= 1e-7
    assert ends[1] == pytest.approx(values[0], abs=1e-8)
    assert ends[0] in (pytest.approx(values[3], abs=1e-8), pytest.approx(values[0], abs=1e-8))


@pytest.mark.parametrize("largest", [0.1, 2.2, 2.95, 1e6])
def test_matrices_far_from_orthonormal_go_to_the_nearest_one(largest: float) -> None:
    """Trap 12: the iteration of Newton and Schulz ends elsewhere beyond singular values of √3, and overflows."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2))
    start = left @ np.diag([largest, 1.0, 0.9, 0.8]) @ right
    model, _ = attached(start.tolist(), lambda w: [w.T @ w == np.eye(4)])
    np.testing.assert_allclose(model.w.detach().numpy(), left @ right, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["HS78", "HS79", "HS40", "HS56"])
def test_large_steps_are_shortened_and_end_on_the_set(name: str) -> None:
    """Traps 15 and 17: rates of 3, at which one Newton step after each step leaves the set."""
    problem = next(each for each in HOCK_SCHITTKOWSKI if each.name == name)
    model = one_weight(problem.start)
    stepper = optim.Adam(model.parameters(), lr=3.0)
    handle = affinet.project(model, stepper, problem.rules(affinet.weights(model).w))
    for _ in train(model, problem.loss, stepper, 40):
        assert bool(torch.isfinite(model.w).all())
        assert all(handle.violation()[name] <= limit for name, limit in allowed(handle, model).items())


def test_the_state_of_the_optimizer_is_left_alone() -> None:
    """Trap 16: momentum is not carried to the next tangent plane; the average is that of the projected gradients."""
    chosen = PROBLEMS["HS78"]
    model = chosen.model()
    stepper = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
    momentum = torch.zeros(5, dtype=torch.float64)
    for _ in range(5):
        stepper.zero_grad()
        chosen.loss(model.w).backward()
        stepper.step()
        momentum = 0.9 * momentum + model.w.grad
        torch.testing.assert_close(stepper.state[model.w]["momentum_buffer"], momentum, rtol=0, atol=1e-14)


def test_a_logarithm_whose_argument_would_turn_negative_stays_where_it_has_a_value() -> None:
    """Steps towards weights at which a function has no value are shortened or refused."""
    model = one_weight([1.0, 2.0])
    stepper = optim.SGD(model.parameters(), lr=1.0)
    handle = affinet.project(model, stepper, affinet.weights(model).w[0].log() + affinet.weights(model).w[1] == 0)
    for _ in range(30):
        model.w.grad = torch.tensor([5.0, 0.0], dtype=torch.float64)
        stepper.step()
        assert bool(torch.isfinite(model.w).all())
        assert float(model.w.detach()[0]) > 0.0
        assert max(handle.violation().values()) <= 1e-13


def test_high_powers_of_float32_weights_are_computed_in_float64() -> None:
    """`w**40` overflows float32 from 9.2 on."""
    model = one_weight([20.0, 2.0], torch.float32)
    stepper = optim.SGD(model.parameters(), lr=1e-3)
    handle = affinet.project(model, stepper, (affinet.weights(model).w ** 40).sum() == 1e52)
    for _ in range(5):
        stepper.zero_grad()
        model.w.square().sum().backward()
        stepper.step()
    assert model.w.detach().double().pow(40).sum().item() == pytest.approx(1e52, rel=40 * 4 * 6e-8)
    assert handle.violation()[next(iter(handle.violation()))] < 1e48
