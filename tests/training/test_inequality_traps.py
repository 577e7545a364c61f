"""What a training with inequalities must not be led astray by; each was measured while the method was designed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.errors import AttachError
from tests.training.inequality_problems import PROBLEMS, Quadratic, cone_plan, cosine

UNIT = 2.0**-53


def attached(
    make: Callable[[Any], optim.Optimizer], problem: str = "rows=", dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[Quadratic, optim.Optimizer, affinet.Handle]:
    model = PROBLEMS[problem].model(dtype)
    optimizer = make(model.parameters())
    return model, optimizer, affinet.project(model, optimizer, PROBLEMS[problem].plan(model), **options)


def adam(parameters: Any) -> optim.Adam:
    return optim.Adam(parameters, lr=0.1)


def step(model: Quadratic, optimizer: optim.Optimizer) -> None:
    optimizer.zero_grad()
    model().backward()
    optimizer.step()


def known(handle: affinet.Handle) -> list[Tensor]:
    """Copies of what was learned."""
    (state,) = handle.state_dict()["inequalities"]
    return [] if state is None else [state["y"].clone(), *(mark.clone() for mark in state["face"])]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def is_feasible(model: Quadratic) -> bool:
    w = model.weight.detach().double()
    return float(w.min()) >= 0.0 and float((w.sum(1) - 1.0).abs().amax()) <= 16.0 * UNIT


# Coupled decay


@cache
def decayed_optimum(decay: float) -> float:
    """The least `f + λ/2 |w|²`, by SGD, whose steps need no hook to be right: project after each."""
    model, optimizer, _ = attached(lambda p: optim.SGD(p, lr=0.05), decay="decoupled")
    for _ in range(1_500):
        optimizer.zero_grad()
        (model() + 0.5 * decay * model.weight.square().sum()).backward()
        optimizer.step()
    return float((model() + 0.5 * decay * model.weight.square().sum()).detach())


@pytest.mark.parametrize("maximize", [False, True])
def test_decay_that_enters_the_gradient_is_part_of_the_objective(maximize: bool) -> None:
    best, losses = decayed_optimum(1.0), {}
    for declared in ("coupled", "decoupled"):
        model, optimizer, _ = attached(
            lambda p: optim.Adam(p, lr=0.1, weight_decay=1.0, maximize=maximize), decay=declared
        )
        scheduler = cosine(optimizer, 400)
        for _ in range(400):
            optimizer.zero_grad()
            (-model() if maximize else model()).backward()
            optimizer.step()
            scheduler.step()
        losses[declared] = float((model() + 0.5 * model.weight.square().sum()).detach())
    assert losses["coupled"] - best <= 1e-9
    assert losses["decoupled"] - best > 1e-4  # what comes of feeding `P_W g`


# Steps that do not count


def test_one_gradient_of_zeros_moves_nothing_far() -> None:
    model, optimizer, _ = attached(lambda p: optim.SGD(p, lr=0.01))
    step(model, optimizer)
    before = model.weight.detach().clone()
    model.weight.grad.zero_()
    optimizer.step()
    assert torch.equal(model.weight, before)
    step(model, optimizer)
    assert is_feasible(model)


def test_steps_at_a_learning_rate_of_zero_change_no_weight_and_go_on_learning() -> None:
    model, optimizer, handle = attached(adam)
    for _ in range(30):
        step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.0
    before = model.weight.detach().clone()
    for _ in range(100):
        step(model, optimizer)
    assert torch.equal(model.weight, before)
    # What is known stays normal to the set at the weights, so that the training goes on from there.
    (state,) = handle.state_dict()["inequalities"]
    tangent = handle.projector.tangent({"weight": state["y"]}, at=model)["weight"]
    assert float(tangent.abs().amax()) <= 1e-12 * float(state["y"].norm())
    optimizer.param_groups[0]["lr"] = 0.1
    scheduler = cosine(optimizer, 300)
    for _ in range(300):
        step(model, optimizer)
        scheduler.step()
    assert float(model().detach()) - PROBLEMS["rows="].best <= 1e-9


@pytest.mark.parametrize("warmed", [0, 5])
def test_a_step_that_a_scaler_skips_moves_neither_weights_nor_what_was_learned(warmed: int) -> None:
    """A fused optimizer decides on the device; gradients are scaled until then."""
    model, optimizer, handle = attached(lambda p: optim.Adam(p, lr=0.1, fused=True))
    plain, plain_optimizer, plain_handle = attached(lambda p: optim.Adam(p, lr=0.1, fused=True))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def scaled_step(factor: float) -> None:
        optimizer.zero_grad()
        scaler.scale(model()).backward()
        model.weight.grad *= factor
        scaler.step(optimizer)
        scaler.update()

    for _ in range(warmed):
        scaled_step(1.0)
        step(plain, plain_optimizer)
    before, learned = model.weight.detach().clone(), known(handle)
    scaled_step(float("inf"))
    assert torch.equal(model.weight, before)
    assert same(known(handle), learned)
    scaled_step(1.0)
    step(plain, plain_optimizer)
    # Scales are powers of two, which multiply exactly.
    assert torch.equal(model.weight, plain.weight)
    assert same(known(handle), known(plain_handle))


def test_a_step_that_raises_leaves_nothing_behind() -> None:
    class Failing(optim.Adam):
        fails = False

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            if self.fails:
                raise RuntimeError("out of memory")
            return super().step(closure)

    model, optimizer, handle = attached(lambda p: Failing(p, lr=0.1))
    other, other_optimizer, other_handle = attached(lambda p: Failing(p, lr=0.1))
    for _ in range(3):
        step(model, optimizer)
        step(other, other_optimizer)
    learned = known(handle)
    Failing.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        step(model, optimizer)
    assert same(known(handle), learned)
    Failing.fails = False
    step(model, optimizer)
    step(other, other_optimizer)
    assert torch.equal(model.weight, other.weight)
    assert same(known(handle), known(other_handle))


def test_gradients_that_are_not_finite_never_enter_what_is_learned() -> None:
    model, optimizer, handle = attached(lambda p: optim.SGD(p, lr=0.01))
    for _ in range(3):
        step(model, optimizer)
    learned, before = known(handle), model.weight.detach().clone()
    optimizer.zero_grad()
    model().backward()
    model.weight.grad[0, 0] = float("nan")
    optimizer.step()
    assert bool(torch.isnan(model.weight[0]).any())  # as in plain training; no bound hides it
    assert bool(torch.isfinite(model.weight[1:]).all())
    y = known(handle)[0]
    assert torch.equal(y[0], learned[0][0])
    assert not torch.equal(y[1:], learned[0][1:])
    with torch.no_grad():
        model.weight.copy_(before)
    step(model, optimizer)
    assert is_feasible(model)


# Closures


def test_a_closure_that_is_called_once_is_a_step() -> None:
    model, optimizer, handle = attached(adam)
    other, other_optimizer, other_handle = attached(adam)
    for _ in range(20):
        step(model, optimizer)
        other_optimizer.step(lambda: (other_optimizer.zero_grad(), (loss := other()).backward(), loss)[-1])
    assert torch.equal(model.weight, other.weight)
    assert same(known(handle), known(other_handle))


def test_a_line_search_meets_feasible_weights_only() -> None:
    model, optimizer, _ = attached(lambda p: optim.LBFGS(p, max_iter=10, line_search_fn="strong_wolfe"))
    points = []

    def closure() -> Tensor:
        points.append(is_feasible(model))
        optimizer.zero_grad()
        loss = model()
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)
    assert len(points) > 20
    assert all(points)


# Clipping


def test_clipping_after_projecting_gradients_keeps_prices_exact() -> None:
    """Gradients are learned once per step, unclipped, and what is clipped is along the face."""
    model, optimizer, handle = attached(lambda p: optim.SGD(p, lr=0.05))
    for _ in range(1_000):
        optimizer.zero_grad()
        model().backward()
        handle.project_gradients()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    model.zero_grad()
    model().backward()
    assert float((known(handle)[0] + model.weight.grad).abs().amax()) <= 1e-7 * float(model.weight.grad.norm())


def test_projecting_gradients_before_a_step_changes_nothing_else() -> None:
    model, optimizer, handle = attached(lambda p: optim.Adam(p, lr=0.1, weight_decay=0.5))
    other, other_optimizer, other_handle = attached(lambda p: optim.Adam(p, lr=0.1, weight_decay=0.5))
    for _ in range(10):
        optimizer.zero_grad()
        model().backward()
        handle.project_gradients()
        handle.project_gradients()
        optimizer.step()
        step(other, other_optimizer)
    assert float((model.weight - other.weight).detach().abs().amax()) <= 1e-12
    assert float((known(handle)[0] - known(other_handle)[0]).abs().amax()) <= 1e-12 * float(known(handle)[0].norm())


# Resuming


def test_a_training_resumes_with_the_same_bits(tmp_path: Any) -> None:
    model, optimizer, handle = attached(adam)
    for _ in range(10):
        step(model, optimizer)
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "handle": handle.state_dict()}
    torch.save(saved, tmp_path / "training.pt")
    for _ in range(40):
        step(model, optimizer)
    loaded = torch.load(tmp_path / "training.pt", weights_only=True)
    other = PROBLEMS["rows="].model(torch.float64)
    other.load_state_dict(loaded["model"])
    other_optimizer = adam(other.parameters())
    other_optimizer.load_state_dict(loaded["optimizer"])
    other_handle = affinet.project(other, other_optimizer, PROBLEMS["rows="].plan(other))
    assert torch.equal(other.weight, loaded["model"]["weight"])
    other_handle.load_state_dict(loaded["handle"])
    for _ in range(40):
        step(other, other_optimizer)
    assert torch.equal(model.weight, other.weight)
    assert same(known(handle), known(other_handle))


def test_saved_states_and_loaded_ones_are_left_alone_by_later_steps() -> None:
    """Compiled loops land in the memory of what was learned before."""
    model, optimizer, handle = attached(adam)
    for _ in range(3):
        step(model, optimizer)
    (saved,) = handle.state_dict()["inequalities"]
    copies = copy.deepcopy(saved)
    handle.load_state_dict({**handle.state_dict(), "inequalities": [saved]})
    for _ in range(3):
        step(model, optimizer)
    assert not torch.equal(known(handle)[0], saved["y"])
    assert same([saved["y"], *saved["face"]], [copies["y"], *copies["face"]])


def test_the_state_of_other_rules_is_refused() -> None:
    _, _, handle = attached(adam)
    model, optimizer, other = attached(adam)
    step(model, optimizer)
    saved = other.state_dict()
    with pytest.raises(AttachError, match="another number of blocks"):
        handle.load_state_dict({**saved, "inequalities": []})
    saved["inequalities"][0]["y"] = torch.zeros(3)
    with pytest.raises(AttachError, match="its tensors have other shapes"):
        handle.load_state_dict(saved)
    assert known(handle) == []


def test_two_runs_have_the_same_bits_in_deterministic_mode() -> None:
    weights = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            model, optimizer, _ = attached(adam)
            for _ in range(20):
                step(model, optimizer)
            weights.append(model.weight.detach())
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*weights)


# Changes from outside


def test_weights_that_are_loaded_do_not_jump_back_to_the_face_of_the_former_ones() -> None:
    model, optimizer, _ = attached(lambda p: optim.SGD(p, lr=1e-4))
    for _ in range(300):
        step(model, optimizer)
    with torch.no_grad():
        model.weight.copy_(torch.full_like(model.weight, 0.125))
    step(model, optimizer)
    # One step of 1e-4 times a gradient.
    assert float((model.weight.detach() - 0.125).abs().amax()) <= 1e-4 * 2.0 * float(model.weight.grad.norm())


def test_new_rules_carry_on_from_the_nearest_point() -> None:
    model, optimizer, handle = attached(adam)
    for _ in range(30):
        step(model, optimizer)
    handle.update(cone_plan(model, total=2.0))
    w = model.weight.detach()
    assert float(w.min()) >= 0.0
    assert float((w.sum(1) - 2.0).abs().amax()) <= 32.0 * UNIT
    scheduler = cosine(optimizer, 300)
    for _ in range(300):
        step(model, optimizer)
        scheduler.step()
    assert handle.stationarity() <= 1e-5


def test_rules_that_are_removed_leave_the_optimizer_alone() -> None:
    model, optimizer, handle = attached(adam)
    step(model, optimizer)
    handle.remove()
    model.weight.grad.fill_(1.0)
    optimizer.step()
    assert not is_feasible(model)


def test_a_copy_carries_no_rules() -> None:
    model, optimizer, handle = attached(adam)
    step(model, optimizer)
    duplicate = copy.deepcopy(optimizer)
    assert handle.attached_to(optimizer)
    assert not handle.attached_to(duplicate)


def test_observing_a_training_changes_no_bit() -> None:
    model, optimizer, handle = attached(adam)
    other, other_optimizer, _ = attached(adam)
    with handle.watch() as watch:
        for _ in range(10):
            step(model, optimizer)
            step(other, other_optimizer)
    assert torch.equal(model.weight, other.weight)
    assert len(watch.history) == 10


# Projectors


def test_tangents_depend_on_the_weights_and_ask_for_them() -> None:
    model = PROBLEMS["rows="].model(torch.float64)
    projector = PROBLEMS["rows="].plan(model).projector(model)
    vector = {"weight": torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))}
    for call in (projector.tangent, projector.stationarity, projector.multipliers):
        with pytest.raises(AttachError, match="at=weights"):
            call(vector)
    inside = projector.tangent(vector, at=model)["weight"]
    assert float((inside - (vector["weight"] - vector["weight"].mean(1, keepdim=True))).abs().amax()) <= 16.0 * UNIT
    corner = {"weight": torch.eye(6, 8, dtype=torch.float64)}
    tangent = projector.tangent(vector, at=corner)["weight"]
    assert float(tangent.sum(1).abs().amax()) <= 16.0 * UNIT
    assert bool((tangent[corner["weight"] == 0.0] >= 0.0).all())
    # Moreau: what is removed is normal to what remains.
    assert float((tangent * (vector["weight"] - tangent)).sum(1).abs().amax()) <= 64.0 * UNIT


def test_arrays_have_the_same_projections_as_tensors() -> None:
    model = PROBLEMS["rows="].model(torch.float64)
    plan, draw = PROBLEMS["rows="].plan(model), torch.Generator().manual_seed(1)
    weights, vectors = ({"weight": torch.randn(6, 8, dtype=torch.float64, generator=draw)} for _ in range(2))
    tensors, arrays = plan.projector(model), plan.projector({"weight": weights["weight"].numpy()})
    in_numpy = [{name: x.numpy() for name, x in each.items()} for each in (weights, vectors)]
    pairs = [
        (tensors.project(weights), arrays.project(in_numpy[0])),
        (tensors.tangent(vectors, at=weights), arrays.tangent(in_numpy[1], at=in_numpy[0])),
    ]
    for first, second in pairs:
        assert float((first["weight"] - torch.from_numpy(second["weight"])).abs().amax()) <= 64.0 * UNIT
    stationarity = tensors.stationarity(vectors, at=weights), arrays.stationarity(in_numpy[1], at=in_numpy[0])
    assert abs(stationarity[0] - stationarity[1]) <= 64.0 * UNIT
    prices = tensors.multipliers(vectors, weights), arrays.multipliers(in_numpy[1], in_numpy[0])
    for name, values in prices[0].items():
        assert float((values - torch.from_numpy(prices[1][name])).abs().amax()) <= 1e-12


def test_frozen_weights_stand_still_and_their_rules_go_on_where_they_were() -> None:
    model = PROBLEMS["rows="].model(torch.float64)
    model.extra = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer, w = adam(model.parameters()), affinet.weights(model)
    affinet.project(model, optimizer, [w.weight >= 0, w.weight.sum(dim=1) == 1, w.extra <= 0.5])

    def both() -> None:
        optimizer.zero_grad()
        (model() + (model.extra - 1.0).square().sum()).backward()
        optimizer.step()

    for _ in range(30):
        both()
    before = model.weight.detach().clone()
    model.weight.requires_grad_(False)
    for _ in range(30):
        both()
    assert torch.equal(model.weight, before)
    assert float((model.extra.detach() - 0.5).abs().amax()) <= UNIT
    model.weight.requires_grad_(True)
    scheduler = cosine(optimizer, 300)
    for _ in range(300):
        both()
        assert is_feasible(model)
        scheduler.step()
    assert float(model().detach()) - PROBLEMS["rows="].best <= 1e-9


def test_attaching_leaves_weights_on_the_set_as_they_are() -> None:
    model, optimizer, handle = attached(adam)
    for _ in range(30):
        step(model, optimizer)
    before = model.weight.detach().clone()
    assert bool((before == 0.0).any())
    handle.remove()
    again = affinet.project(model, adam(model.parameters()), PROBLEMS["rows="].plan(model))
    assert torch.equal(model.weight, before)
    assert set(again.moved.values()) == {0.0}


def test_equations_next_to_inequalities_keep_their_own_way() -> None:
    """A rule that shares no weight with the inequalities has the bits that it has alone."""
    weights = []
    for ruled in (True, False):
        model = PROBLEMS["rows="].model(torch.float64)
        model.extra = torch.nn.Parameter(torch.linspace(0.0, 1.0, 5, dtype=torch.float64))
        w = affinet.weights(model)
        plan = affinet.plan(families.sum_to(w.extra, 1.0))
        if ruled:
            from affinet.plans.plan import Plan
            from affinet.system.system import System

            cone = cone_plan(model, total=1.0)
            (block,) = cone.blocks
            sums = [(w.weight >= 0).named("lower"), (w.weight.sum(dim=1) == 1).named("sums")]
            plan = Plan(System.of([*sums, families.sum_to(w.extra, 1.0)]), (block, plan.blocks[0].renumbered({0: 2})))
        optimizer = optim.Adam([model.extra, model.weight] if ruled else [model.extra], lr=0.1)
        affinet.project(model, optimizer, plan)
        for _ in range(5):
            optimizer.zero_grad()
            (model() + (model.extra * torch.arange(5.0)).sin().sum()).backward()
            optimizer.step()
        weights.append(model.extra.detach())
    assert torch.equal(*weights)
