"""Training on nonlinear equations: published optima under every optimizer, exact after each step, and the traps."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.errors import AttachError, InfeasibleError, RuleError
from tests.training.curved_problems import PROBLEMS

Make = Callable[[Any, float], optim.Optimizer]
OPTIMIZERS: dict[str, tuple[Make, int, float]] = {
    "Adam": (lambda p, rate: optim.Adam(p, lr=0.03 * rate), 1200, 1e-8),
    "AdamW": (lambda p, rate: optim.AdamW(p, lr=0.03 * rate, weight_decay=0.0), 1200, 1e-8),
    "RMSprop": (lambda p, rate: optim.RMSprop(p, lr=0.01 * rate), 1200, 1e-8),
    "SGD": (lambda p, rate: optim.SGD(p, lr=0.01 * rate, momentum=0.9), 1200, 1e-8),
    "Adagrad": (lambda p, rate: optim.Adagrad(p, lr=0.3 * rate), 1200, 1e-8),
    "LBFGS": (lambda p, rate: optim.LBFGS(p, max_iter=20, line_search_fn="strong_wolfe"), 40, 1e-8),
}
"""Optimizer, steps, and the relative gap at which it ends."""


def train(
    model: torch.nn.Module, loss: Callable[[Tensor], Tensor], optimizer: optim.Optimizer, steps: int
) -> Iterator[None]:
    """Yield after each step; learning rates fall along half a cosine, except those of LBFGS."""
    searching = isinstance(optimizer, optim.LBFGS)
    schedule = None if searching else optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model.w)
        value.backward()
        return value

    for _ in range(steps):
        if searching:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        if schedule is not None:
            schedule.step()
        yield


def allowed(handle: affinet.Handle, model: torch.nn.Module) -> dict[str, float]:
    """Rule name → `8 u (Σ|terms| + Σ|∂c/∂w_j||w_j|)` of its largest equation."""
    from affinet.planning.curved.linearizing import sizes_and_reach

    system = handle.plan.system
    weights = {"w": model.w.detach().double().numpy()}
    limits = {}
    for number in system.curved_rules:
        sizes, reach = sizes_and_reach(system, [number], weights, np.abs(weights["w"]).ravel())
        u = torch.finfo(model.w.dtype).eps / 2
        limits[system.rule(number).name] = float((8 * u * (reach + sizes)).max())
    return limits


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_published_optima_are_reached(problem: str, optimizer: str) -> None:
    make, steps, gap = OPTIMIZERS[optimizer]
    chosen = PROBLEMS[problem]
    model = chosen.model()
    stepper = make(model.parameters(), chosen.rate)
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
    for step, _ in enumerate(train(model, chosen.loss, stepper, steps)):
        if step % 50 == 0:
            limits = allowed(handle, model)
            assert all(handle.violation()[name] <= limit for name, limit in limits.items())
    found = float(chosen.loss(model.w.detach()))
    assert abs(found - chosen.optimum) <= gap * max(1.0, abs(chosen.optimum))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_weights_of_fewer_bits_hold_to_their_rounding(dtype: torch.dtype) -> None:
    chosen = PROBLEMS["sum of eigenvalues"]
    model = chosen.model(dtype)
    stepper = optim.Adam(model.parameters(), lr=0.01, eps=1e-4)
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
    for _ in train(model, lambda w: chosen.loss(w.float()), stepper, 100):
        limits = allowed(handle, model)
        assert all(handle.violation()[name] <= limit for name, limit in limits.items())


def test_prices_are_derivatives_of_the_optimum() -> None:
    chosen = PROBLEMS["HS78"]

    def solve(shift: float) -> tuple[float, np.ndarray]:
        model = chosen.model()
        stepper = optim.Adam(model.parameters(), lr=0.03)
        first, *others = chosen.rules(affinet.weights(model).w)
        rules = [first, *others]
        if shift:
            rules[0] = affinet.weights(model).w @ affinet.weights(model).w == 10 + shift
        handle = affinet.project(model, stepper, [rule.named(str(k)) for k, rule in enumerate(rules)])
        for _ in train(model, chosen.loss, stepper, 1200):
            pass
        return float(chosen.loss(model.w.detach())), handle.multipliers()["0"].numpy()

    (upper, _), (lower, _), (_, price) = solve(1e-3), solve(-1e-3), solve(0.0)
    assert float(price) == pytest.approx((upper - lower) / 2e-3, abs=1e-6)


@pytest.mark.parametrize("problem", ["least eigenvalue", "orthonormal rows"])
def test_decay_changes_nothing_where_it_is_normal_to_the_set(problem: str) -> None:
    """Trap 3: on lengths and orthonormal rows, coupled decay is a multiple of the normal."""
    chosen = PROBLEMS[problem]
    ends = []
    for decay in (0.0, 0.1):
        model = chosen.model()
        stepper = optim.Adam(model.parameters(), lr=0.03, weight_decay=decay)
        affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
        for _ in train(model, chosen.loss, stepper, 1200):
            pass
        ends.append(float(chosen.loss(model.w.detach())))
    assert ends[0] == pytest.approx(ends[1], abs=1e-9)
    assert ends[0] == pytest.approx(chosen.optimum, abs=1e-8)


def attached(start: list[float], rules: Callable[[Any], list[Any]]) -> tuple[torch.nn.Module, affinet.Handle]:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    return model, affinet.project(model, optim.SGD(model.parameters(), lr=0.1), rules(affinet.weights(model).w))


def test_equations_said_twice_at_two_scales_hold() -> None:
    """Trap 4: no absolute number says when an equation holds."""
    model, handle = attached([1.0, 2.0, 3.0], lambda w: [w @ w == 1, 1e6 * (w @ w) == 1e6])
    assert handle.violation()["w @ w == 1"] <= 4e-15
    assert float(model.w.detach().norm()) == pytest.approx(1.0, abs=2e-15)


def test_a_singular_start_is_left_by_a_small_move() -> None:
    """Trap 7: HS61 from zero, where |Jᵀc| vanishes and |c| does not."""
    model, handle = attached([0.0, 0.0, 0.0], lambda w: [3 * w[0] - 2 * w[1] ** 2 == 7, 4 * w[0] - w[2] ** 2 == 11])
    assert max(handle.violation().values()) <= 1e-14
    assert float(model.w[0].detach()) >= 2.75


@pytest.mark.parametrize("start", [[2.0], [0.0], [-1e6]])
def test_equations_without_solutions_are_refused_and_change_nothing(start: list[float]) -> None:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    with pytest.raises(InfeasibleError, match=r"no weights that satisfy this rule were found from the present ones"):
        affinet.project(model, optim.SGD(model.parameters(), lr=0.1), [affinet.weights(model).w ** 2 == -1])
    assert model.w.detach().tolist() == start


def test_a_refusal_has_the_point_of_the_least_violation_and_its_gradient() -> None:
    with pytest.raises(
        InfeasibleError, match=r"near them is 1, with a gradient of \S+, at w\[0\] = \S+\. Nothing"
    ) as refused:
        attached([2.0], lambda w: [w**2 == -1])
    numbers = re.search(r"a gradient of (\S+), at w\[0\] = (\S+)\. Nothing", str(refused.value))
    assert numbers is not None
    # Where x² + 1 is least its gradient 2x (x² + 1) vanishes; the search stops where both are small.
    assert all(abs(float(number)) <= 1e-3 for number in numbers.groups())


def test_a_function_without_a_value_at_the_weights_is_refused() -> None:
    with pytest.raises(InfeasibleError, match=r'At the weights "log\(w\[0\]\) == 0" has no finite value: a logarithm'):
        attached([-1.0, 2.0], lambda w: [w[0].log() == 0])


def test_balls_of_the_same_weights_and_metrics_are_refused() -> None:
    with pytest.raises(RuleError, match=r"both read w\[0\]"):
        attached([1.0, 2.0], lambda w: [w.norm() == 1, families.l1_ball(w, 1.0)])
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    rules = [affinet.weights(model).w.norm() == 1]
    with pytest.raises(AttachError, match=r"nonlinear\. Returning to them in"):
        affinet.project(model, optim.Adam(model.parameters()), rules, metric="optimizer")
    with pytest.raises(AttachError, match="nonlinear equations"):
        affinet.reparametrize(model, rules)


@pytest.mark.filterwarnings("ignore::affinet.ShortenedStepsWarning", "ignore::affinet.SlowReturnWarning")
def test_a_step_that_leads_nowhere_is_given_up() -> None:
    """A step onto the cusp of y² = x³, beyond which there is no point, keeps the weights on the set."""
    model, handle = attached([1.0, 1.0], lambda w: [w[1] ** 2 == w[0] ** 3])
    stepper = optim.SGD(model.parameters(), lr=0.5)
    handle.remove()
    handle = affinet.project(model, stepper, handle.plan)
    for _ in range(50):
        model.w.grad = torch.tensor([1.0, 0.0], dtype=torch.float64)
        stepper.step()
        x, y = model.w.detach().tolist()
        assert abs(y * y - x**3) <= 1e-14
        assert x >= -1e-6


def test_freezing_makes_constants_of_the_weights_of_a_product() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 4)).double()
    w = affinet.weights(model)
    rules = [(w[0].weight ** 2).sum(dim=1) == 1, (w[1].weight @ w[0].weight)[0, 1] == 0.3]
    model[1].requires_grad_(False)
    stepper = optim.Adam(model.parameters(), lr=0.01)
    handle = affinet.project(model, stepper, rules)
    frozen = model[1].weight.detach().clone()
    for thawed in (False, True):
        model[1].requires_grad_(thawed)
        for _ in range(3):
            stepper.zero_grad()
            model(torch.ones(2, 4, dtype=torch.float64)).square().mean().backward()
            stepper.step()
            assert max(handle.violation().values()) <= 1e-14
        assert torch.equal(model[1].weight, frozen) is not thawed


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("problem", ["HS78", "least eigenvalue", "orthonormal rows"])
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(problem: str, dtype: torch.dtype) -> None:
    chosen = PROBLEMS[problem]

    def made() -> tuple[torch.nn.Module, optim.Optimizer, affinet.Handle]:
        model = chosen.model(dtype)
        stepper = optim.Adam(model.parameters(), lr=0.01)
        return model, stepper, affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))

    def steps(model: torch.nn.Module, stepper: optim.Optimizer, count: int) -> None:
        for _ in range(count):
            stepper.zero_grad()
            chosen.loss(model.w).backward()
            stepper.step()

    model, stepper, handle = made()
    steps(model, stepper, 10)
    saved = model.state_dict()["w"].clone(), copy.deepcopy(stepper.state_dict()), copy.deepcopy(handle.state_dict())
    steps(model, stepper, 10)
    other, again, resumed = made()
    other.load_state_dict({"w": saved[0]})
    again.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    steps(other, again, 10)
    assert torch.equal(other.w, model.w)


def test_a_skipped_step_changes_no_bit() -> None:
    chosen = PROBLEMS["orthonormal rows"]
    model = chosen.model(torch.float32)
    stepper = optim.SGD(model.parameters(), lr=0.01)
    affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    before = model.w.detach().clone()
    for _ in range(3):
        stepper.zero_grad()
        scaler.scale(chosen.loss(model.w) * 1e10).backward()
        scaler.step(stepper)
        scaler.update()
    assert torch.equal(model.w.detach(), before)


def test_two_optimizers_keep_a_product_of_their_layers() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(3, 4, bias=False)).double()
    w = affinet.weights(model)
    steppers = [optim.SGD(model[0].parameters(), lr=0.05), optim.Adam(model[1].parameters(), lr=0.02)]
    handle = affinet.project(model, steppers, (w[1].weight @ w[0].weight)[:2, 0] == [0.3, -0.2])
    x = torch.randn(16, 4, dtype=torch.float64)
    for step in range(600):
        for stepper in steppers:
            stepper.zero_grad()
            for group in stepper.param_groups:
                group["lr"] = (0.05 if stepper is steppers[0] else 0.02) * (1 - step / 600)
        (model(x) - x).square().mean().backward()
        for stepper in steppers:
            stepper.step()
            assert max(handle.violation().values()) <= 1e-14
    assert handle.stationarity() <= 1e-2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("family", "size"), [(families.involution, 3), (families.projection_matrix, 6)])
def test_equations_that_lose_rank_on_their_set_are_reached(family: Callable[..., Any], size: int, seed: int) -> None:
    """`W² = I` and `W² = W` have fewer independent derivatives at their solutions than around them."""
    model = torch.nn.Module()
    start = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    model.w = torch.nn.Parameter(start.clone())
    stepper = optim.Adam(model.parameters(), lr=0.01)
    handle = affinet.project(model, stepper, family(affinet.weights(model).w))
    for _ in train(model, lambda w: (w - start).square().sum(), stepper, 20):
        assert max(handle.violation().values()) <= 1e-13
