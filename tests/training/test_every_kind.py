"""Train under all kinds of inequalities at once, in the ways in which people train: every step is feasible."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import affinet
from affinet import families
from tests.training.every_kind import EveryKind, optimum, rules_of, violation

UNIT = 2.0**-53
FEASIBLE = 16 * UNIT
"""Sums of up to seven products of numbers below two, rounded once each and once more as weights."""
GAP = 1e-9
"""Above the least loss, relative to the fall: what is asked of every optimizer that shrinks its steps."""
Make = Callable[[Any], optim.Optimizer]


def adam(parameters: Any) -> optim.Optimizer:
    return optim.Adam(parameters, lr=0.05)


def sgd(parameters: Any) -> optim.Optimizer:
    return optim.SGD(parameters, lr=0.1, momentum=0.5)


def attached(make: Make = adam, rules: Any = None, **options: Any) -> tuple[EveryKind, Any, affinet.Handle]:
    model = EveryKind()
    optimizer = make(model.parameters())
    return model, optimizer, affinet.project(model, optimizer, rules or rules_of(model), **options)


def bits(model: EveryKind) -> Tensor:
    return model.flat().detach().clone()


def check_feasible(model: EveryKind) -> None:
    assert violation(bits(model).numpy()) <= FEASIBLE


def gap(model: EveryKind) -> float:
    """Above the least loss, relative to the start."""
    (_, least), start = optimum(), EveryKind()
    return (float(model().detach()) - least) / (float(start().detach()) - least)


def step(model: EveryKind, optimizer: Any, change: Callable[[], None] = lambda: None) -> None:
    optimizer.zero_grad()
    model().backward()
    change()
    optimizer.step()


def train(
    model: EveryKind,
    optimizer: Any,
    steps: int = 300,
    schedule: Any = None,
    change: Callable[[int], None] | None = None,
) -> None:
    """Steps at rates that fall as a cosine, or by a schedule, feasible after each; `change` writes to gradients."""
    for group in optimizer.param_groups:
        group.pop("initial_lr", None)
    schedule = (schedule or (lambda o: optim.lr_scheduler.CosineAnnealingLR(o, steps)))(optimizer)
    for k in range(steps):
        step(model, optimizer, lambda k=k: change(k) if change else None)
        schedule.step()
        check_feasible(model)


def gradients(model: EveryKind) -> Iterable[Tensor]:
    return (p.grad for p in model.parameters() if p.grad is not None)


# Implementations of a step

WAYS: dict[str, Make] = {
    "one by one": lambda p: optim.Adam(p, lr=0.05, foreach=False),
    "foreach": lambda p: optim.Adam(p, lr=0.05, foreach=True),
    "fused": lambda p: optim.Adam(p, lr=0.05, fused=True),
    "rate in a tensor": lambda p: optim.Adam(p, lr=torch.tensor(0.05, dtype=torch.float64)),
    "fused SGD": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "Nesterov": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_implementation_of_a_step_ends_at_the_optimum(way: str) -> None:
    model, optimizer, handle = attached(WAYS[way])
    train(model, optimizer)
    assert gap(model) <= GAP
    # A loss that is 1e-13 above the best, of curvature one, has a gradient of 1e-6.5.
    assert handle.stationarity() <= 1e-6
    active = handle.active()
    assert all(active[name].count > 0 for name in ("simplex [nonnegative]", "order", "sides", "norms", "box [upper]"))


@pytest.mark.filterwarnings("ignore:.*(lru_cache|Profiler record function)")  # torch's own, of an optimizer's step
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_model_and_a_compiled_step_end_at_the_optimum() -> None:
    torch._dynamo.reset()
    model, optimizer, _ = attached(sgd)
    compiled: Any = torch.compile(model, backend="aot_eager")
    compiled_step = torch.compile(optimizer.step, backend="aot_eager")
    for _ in range(200):
        optimizer.zero_grad()
        compiled().backward()
        compiled_step()
        check_feasible(model)
    torch._dynamo.reset()
    assert gap(model) <= GAP


@pytest.mark.parametrize("fused", [True, False])
def test_steps_that_a_scaler_skips_change_neither_weights_nor_what_was_learned(fused: bool) -> None:
    model, optimizer, handle = attached(lambda p: optim.Adam(p, lr=0.05, fused=fused))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for k in range(300):
        optimizer.zero_grad()
        scaler.scale(model()).backward()
        overflows = k in (0 if fused else 2, 5, 50)  # torch warns of schedules before a step
        before, learned = bits(model), copy.deepcopy(handle.state_dict()["inequalities"])
        if overflows:
            model.shares.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        if overflows:
            assert torch.equal(bits(model), before)
            assert same(handle.state_dict()["inequalities"], learned)
        schedule.step()
        check_feasible(model)
    assert gap(model) <= GAP


def same(first: Any, second: Any) -> bool:
    """Whether two states have the same bits."""
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def test_accumulated_gradients_are_one_step() -> None:
    (model, optimizer, _), (other, other_optimizer, _) = attached(), attached()
    for _ in range(30):
        optimizer.zero_grad()
        for _ in range(4):
            (model() / 4).backward()
        optimizer.step()
        step(other, other_optimizer)
    assert torch.equal(bits(model), bits(other))  # a quarter is exact, and so is the sum of four


# Several optimizers, and weights that come and go


@pytest.mark.parametrize("when", ["together", "one after the other", "one less often"])
def test_two_optimizers_share_the_weights_of_a_polyhedron(when: str) -> None:
    model = EveryKind()
    pair: list[optim.Optimizer] = [
        optim.Adam([model.left, model.heights, model.shares], lr=0.05),
        optim.RMSprop([model.right, model.filters, model.bias, model.tied], lr=0.02),
    ]
    affinet.project(model, pair, rules_of(model))
    schedules = [optim.lr_scheduler.CosineAnnealingLR(optimizer, 400) for optimizer in pair]
    for k in range(400):
        for number, optimizer in enumerate(pair):
            if number == 0 or when == "one after the other":
                model.zero_grad()
                model().backward()
            if number == 0 or k % 2 == 0 or when != "one less often":
                optimizer.step()
                check_feasible(model)
        for schedule in schedules:
            schedule.step()
    # Stepping one alone uses gradients of the others that it does not step with: nearer as the rates fall.
    assert gap(model) <= (1e-6 if when == "one less often" else GAP)


def test_freezing_one_of_two_coupled_weights_leaves_it_and_thawing_it_goes_on() -> None:
    model, optimizer, handle = attached()
    for _ in range(40):
        step(model, optimizer)
    model.left.requires_grad_(False)
    before = model.left.detach().clone()
    for _ in range(60):
        step(model, optimizer)
        check_feasible(model)
    assert torch.equal(model.left, before)
    assert handle.active()["sides"].count > 0
    model.left.requires_grad_(True)
    train(model, optimizer)
    assert gap(model) <= GAP


def test_a_thawed_weight_in_a_new_group_joins_the_rules() -> None:
    model = EveryKind()
    model.right.requires_grad_(False)
    optimizer = adam([p for p in model.parameters() if p is not model.right])
    affinet.project(model, optimizer, rules_of(model))
    for _ in range(20):
        step(model, optimizer)
    model.right.requires_grad_(True)
    optimizer.add_param_group({"params": [model.right], "lr": 0.02})
    train(model, optimizer)
    assert gap(model) <= GAP


# Rates, decay, and gradients that say little

SCHEDULES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "restarts": lambda o: optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 120),
    "zero every other time": lambda o: optim.lr_scheduler.LambdaLR(
        o, lambda k: (k // 40 % 2) * 0.5 * (1 + np.cos(np.pi * k / 480))
    ),
    "warm-up from zero": lambda o: optim.lr_scheduler.LambdaLR(
        o, lambda k: min(1.0, k / 100) * 0.5 * (1 + np.cos(np.pi * k / 480))
    ),
}


@pytest.mark.parametrize("make", [adam, sgd])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_may_be_zero_at_the_start_and_in_between(schedule: str, make: Make) -> None:
    model, optimizer, _ = attached(make)
    train(model, optimizer, 480, SCHEDULES[schedule])
    assert gap(model) <= GAP


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("kind", ["Adam", "RMSprop", "SGD"])
def test_coupled_decay_moves_the_optimum(kind: str, maximize: bool) -> None:
    rate = {"Adam": 0.05, "RMSprop": 0.02, "SGD": 0.1}[kind]
    model, optimizer, _ = attached(lambda p: getattr(optim, kind)(p, lr=rate, weight_decay=0.8, maximize=maximize))
    change = (lambda _: [g.neg_() for g in gradients(model)]) if maximize else None
    train(model, optimizer, change=change)
    v = model.flat().detach()
    least, start = optimum(0.8)[1], EveryKind()
    fall = float(start().detach() + 0.4 * start.flat().detach() @ start.flat().detach()) - least
    assert (float(model().detach() + 0.4 * v @ v) - least) / fall <= GAP


def zero_now_and_then(model: EveryKind, k: int) -> None:
    if k < 5 or k % 7 == 3:
        for g in gradients(model):
            g.zero_()


def one_row_at_a_time(model: EveryKind, k: int) -> None:
    model.shares.grad *= 4.0 * (torch.arange(4) == k % 4)[:, None]


@pytest.mark.parametrize("change", [zero_now_and_then, one_row_at_a_time])
def test_gradients_of_zeros_and_of_some_rows_only(change: Callable[[EveryKind, int], None]) -> None:
    model, optimizer, _ = attached(lambda p: optim.SGD(p, lr=0.05))
    train(model, optimizer, 600, change=lambda k: change(model, k))
    assert gap(model) <= GAP


def test_a_gradient_that_is_not_finite_spoils_its_own_cells_only() -> None:
    model, optimizer, handle = attached()
    for _ in range(30):
        step(model, optimizer)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), handle.state_dict()))

    def spoil() -> None:
        model.shares.grad[1, 2] = float("nan")
        model.filters.grad[0, 0] = float("inf")

    step(model, optimizer, spoil)
    assert bool(torch.isfinite(model.shares[[0, 2, 3]]).all())
    assert bool(torch.isfinite(model.filters[1:]).all())
    assert all(
        bool(torch.isfinite(getattr(model, name)).all()) for name in ("heights", "left", "right", "bias", "tied")
    )
    for part, state in zip((model, optimizer, handle), saved, strict=True):
        part.load_state_dict(state)
    train(model, optimizer)
    assert gap(model) <= GAP


# Clipping


def test_clipping_after_projecting_gradients_spends_nothing_on_what_rules_hold() -> None:
    """Of bounds, too, whose gradients an entrywise optimizer otherwise gets as they are."""
    model, optimizer, handle = attached(lambda p: optim.SGD(p, lr=0.1))
    norms = []

    def clip(_: int) -> None:
        handle.project_gradients()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)))

    train(model, optimizer, change=clip)
    assert gap(model) <= GAP
    # |P g|² ≤ 2 L (f − f*): the curvature L is 4.5, and the loss falls by 12.
    assert norms[0] > 0.5
    assert norms[-1] <= (2 * 4.5 * 12 * GAP) ** 0.5


def test_projecting_gradients_once_is_remembered_with_what_was_learned() -> None:
    model, optimizer, handle = attached()
    step(model, optimizer, handle.project_gradients)
    for _ in range(9):
        step(model, optimizer)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), handle.state_dict()))
    other, other_optimizer, other_handle = attached()
    for part, state in zip((other, other_optimizer, other_handle), saved, strict=True):
        part.load_state_dict(state)
    for _ in range(10):
        step(model, optimizer)
        step(other, other_optimizer)
    assert torch.equal(bits(model), bits(other))
    train(model, optimizer)
    assert gap(model) <= GAP


# Handles


def test_two_handles_on_one_plan_do_not_know_of_each_other() -> None:
    plan = affinet.plan(rules_of(EveryKind()))
    (model, optimizer, _), (other, other_optimizer, _) = attached(rules=plan), attached(sgd, rules=plan)
    for _ in range(30):
        step(model, optimizer)
        step(other, other_optimizer)
    alone, alone_optimizer, _ = attached(rules=plan)
    for _ in range(30):
        step(alone, alone_optimizer)
    assert torch.equal(bits(model), bits(alone))


def test_two_handles_on_different_weights_of_one_model_train_it_together() -> None:
    model = EveryKind()
    rules, names = rules_of(model), ("shares", "heights")
    pair = [
        adam([getattr(model, name) for name in names]),
        adam([p for name, p in model.named_parameters() if name not in names]),
    ]
    affinet.project(model, pair[0], rules[:3])
    affinet.project(model, pair[1], rules[3:])
    with pytest.raises(affinet.AttachError, match="both would move shares"):
        affinet.project(model, optim.SGD([model.shares], lr=0.1), rules[:1])
    schedules = [optim.lr_scheduler.CosineAnnealingLR(optimizer, 300) for optimizer in pair]
    for _ in range(300):
        model.zero_grad()
        model().backward()
        for optimizer, schedule in zip(pair, schedules, strict=True):
            optimizer.step()
            schedule.step()
            check_feasible(model)
    assert gap(model) <= GAP


def test_rules_change_to_equations_and_back_and_bounds_move() -> None:
    model, optimizer, handle = attached()
    w = affinet.weights(model)
    equations = [families.sum_to(w.shares, 1.0, 1), w.heights.diff() == 0.05, w.left.sum() == w.right.sum()]
    narrow = affinet.between(-0.1, w.bias, 0.1).named("box")
    for rules in (equations, [*rules_of(model)[:6], narrow, rules_of(model)[7]]):
        for _ in range(30):
            step(model, optimizer)
        optimizer.zero_grad()
        model().backward()
        handle.update(rules)  # between a backward pass and its step
        optimizer.step()
        for _ in range(30):
            step(model, optimizer)
            assert max(handle.violation().values()) <= FEASIBLE
    assert float(model.bias.detach().abs().max()) == 0.1
    handle.update(rules_of(model))
    train(model, optimizer)
    assert gap(model) <= GAP


def test_rules_that_are_removed_and_attached_again() -> None:
    model, optimizer, handle = attached()
    for _ in range(30):
        step(model, optimizer)
    before = bits(model)
    handle.remove()
    handle = affinet.project(model, optimizer, rules_of(model))
    assert torch.equal(bits(model), before)
    handle.remove()
    for _ in range(10):
        step(model, optimizer)
    assert violation(bits(model).numpy()) > 0.1
    affinet.project(model, optimizer, rules_of(model))
    check_feasible(model)
    train(model, optimizer)
    assert gap(model) <= GAP


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_resumed_training_has_the_same_bits_in_whichever_order_it_is_loaded(order: tuple[int, ...]) -> None:
    parts = attached()
    model, optimizer, _ = parts
    for _ in range(20):
        step(model, optimizer)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in parts], file)
    file.seek(0)
    saved, resumed = torch.load(file, weights_only=True), attached()
    for number in order:
        resumed[number].load_state_dict(saved[number])
    for _ in range(20):
        step(model, optimizer)
        step(resumed[0], resumed[1])
    assert torch.equal(bits(model), bits(resumed[0]))


def test_averages_of_weights_are_on_the_rules_as_the_weights_are() -> None:
    """The set is convex; an average of averages is rounded once a step and shrinks its rounding with it."""
    model, optimizer, handle = attached(sgd)
    averages = [AveragedModel(model), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))]
    optimizer.register_step_post_hook(lambda *_: [average.update_parameters(model) for average in averages])
    for _ in range(60):
        step(model, optimizer)
    for average in averages:
        assert violation(bits(average.module).numpy()) <= 4 * FEASIBLE
        assert max(handle.projector.violation(average.module).values()) <= 4 * FEASIBLE


def test_a_plan_from_a_file_trains_to_the_same_bits(tmp_path: Any) -> None:
    plan = affinet.plan(rules_of(EveryKind()))
    plan.save(tmp_path / "plan")
    loaded = affinet.Plan.load(tmp_path / "plan")
    assert str(loaded) == str(plan)
    ends = []
    for rules in (plan, loaded):
        model, optimizer, _ = attached(rules=rules)
        for _ in range(20):
            step(model, optimizer)
        ends.append(bits(model))
    assert torch.equal(*ends)


# Weights of 16 bits

SIXTEEN: dict[str, Make] = {
    "SGD": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.05, eps=1e-4),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.3, eps=1e-4),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", SIXTEEN)
def test_weights_of_sixteen_bits_end_at_the_active_bounds_within_their_rounding(kind: str, dtype: torch.dtype) -> None:
    model = EveryKind(dtype)
    optimizer = SIXTEEN[kind](model.parameters())
    affinet.project(model, optimizer, rules_of(model))
    schedule, spacing = optim.lr_scheduler.CosineAnnealingLR(optimizer, 300), float(torch.finfo(dtype).eps)
    for _ in range(300):
        step(model, optimizer)
        schedule.step()
        # Seven products of numbers below two: each is off by half a spacing at one of its weight, times a side.
        assert violation(bits(model).numpy()) <= 4.0 * spacing
    point, _ = optimum()
    # A step that is below half a spacing of a weight of size one to two is lost: rates times gradients are, within
    # some spacings of the optimum, and the smallest curvature is a half.
    assert float(np.abs(bits(model).numpy() - point).max()) <= 16.0 * spacing
    zeros = torch.from_numpy(point[:20].reshape(4, 5) <= 1e-6)
    assert bool((model.shares.detach()[zeros] == 0.0).all())
    assert int(zeros.sum()) >= 5
