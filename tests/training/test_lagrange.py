"""The augmented Lagrangian ends at the optimum of the constrained problem, with the prices of the rules as written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim

import affinet
from affinet import families
from affinet.errors import AttachError, InfeasibleError, LeftOutWarning
from tests.limits import limit_every_plan
from tests.training.curved_problems import PROBLEMS as CURVED
from tests.training.published_problems import PROBLEMS, Problem

OPTIMAL = 1e-5
"""What counts as the published value, relative to max(1, |f*|): as in benchmarks.hock_schittkowski."""
SETTLED = 1e-3
"""`‖∇f − Jᵀν‖ / ‖∇f‖` at the end: multipliers that are off by so much are off by 1e-6 in the value (their square)."""


def adam(parameters: Iterable[Tensor], rate: float) -> optim.Optimizer:
    return optim.Adam(parameters, lr=0.1 * rate)


def lbfgs(parameters: Iterable[Tensor], rate: float) -> optim.Optimizer:
    return optim.LBFGS(parameters, max_iter=20, line_search_fn="strong_wolfe", tolerance_grad=0.0, tolerance_change=0.0)


OPTIMIZERS: dict[str, tuple[Callable[..., optim.Optimizer], int]] = {"Adam": (adam, 1000), "LBFGS": (lbfgs, 40)}


def _hs43(x: Tensor) -> Tensor:
    squares = x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2
    return squares - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3]


def _rules_of_hs43(w: Any) -> list[Any]:
    a, b, c, d = (w[k] for k in range(4))
    return [
        8 - a**2 - b**2 - c**2 - d**2 - a + b - c + d >= 0,
        10 - a**2 - 2 * b**2 - c**2 - 2 * d**2 + a + d >= 0,
        5 - 2 * a**2 - b**2 - c**2 - 2 * a + b + d >= 0,
    ]


NONLINEAR_INEQUALITIES: dict[str, Problem] = {
    "HS12": Problem(
        np.zeros(2),
        lambda x: 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1],
        lambda w: [4 * w[0] ** 2 + w[1] ** 2 <= 25],
        -30.0,
    ),
    "HS29": Problem(
        np.ones(3),
        lambda x: -x[0] * x[1] * x[2],
        lambda w: [w[0] ** 2 + 2 * w[1] ** 2 + 4 * w[2] ** 2 <= 48],
        -16 * 2**0.5,
    ),
    "HS43": Problem(np.zeros(4), _hs43, _rules_of_hs43, -44.0),
}
GOLDEN: dict[str, Callable[[], Problem]] = {
    **{name: PROBLEMS[name] for name in ("nnls_sum", "rows<=", "HS21", "HS35", "HS44", "HS76", "HS86")},
    **{name: lambda name=name: CURVED[name] for name in ("HS7", "HS42", "HS60", "HS78", "orthonormal rows")},  # type: ignore[misc]
    **{name: lambda name=name: NONLINEAR_INEQUALITIES[name] for name in NONLINEAR_INEQUALITIES},  # type: ignore[misc]
}


def closure_of(model: nn.Module, optimizer: optim.Optimizer, loss: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model.w)  # type: ignore[arg-type]
        value.backward()
        return value

    return closure


def train(model: nn.Module, optimizer: optim.Optimizer, loss: Callable[[Tensor], Tensor], steps: int) -> None:
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    closure = closure_of(model, optimizer, loss)
    for _ in range(steps):
        if isinstance(optimizer, optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
            schedule.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", GOLDEN)
def test_published_optima_are_reached(name: str, optimizer: str) -> None:
    problem, (make, steps) = GOLDEN[name](), OPTIMIZERS[optimizer]
    model = problem.model()
    stepper = make(model.parameters(), problem.rate)
    handle = affinet.lagrange(model, stepper, problem.rules(affinet.weights(model).w))
    train(model, stepper, problem.loss, steps)
    assert handle.stationarity() < SETTLED
    if handle.plan is not None:
        handle.finish()
        assert max(handle.violation().values()) < 1e-12
    # HS12 and HS29 have no final return, and a violation of v costs |ν| v, with |ν| below 2 here
    assert max(handle.violation().values()) < OPTIMAL / 10
    found = float(problem.loss(model.w.detach()))
    assert abs(found - problem.optimum) <= OPTIMAL * max(1.0, abs(problem.optimum))


def least_distance(*rules: Callable[[Any], Any], maximize: bool = False, scale: float = 1.0, decay: float = 0.0) -> Any:
    """The weights nearest to (1, 2, 3) under rules, trained by Adam, and the handle."""
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    target = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    sign = -1.0 if maximize else 1.0
    optimizer = optim.Adam(model.parameters(), lr=0.1, maximize=maximize, weight_decay=decay)
    handle = affinet.lagrange(model, optimizer, [rule(affinet.weights(model).w) for rule in rules])
    train(model, optimizer, lambda w: sign * scale * 0.5 * (w - target).square().sum(), 1000)
    return model.w.detach(), handle


def test_prices_are_those_of_the_rules_as_written() -> None:
    """By hand: w = target + Aᵀν with A w = b; w[0] = 3 asks for ν₀ = 2, and 2 w[1] >= 6 for 2 ν₁ = 1."""
    w, handle = least_distance(lambda w: w[0] == 3, lambda w: 2 * w[1] >= 6, lambda w: w[2] <= 2, lambda w: w[2] <= 10)
    torch.testing.assert_close(w, torch.tensor([3.0, 3.0, 2.0], dtype=torch.float64), atol=1e-9, rtol=0)
    prices = {name: float(price) for name, price in handle.multipliers().items()}
    assert prices == {
        "w[0] == 3": pytest.approx(2.0, abs=1e-8),
        "2 * w[1] >= 6": pytest.approx(0.5, abs=1e-8),
        "w[2] <= 2": pytest.approx(-1.0, abs=1e-8),
        "w[2] <= 10": 0.0,
    }


def test_prices_of_what_is_maximized_are_reversed() -> None:
    w, handle = least_distance(lambda w: w[0] == 3, maximize=True)
    assert float(w[0]) == pytest.approx(3.0, abs=1e-9)
    # f = −½ |w − target|² is maximized: ∂f*/∂b = −2
    assert float(handle.multipliers()["w[0] == 3"]) == pytest.approx(-2.0, abs=1e-8)


def test_coupled_decay_is_a_part_of_the_loss() -> None:
    """½ |w − t|² + ½ λ |w|² with w[0] = 3 and λ = 0.5: w = t / 1.5 elsewhere, and ν = 3 − 1 + 0.5 · 3."""
    w, handle = least_distance(lambda w: w[0] == 3, decay=0.5)
    torch.testing.assert_close(w, torch.tensor([3.0, 2 / 1.5, 2.0], dtype=torch.float64), atol=1e-8, rtol=0)
    assert float(handle.multipliers()["w[0] == 3"]) == pytest.approx(3.5, abs=1e-8)
    assert handle.stationarity() < 1e-8


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_training_does_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    """Adam steps by g / (√v + ε) with ε = 1e-8, which is 1e-4 of gradients of this loss times 1e-4."""
    rules = (lambda w: w.sum() == 1, lambda w: w[0] >= 0.5)
    (w, handle), (scaled, other) = least_distance(*rules), least_distance(*rules, scale=scale)
    torch.testing.assert_close(w, scaled, atol=1e-6, rtol=0)
    for name, price in handle.multipliers().items():
        torch.testing.assert_close(price * scale, other.multipliers()[name], rtol=1e-4, atol=1e-6 * scale)


def test_rules_times_a_number_are_the_same_rules() -> None:
    plain, _ = least_distance(lambda w: w.sum() == 1)
    scaled, handle = least_distance(lambda w: 1000 * w.sum() == 1000)
    torch.testing.assert_close(plain, scaled, atol=1e-9, rtol=0)
    assert float(handle.multipliers()["1000 * w.sum() == 1000"]) == pytest.approx(-5 / 3 / 1000, abs=1e-8)


def test_prices_and_weights_are_those_of_project() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(50, 6, dtype=torch.float64), torch.randn(50, 4, dtype=torch.float64)
    ends, prices = [], []
    for method in (affinet.project, affinet.lagrange):
        torch.manual_seed(1)
        model = nn.Linear(6, 4).double()
        w = affinet.weights(model)
        rules = [
            (w.weight.sum(dim=1) == 1).named("sums"),
            (w.weight[:, 0] == w.weight[:, 1]).named("ties"),
            (w.bias >= 0).named("signs"),
        ]
        optimizer = optim.Adam(model.parameters(), lr=0.03)
        handle = method(model, optimizer, rules)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
        for _ in range(1500):
            optimizer.zero_grad()
            (model(inputs) - targets).square().mean().backward()
            optimizer.step()
            schedule.step()
        ends.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
        prices.append(handle.multipliers())
    torch.testing.assert_close(ends[0], ends[1], atol=1e-6, rtol=0)
    for name in prices[0]:
        torch.testing.assert_close(prices[0][name], prices[1][name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_of_fewer_bits(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(3, dtype=dtype))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    handle = affinet.lagrange(model, optimizer, affinet.weights(model).w.sum() == 1)
    target = torch.tensor([1.0, 2.0, 3.0])
    train(model, optimizer, lambda w: 0.5 * (w.float() - target).square().sum(), 600)
    handle.finish()
    expected = target - 5 / 3
    # the last steps of Adam with a cosine are below the spacing of bfloat16 near 1
    torch.testing.assert_close(model.w.detach().float(), expected, atol=8 * torch.finfo(dtype).eps, rtol=0)


def test_several_optimizers_share_rules() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    model.v = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizers = [optim.Adam([model.w], lr=0.05), optim.RMSprop([model.v], lr=0.05)]
    schedules = [optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500) for optimizer in optimizers]
    w = affinet.weights(model)
    handle = affinet.lagrange(model, optimizers, (w.w.sum() + w.v.sum() == 1).named("total"))
    for _ in range(1500):
        for optimizer in optimizers:
            optimizer.zero_grad()
        (0.5 * (model.w - 1).square().sum() + 0.5 * (model.v - 2).square().sum()).backward()
        for optimizer in optimizers:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
    expected = torch.tensor([-0.25, -0.25, 0.75, 0.75], dtype=torch.float64)
    torch.testing.assert_close(torch.cat([model.w, model.v]).detach(), expected, atol=1e-5, rtol=0)
    assert float(handle.multipliers()["total"]) == pytest.approx(-1.25, abs=1e-4)


def test_a_closure_is_the_loop_without_one() -> None:
    ends = []
    for with_closure in (False, True):
        model = nn.Module()
        model.w = nn.Parameter(torch.zeros(3))
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        affinet.lagrange(model, optimizer, affinet.weights(model).w.norm() == 1)
        closure = closure_of(model, optimizer, lambda w: (w - torch.arange(3.0)).square().sum())
        for _ in range(20):
            if with_closure:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
        ends.append(model.w.detach())
    assert torch.equal(*ends)


def test_closures_return_the_loss_with_the_terms() -> None:
    """The value that a line search compares has the gradient that it gets: by differences."""
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([0.5, 1.0], dtype=torch.float64))
    values: list[tuple[float, Tensor]] = []
    places = iter([[0.5, 1.0], [0.5 + 1e-6, 1.0], [0.5, 1.0 + 1e-6]])

    class Probe(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for place in places:
                model.w.data.copy_(torch.tensor(place, dtype=torch.float64))
                value = closure()
                values.append((float(value.detach()), model.w.grad.clone()))

    optimizer = Probe(model.parameters(), lr=0.1)
    w = affinet.weights(model).w
    rules = [w.norm() == 2, w[0] >= 0.75, w[1] <= 3, w.sum() >= 1.75]
    affinet.lagrange(model, optimizer, rules, feasible_start=False)
    optimizer.step(closure_of(model, optimizer, lambda w: w.exp().sum()))
    (value, gradient), *moved = values
    for place, (other, _) in enumerate(moved):
        # a forward difference is off by half the second derivative, below 100 here, times 1e-6
        assert (other - value) / 1e-6 == pytest.approx(float(gradient[place]), abs=1e-4)


def test_gradients_after_a_step_are_those_of_the_loss() -> None:
    model = nn.Module()
    model.w, model.v = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    w = affinet.weights(model)
    handle = affinet.lagrange(model, optimizer, w.w + w.v == 5, penalty=3, feasible_start=False)
    model.w.square().sum().backward()
    gradient = model.w.grad
    optimizer.step()
    assert model.w.grad is gradient
    assert gradient.tolist() == [2.0, 2.0, 2.0]
    assert model.v.grad is None
    assert model.v.tolist() != [1.0, 1.0, 1.0]  # the rules move it, too
    assert handle.violation()["w + v == 5"] < 3.0


def test_a_step_without_gradients_changes_nothing() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    handle = affinet.lagrange(model, optimizer, affinet.weights(model).weight == 1, feasible_start=False)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert not any(price.any() for price in handle.multipliers().values())


def test_hooks_that_run_twice_add_terms_once() -> None:
    class Twice(optim.SGD):
        @optim.Optimizer.profile_hook_step
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    ends = []
    for kind in (optim.SGD, Twice):
        model = nn.Module()
        model.w = nn.Parameter(torch.ones(2))
        optimizer = kind(model.parameters(), lr=0.1)
        affinet.lagrange(model, optimizer, affinet.weights(model).w == 3, penalty=3, feasible_start=False)
        for _ in range(3):
            optimizer.zero_grad()
            model.w.square().sum().backward()
            optimizer.step()
        ends.append(model.w.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_that_a_scaler_has_scaled(fused: bool) -> None:
    ends = []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(4, 2)
        optimizer = optim.Adam(model.parameters(), lr=0.01, fused=fused)
        handle = affinet.lagrange(model, optimizer, affinet.weights(model).weight.sum(dim=1) == 1)
        scaler = torch.amp.GradScaler("cpu", enabled=enabled, init_scale=2.0**10)
        for step in range(12):
            optimizer.zero_grad()
            loss = model(torch.ones(3, 4) * (1 + step)).square().mean()
            scaler.scale(loss).backward()
            if step == 6 and enabled:
                overflowing = model.weight.grad
                assert overflowing is not None
                overflowing[0, 0] = torch.inf  # the step is skipped, and so is its dual step
            elif step == 6:
                continue
            scaler.step(optimizer)
            scaler.update()
        ends.append((model.weight.detach().clone(), next(iter(handle.multipliers().values()))))
    (plain, price), (scaled, other) = ends
    # scaling by a power of two is exact; the unfused scaler multiplies by its inverse, exactly too
    torch.testing.assert_close(plain, scaled, atol=1e-6, rtol=0)
    torch.testing.assert_close(price, other, atol=1e-6, rtol=1e-6)


def test_frozen_weights_are_constants() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    model.v = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64), requires_grad=False)
    optimizer = optim.Adam([model.w], lr=0.05)
    w = affinet.weights(model)
    handle = affinet.lagrange(model, optimizer, [w.w @ w.v == 5, w.w[0] * w.v[0] <= 2])
    train(model, optimizer, lambda w: w.square().sum(), 1000)
    # nearest to 0 with 3 a + 4 b = 5: (0.6, 0.8), and 3 · 0.6 <= 2
    torch.testing.assert_close(model.w.detach(), torch.tensor([0.6, 0.8], dtype=torch.float64), atol=1e-8, rtol=0)
    assert model.v.tolist() == [3.0, 4.0]
    assert model.v.grad is None
    handle.finish(partial=True)
    assert model.v.tolist() == [3.0, 4.0]


def resumed_model() -> tuple[nn.Module, optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    return model, optim.Adam(model.parameters(), lr=0.01)


def resumed_rules(model: nn.Module) -> list[Any]:
    w = affinet.weights(model)

    def first_output(output: Tensor) -> Tensor:
        return output[output[:, 1] > 0, 0]

    return [
        (w[0].weight.square().sum(dim=1) == 1).named("lengths"),
        (w[2].weight >= -0.1).named("bound"),
        (affinet.expectation(first_output) <= 0.05).named("mean"),
    ]


def one_epoch(model: nn.Module, optimizer: optim.Optimizer, handle: affinet.LagrangeHandle, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(25):
        x = torch.randn(8, 5, generator=generator)
        optimizer.zero_grad()
        output = model(x)
        (output.square().mean() - output.mean() + handle.terms(output)).backward()
        optimizer.step()


def test_a_resumed_training_has_the_same_bits() -> None:
    model, optimizer = resumed_model()
    handle = affinet.lagrange(model, optimizer, resumed_rules(model))
    one_epoch(model, optimizer, handle, 1)
    saved = {k: v.clone() for k, v in model.state_dict().items()}, optimizer.state_dict(), handle.state_dict()
    saved = torch.load(_buffer(saved), weights_only=True)
    one_epoch(model, optimizer, handle, 2)

    other, stepper = resumed_model()
    other.load_state_dict(saved[0])
    stepper.load_state_dict(saved[1])
    again = affinet.lagrange(other, stepper, resumed_rules(other), feasible_start=False)
    again.load_state_dict(saved[2])
    one_epoch(other, stepper, again, 2)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])
    prices, others = handle.multipliers(), again.multipliers()
    assert all(torch.equal(price, others[name]) for name, price in prices.items())


def _buffer(state: Any) -> Any:
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def test_states_of_other_trainings_are_refused() -> None:
    model, optimizer = resumed_model()
    handle = affinet.lagrange(model, optimizer, resumed_rules(model)[:1])
    state = handle.state_dict()
    with pytest.raises(AttachError, match=r"is not the state of a handle of affinet\.lagrange"):
        handle.load_state_dict({"rules": ["lengths"]})
    with pytest.raises(AttachError, match="had other rules"):
        handle.load_state_dict({**state, "rules": ["other"]})
    fewer = {**state["weights"], "multipliers": torch.zeros(1)}
    with pytest.raises(AttachError, match="their number is another"):
        handle.load_state_dict({**state, "weights": fewer})
    with pytest.raises(AttachError, match="the number of expectations is another"):
        handle.load_state_dict({**state, "expectations": {"rules": [{}], "calls": 1}})


def test_watching_changes_no_bits_and_observes_every_step() -> None:
    ends = []
    for watched in (False, True):
        model, optimizer = resumed_model()
        handle = affinet.lagrange(model, optimizer, resumed_rules(model))
        watch = handle.watch(every=5, multipliers=True) if watched else None
        one_epoch(model, optimizer, handle, 1)
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    assert watch is not None
    assert [observation.step for observation in watch.history] == [0, 5, 10, 15, 20]
    last = watch.history[-1]
    assert last.violation.keys() == last.multipliers.keys() == {"lengths", "bound", "mean"}
    assert last.projection_distance == 0.0 < last.step_length
    assert last.stationarity is not None
    watch.stop()
    assert not watch.active


def test_the_report_has_the_learned_prices() -> None:
    _, handle = least_distance(lambda w: (w[0] == 3).named("first"), lambda w: (w[2] <= 2).named("third"))
    report = handle.report()
    assert [rule.name for rule in report.rules] == ["first", "third"]
    assert [rule.change for rule in report.rules] == [pytest.approx(-0.02, abs=1e-8), pytest.approx(-0.01, abs=1e-8)]


def test_the_first_weights_are_the_nearest_that_satisfy_the_rules() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    w = affinet.weights(model).w
    handle = affinet.lagrange(model, optim.Adam(model.parameters()), [w.norm() == 1])
    torch.testing.assert_close(model.w.detach(), torch.tensor([0.6, 0.8], dtype=torch.float64), atol=1e-15, rtol=0)
    assert handle.moved["w"] == pytest.approx(4.0)
    handle.remove()
    handle = affinet.lagrange(model, optim.Adam(model.parameters()), [w == 2], feasible_start=False)
    assert handle.moved == {"w": 0.0}
    assert handle.finish()["w"] > 1.0
    assert model.w.tolist() == [2.0, 2.0]


def test_what_no_plan_holds_is_approached_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disc with a bound on the same weights, and a nonlinear inequality, of more coefficients than a plan takes."""
    limit_every_plan(monkeypatch, most_mixed=3)
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([1.0, 0.5], dtype=torch.float64))
    w = affinet.weights(model).w
    rules = [(w.norm() == 1).named("circle"), (w[1] >= 0.8).named("bound"), (w[0] * w[1] <= 0.3).named("product")]
    optimizer = optim.Adam(model.parameters(), lr=0.03)
    handle = affinet.lagrange(model, optimizer, rules)
    assert handle.plan is not None
    assert [rule.name for rule in handle.plan.system.every] == ["bound", "circle"]
    train(model, optimizer, lambda w: -w[0], 1500)
    # the largest x with x² + y² = 1 and x y <= 0.3, for y >= 0.8: y = √((1 + √(1 − 0.36)) / 2) = √0.9
    expected = torch.tensor([0.1**0.5, 0.9**0.5], dtype=torch.float64)
    torch.testing.assert_close(model.w.detach(), expected, atol=1e-6, rtol=0)
    with torch.no_grad():
        model.w.copy_(torch.tensor([0.5, 0.9]))  # its nearest point on the circle has the product 0.42
    with pytest.raises(AttachError, match=r'weights cannot be moved onto "product" \(violated by 0.125\)'):
        handle.finish()
    with pytest.warns(LeftOutWarning, match='violate "product"'):
        handle.finish(partial=True)
    assert handle.violation()["circle"] < 1e-15
    assert handle.violation()["bound"] == 0.0


def test_a_start_without_a_way_to_the_rules_stays() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    handle = affinet.lagrange(model, optim.Adam(model.parameters()), [affinet.weights(model).w ** 2 == -1])
    assert model.w.tolist() == [2.0]
    with pytest.raises(InfeasibleError, match="no weights that satisfy this rule were found"):
        handle.finish()


def test_rules_that_contradict_each_other_are_refused() -> None:
    model = nn.Linear(2, 2)
    w = affinet.weights(model).weight
    with pytest.raises(InfeasibleError):
        affinet.lagrange(model, optim.Adam(model.parameters()), [w == 1, w == 2])


def test_other_rules_on_the_same_optimizer_are_refused() -> None:
    model = nn.Linear(2, 2)
    optimizer = optim.Adam(model.parameters())
    rule = affinet.weights(model).weight == 1
    handle = affinet.lagrange(model, optimizer, rule)
    assert handle.attached_to(optimizer)
    with pytest.raises(AttachError, match="already keeps rules"):
        affinet.project(model, optimizer, rule)
    handle.remove()
    handle.remove()
    assert not handle.attached_to(optimizer)
    affinet.project(model, optimizer, rule)


def test_large_linear_rules_take_no_matrix() -> None:
    """A million entries and 2,048 sums, planned or not; J has two million numbers and its Gram four million."""
    model = nn.Linear(1024, 1024, bias=False)
    w = affinet.weights(model).weight
    optimizer = optim.SGD(model.parameters(), lr=0.02)
    rules = [(w.sum(dim=1) == 1).named("rows"), (w.sum(dim=0) == 1).named("columns")]
    handle = affinet.lagrange(model, optimizer, rules, penalty=3.0, feasible_start=False)
    before = max(handle.violation().values())
    for _ in range(60):
        optimizer.zero_grad()
        (0.5 * model.weight.square().sum()).backward()
        optimizer.step()
    assert max(handle.violation().values()) < 0.5 * before
    assert handle.multipliers()["columns"].shape == (1024,)


def test_plans_and_families_are_taken() -> None:
    model = nn.Linear(3, 2)
    plan = affinet.plan(families.simplex(affinet.weights(model).weight, dim=1))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    handle = affinet.lagrange(model, optimizer, plan)
    assert handle.plan is plan
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
    handle.finish()
    assert float(model.weight.detach().min()) >= 0.0
