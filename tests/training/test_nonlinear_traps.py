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
from affinet.blocks.curved import Curved
from affinet.blocks.curved_set import RETURNS, TOLERANCE
from affinet.blocks.large_curved_set import LargeCurvedSet
from affinet.blocks.programs.linear_part import linear_part
from affinet.blocks.programs.tangent_solver import factored, projected
from benchmarks.hock_schittkowski import PROBLEMS as HOCK_SCHITTKOWSKI
from benchmarks.hock_schittkowski import Problem
from tests.limits import planned
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


def random_polynomials(count: int, entries: int) -> tuple[np.ndarray, Callable[[Any], Any]]:
    """A point, and equations `a x_i x_j + b x_k² + d x_l` that hold there: one component, which is solved sparsely."""
    random = np.random.default_rng(1)
    i, j, k, last = np.stack([random.choice(entries, 4, replace=False) for _ in range(count)]).T
    i[1:] = last[:-1]
    a, b, d = random.normal(size=(3, count))

    def sides(w: Any) -> Any:
        return a * w[i] * w[j] + b * w[k] ** 2 + d * w[last]

    point = random.normal(size=entries)
    return point, lambda w: sides(w) == sides(point)


SPARSE = {"dense_curved": 0}
"""Limits by which components are solved by sparse factors."""


@pytest.mark.parametrize("drift", [0.3, 1.0])
def test_a_factor_of_an_earlier_point_leads_back_all_the_same(drift: float) -> None:
    """Trap 13: used as if it were that of the present point, a stale factor leads away, up to overflow."""
    start, rules = random_polynomials(150, 400)
    plan = planned(rules(affinet.weights({"w": start}).w), **SPARSE)
    (block,) = plan.blocks
    assert isinstance(block, Curved)
    assert isinstance(block.set, LargeCurvedSet)
    large, columns = block.set, block.entries.columns(np.arange(block.size), plan.system.layout)
    x = start[columns if block.order is None else columns[block.order]]
    part = linear_part(large.program, large.written, x)
    factor = factored(part)
    moved = x + projected(part, drift * np.random.default_rng(0).standard_normal(len(x)), factor)
    there, chord, sizes = linear_part(large.program, large.written, moved), moved, []
    with np.errstate(all="ignore"):
        for _ in range(RETURNS):
            now = linear_part(large.program, large.written, chord)
            violation = now.values * now.norms / there.norms
            sizes.append(float(np.linalg.norm(violation)))
            chord = chord - there.transposed(factor.solve(violation))
    assert not sizes[-1] <= 1e3 * sizes[0]  # nan after an overflow
    back = large.returned(moved, RETURNS, factor)
    assert back.arrives
    assert back.part.excess(TOLERANCE * 2.0**-53) <= 1.0


def test_large_components_stay_on_their_set_at_large_steps() -> None:
    """Trap 13, in training: each step of 0.1 moves the weights far from the point of the factor."""
    start, rules = random_polynomials(150, 400)
    model = one_weight(start)
    stepper = optim.Adam(model.parameters(), lr=0.1)
    handle = affinet.project(model, stepper, planned(rules(affinet.weights(model).w), **SPARSE))
    for _ in train(model, lambda w: (w - 1).square().sum(), stepper, 20):
        assert all(handle.violation()[name] <= limit for name, limit in allowed(handle, model).items())


def test_derivatives_of_rules_are_those_of_their_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 14: `vmap(jacrev(...))` took 120 times as long for 10⁴ determinants; no step differentiates a function."""
    start = np.random.default_rng(0).standard_normal((20, 2, 2)) + 2.0 * np.eye(2)
    model = one_weight(start)
    stepper = optim.SGD(model.parameters(), lr=0.1)
    target = np.linalg.det(start)
    handle = affinet.project(model, stepper, affinet.weights(model).w.det() == target)
    gradient = torch.from_numpy(np.random.default_rng(1).standard_normal(start.shape))
    derivatives = torch.func.vmap(torch.func.jacrev(torch.linalg.det))(model.w.detach())

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("a rule of the language is differentiated as a function")

    for module, name in (
        (torch.func, "jacrev"),
        (torch.func, "jacfwd"),
        (torch.func, "vjp"),
        (torch.func, "vmap"),
        (torch.autograd, "grad"),
        (torch.autograd.functional, "jacobian"),
    ):
        monkeypatch.setattr(module, name, refused)
    model.w.grad = gradient.clone()
    stepper.step()
    unit = derivatives / derivatives.square().sum((1, 2), keepdim=True).sqrt()
    tangent = gradient - (unit * gradient).sum((1, 2), keepdim=True) * unit
    # Projected twice, each time with a rounding of some spacings of the four numbers of a cell.
    torch.testing.assert_close(model.w.grad, tangent, rtol=0, atol=16 * 2.0**-52 * float(gradient.abs().max()))
    assert all(handle.violation()[name] <= limit for name, limit in allowed(handle, model).items())


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


def by_hand(problem: Problem, gradient: Callable[[Tensor, int], Tensor], steps: int, rate: float) -> float:
    """`|P g| / max(1, |g|)` after steps of Adam from the published start with a gradient that is made by hand."""
    w = torch.nn.Parameter(torch.tensor(problem.start, dtype=torch.float64))
    stepper = optim.Adam([w], lr=rate)
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, steps)
    for step in range(steps):
        w.grad = gradient(w.detach(), step)
        stepper.step()
        schedule.step()
    return problem.check(w).stationarity


@pytest.mark.parametrize("name", ["HS78", "HS79"])
def test_what_leads_back_to_the_set_does_not_pass_through_the_optimizer(name: str) -> None:
    """Trap 18: `P g + μ Jᵀc` through Adam, which brings both to one size, rests elsewhere: 81, 49, 18 of 216 starts."""
    problem = next(each for each in HOCK_SCHITTKOWSKI if each.name == name)

    def landing(w: Tensor, step: int) -> Tensor:
        derivatives, g = torch.func.jacrev(problem.residuals)(w), torch.func.grad(problem.loss)(w)
        normal = derivatives.T @ torch.linalg.lstsq(derivatives.T, g[:, None]).solution[:, 0]
        return g - normal + 100.0 * derivatives.T @ problem.residuals(w)

    assert by_hand(problem, landing, 1500, 0.03) > 1e-3
    model, handle = trained(problem.start, problem.rules, problem.loss, 1500)
    assert problem.check(model.w).is_kkt
    assert all(handle.violation()[name] <= limit for name, limit in allowed(handle, model).items())


@pytest.mark.parametrize("name", ["HS40", "HS78", "HS79"])
def test_penalties_are_in_units_of_each_equation(name: str) -> None:
    """Trap 19: with one ρ for all equations, of which one is written times 1000, multipliers rest elsewhere."""
    problem = next(each for each in HOCK_SCHITTKOWSKI if each.name == name)
    start = torch.tensor(problem.start, dtype=torch.float64)
    scales = torch.ones_like(problem.residuals(start))
    scales[0] = 1000.0
    penalty = 30.0 * float(torch.func.grad(problem.loss)(start).norm()) / max(1.0, float(start.norm()))
    multipliers = torch.zeros_like(scales)

    def unscaled(w: Tensor, step: int) -> Tensor:
        derivatives, c = torch.func.jacrev(problem.residuals)(w), scales * problem.residuals(w)
        if step:  # the dual step of the weights that the last step led to
            multipliers.add_(0.03 * penalty * c)
        return torch.func.grad(problem.loss)(w) + (scales[:, None] * derivatives).T @ (multipliers + penalty * c)

    assert by_hand(problem, unscaled, 1000, 0.1) > 1e-3
    model = one_weight(problem.start)
    stepper = optim.Adam(model.parameters(), lr=0.1)
    written = problem.rules(affinet.weights(model).w)
    rules = [float(scale) * rule.expression == 0 for scale, rule in zip(scales, written, strict=True)]
    handle = affinet.lagrange(model, stepper, rules)
    for _ in train(model, problem.loss, stepper, 1000):
        pass
    handle.finish()
    assert problem.check(model.w).is_kkt


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
