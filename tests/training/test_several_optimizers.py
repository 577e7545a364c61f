"""Several optimizers, parameter groups and what loops do between backward and step, under rules across all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet.system.system import System
from tests.oracle import oracle

Optimizer = optim.Optimizer
SIZES = {"first.weight": (3, 4), "first.bias": (3,), "second.weight": (4, 3), "second.bias": (4,)}
COUNT = sum(int(np.prod(shape)) for shape in SIZES.values())
DRAW = np.random.default_rng(7)
TURN = np.linalg.qr(DRAW.standard_normal((COUNT, COUNT)))[0]
CURVATURE = TURN @ np.diag(np.geomspace(0.3, 3.0, COUNT)) @ TURN.T
CENTRE = DRAW.standard_normal(COUNT)


class Net(torch.nn.Module):
    """Two layers with a quadratic loss over all of their weights; the same ones every time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (torch.nn.Linear(n, m, dtype=torch.float64) for n, m in ((4, 3), (3, 4)))
        start = np.random.default_rng(3)
        for parameter in self.parameters():
            parameter.data = torch.tensor(start.standard_normal(parameter.shape))
        self.curvature, self.centre = torch.tensor(CURVATURE), torch.tensor(CENTRE)

    def flat(self) -> Tensor:
        return torch.cat([parameter.reshape(-1) for parameter in self.parameters()])

    def forward(self) -> Tensor:
        away = self.flat() - self.centre
        return 0.5 * away @ self.curvature @ away


def rules_for(net: torch.nn.Module) -> list[affinet.Constraint]:
    """Each couples parameters of different optimizers."""
    w = affinet.weights(net)
    return [
        (w.first.weight[:2, :3] == w.second.weight[:3, :2].T).named("tied layers"),
        (w.first.bias.sum() + w.second.weight[3].sum() == 1).named("sum"),
        (w.second.bias[0] == 2 * w.first.bias[1] + 1).named("scaled"),
        (w.first.weight[2].sum() - w.second.bias[1:].sum() == 0.5).named("difference"),
    ]


def optimum(decay: float = 0.0) -> np.ndarray:
    truth = oracle(System.of(rules_for(Net())))
    a, b = np.zeros((len(truth.rhs), COUNT)), truth.rhs
    starts = dict(zip(SIZES, np.cumsum([0, *(int(np.prod(s)) for s in SIZES.values())]), strict=False))
    for parameter, at in zip(truth.layout.parameters, truth.layout.starts, strict=True):
        to = starts[parameter.name]
        a[:, to : to + parameter.size] = truth.matrix[:, at : at + parameter.size]
    system = np.block([[CURVATURE + decay * np.eye(COUNT), a.T], [a, np.zeros((len(b), len(b)))]])
    found: np.ndarray = np.linalg.lstsq(system, np.concatenate([CURVATURE @ CENTRE, b]), rcond=1e-13)[0][:COUNT]
    return found


def far(net: Net, wanted: np.ndarray) -> float:
    return float(np.abs(net.flat().detach().numpy() - wanted).max())


def worst(handle: affinet.Handle) -> float:
    return max(handle.violation().values())


def backward(net: Net) -> None:
    net.zero_grad()
    net().backward()


def weights(net: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def cooled(optimizers: list[Optimizer], steps: int, power: float = 2.0) -> list[optim.lr_scheduler.LRScheduler]:
    return [
        optim.lr_scheduler.LambdaLR(one, lambda t: float(np.cos(np.pi / 2 * t / steps) ** power)) for one in optimizers
    ]


def _for_matrices(weights: list[torch.nn.Parameter]) -> Optimizer:
    """Muon, which the torch 2.5 to 2.8 do not have."""
    if not hasattr(optim, "Muon"):
        pytest.skip("this torch has no Muon")
    return optim.Muon(weights, lr=0.05, weight_decay=0.0)


def trio(net: Net) -> list[Optimizer]:
    """Muon for a matrix, AdamW for another and a bias, SGD for the rest."""
    return [
        _for_matrices([net.first.weight]),
        optim.AdamW([net.second.weight, net.first.bias], lr=0.2, weight_decay=0.0),
        optim.SGD([net.second.bias], lr=0.3, momentum=0.5),
    ]


def pair(net: Net) -> list[Optimizer]:
    return [optim.Adam(net.first.parameters(), lr=0.2), optim.SGD(net.second.parameters(), lr=0.3)]


# The joint optimum


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_three_optimizers_reach_the_joint_optimum_and_every_step_of_each_is_feasible(order: tuple[int, ...]) -> None:
    net, steps = Net(), 1000
    optimizers = trio(net)
    handle = affinet.project(net, optimizers, rules_for(net))
    schedules, seen = cooled(optimizers[:1], steps, 8.0) + cooled(optimizers[1:], steps), 0.0
    for step in range(steps):
        backward(net)
        for number in order:
            optimizers[number].step()
            if step < 20 or step % 50 == 0:
                seen = max(seen, worst(handle))
        for schedule in schedules:
            schedule.step()
    assert seen < 1e-13
    assert far(net, optimum()) < 1e-7


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_coupled_decay_of_several_optimizers_is_one_objective(decay: float) -> None:
    net, steps = Net(), 800
    optimizers: list[Optimizer] = [
        optim.Adam([net.first.weight, net.second.bias], lr=0.2, weight_decay=decay),
        optim.SGD([net.second.weight, net.first.bias], lr=0.3, momentum=0.5, weight_decay=decay),
    ]
    affinet.project(net, optimizers, rules_for(net))
    schedules = cooled(optimizers, steps, 2.0)
    for _ in range(steps):
        backward(net)
        for one in optimizers:
            one.step()
        for schedule in schedules:
            schedule.step()
    assert far(net, optimum(decay)) < 1e-9


def test_one_optimizer_in_two_is_two_optimizers_that_act_as_one() -> None:
    """SGD split over two objects walks as one SGD would: projected jointly, to rounding."""
    one, two = Net(), Net()
    single = [optim.SGD(one.parameters(), lr=0.1, momentum=0.9)]
    split = [
        optim.SGD(two.first.parameters(), lr=0.1, momentum=0.9),
        optim.SGD(two.second.parameters(), lr=0.1, momentum=0.9),
    ]
    for net, optimizers in ((one, single), (two, split)):
        affinet.project(net, optimizers, rules_for(net))
        for _ in range(50):
            backward(net)
            for optimizer in optimizers:
                optimizer.step()
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(weights(one), weights(two), strict=True))


# Stepping one alone


def test_stepping_one_alone_stays_feasible() -> None:
    net = Net()
    optimizers = trio(net)
    handle = affinet.project(net, optimizers, rules_for(net))
    for optimizer in optimizers * 3:
        backward(net)
        optimizer.step()
        assert worst(handle) < 1e-13


def test_stepping_one_alone_while_gradients_of_the_others_are_missing_is_refused() -> None:
    """It would follow its own part of `P g` and end at no joint optimum."""
    net = Net()
    optimizers = pair(net)
    affinet.project(net, optimizers, rules_for(net))
    backward(net)
    for parameter in net.second.parameters():
        parameter.grad = None
    before, gradients = weights(net), [p.grad.clone() for p in net.first.parameters()]  # type: ignore[union-attr]
    with pytest.raises(affinet.errors.GradientError, match=r"Adam steps before .* second\.bias, second\.weight, whose"):
        optimizers[0].step()
    assert same(weights(net), before)
    assert same([p.grad for p in net.first.parameters() if p.grad is not None], gradients)


def test_gradients_may_be_cleared_as_soon_as_their_optimizer_has_stepped() -> None:
    """The second optimizer finds its own part of the joint projection, and projects nothing anew."""
    ends = []
    for early in (False, True):
        net = Net()
        optimizers = pair(net)
        affinet.project(net, optimizers, rules_for(net))
        for _ in range(20):
            backward(net)
            for one in optimizers:
                one.step()
                if early:
                    one.zero_grad()
        ends.append(weights(net))
    assert same(*ends)


def test_alternating_training_with_all_gradients_reaches_the_joint_optimum() -> None:
    """Turns taken with every gradient computed: each step is along a part of the joint `P g`."""
    net, steps = Net(), 1200
    optimizers = pair(net)
    handle = affinet.project(net, optimizers, rules_for(net))
    schedules = cooled(optimizers, steps // 2, 2.0)
    for step in range(steps):
        backward(net)
        optimizers[step % 2].step()
        schedules[step % 2].step()
    assert worst(handle) < 1e-13
    assert far(net, optimum()) < 1e-8


def test_gradients_projected_by_the_first_are_not_projected_again_by_the_second() -> None:
    net = Net()
    optimizers = pair(net)
    handle = affinet.project(net, optimizers, rules_for(net))
    backward(net)
    raw = {name: p.grad.clone() for name, p in net.named_parameters()}  # type: ignore[union-attr]
    optimizers[0].step()
    after = {name: p.grad.clone() for name, p in net.named_parameters()}  # type: ignore[union-attr]
    optimizers[1].step()
    wanted = handle.projector.tangent(raw)
    for name, p in net.named_parameters():
        assert torch.equal(p.grad, after[name])  # type: ignore[arg-type]
        assert torch.allclose(p.grad, wanted[name], rtol=0, atol=1e-13)  # type: ignore[arg-type]


@pytest.mark.parametrize("unscales", [False, True])
@pytest.mark.parametrize("kinds", [("SGD", "SGD"), ("Adam", "SGD"), ("SGD", "Adam")])
def test_a_grad_scaler_need_not_be_told_to_unscale_for_several_optimizers(
    kinds: tuple[str, str], unscales: bool
) -> None:
    """It unscales the gradients of one optimizer as it steps that; rules couple them with those of the other."""
    ends = []
    for scaled in (False, True):
        net = Net()
        both = [
            getattr(optim, kinds[0])(net.first.parameters(), lr=0.05),
            getattr(optim, kinds[1])(net.second.parameters()),
        ]
        handle = affinet.project(net, both, rules_for(net))
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        for _ in range(10):
            net.zero_grad()
            scaler.scale(net()).backward()
            if unscales:
                for one in both:
                    scaler.unscale_(one)
            for one in both:
                scaler.step(one)
            scaler.update()
            assert worst(handle) < 1e-13
        ends.append(weights(net))
    # A power of two scales without rounding; what is left is the order of sums.
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*ends, strict=True))


def test_an_overflow_of_one_of_several_optimizers_is_refused_before_another_steps_with_it() -> None:
    net = Net()
    both = pair(net)
    affinet.project(net, both, rules_for(net))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    before = weights(net)
    scaler.scale(net()).backward()
    assert net.second.bias.grad is not None
    net.second.bias.grad[0] = float("inf")
    with pytest.raises(affinet.errors.GradientError, match=r"second\.bias holds 1 number that is not finite"):
        scaler.step(both[0])
    assert same(weights(net), before)


# Parameter groups and schedules


def test_groups_with_rates_of_their_own_reach_the_optimum() -> None:
    net, steps = Net(), 1000
    groups = [
        {"params": list(net.first.parameters()), "lr": 0.05},
        {"params": list(net.second.parameters()), "lr": 0.2},
    ]
    optimizer = optim.Adam(groups)
    affinet.project(net, optimizer, rules_for(net))
    schedule = cooled([optimizer], steps, 2.0)[0]
    for _ in range(steps):
        backward(net)
        optimizer.step()
        schedule.step()
    assert far(net, optimum()) < 1e-9


def test_a_group_added_later_keeps_the_rules_and_its_own_decay() -> None:
    """What is held when attached may be joined by more: parameters of no rule, trained by the same optimizer."""
    net, extra = Net(), torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    handle = affinet.project(net, optimizer, rules_for(net))
    backward(net)
    optimizer.step()
    optimizer.add_param_group({"params": [extra], "lr": 0.5, "weight_decay": 0.1})
    for _ in range(5):
        backward(net)
        extra.grad = torch.ones_like(extra)
        optimizer.step()
    assert worst(handle) < 1e-13
    assert float(extra.detach().max()) < 0.0


def test_a_parameter_of_the_rules_that_no_optimizer_holds_is_refused_by_name() -> None:
    net = Net()
    with pytest.raises(affinet.AttachError, match=r"couple parameters that the optimizer does not hold: second\.\w+"):
        affinet.project(net, optim.SGD(net.first.parameters(), lr=0.1), rules_for(net))


def test_schedules_that_edit_decay_and_rate_are_read_anew_at_each_step() -> None:
    net, steps = Net(), 1000
    optimizer = optim.Adam(net.parameters(), lr=0.2, weight_decay=2.0)
    affinet.project(net, optimizer, rules_for(net))
    schedule = cooled([optimizer], steps, 2.0)[0]
    for step in range(steps):
        optimizer.param_groups[0]["weight_decay"] = 0.3 if step >= 100 else 2.0
        backward(net)
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    assert far(net, optimum(0.3)) < 1e-9


def test_a_learning_rate_that_is_a_tensor_works() -> None:
    one, two = Net(), Net()
    for net, rate in ((one, 0.1), (two, torch.tensor(0.1, dtype=torch.float64))):
        optimizer = optim.Adam(net.parameters(), lr=rate, weight_decay=0.1)
        affinet.project(net, optimizer, rules_for(net))
        for _ in range(5):
            backward(net)
            optimizer.step()
    assert all(torch.allclose(a, b, rtol=0, atol=1e-14) for a, b in zip(weights(one), weights(two), strict=True))


# Between backward and step


def test_accumulated_gradients_are_projected_once_as_their_sum() -> None:
    one, two = Net(), Net()
    first, second = (optim.Adam(net.parameters(), lr=0.1, weight_decay=0.2) for net in (one, two))
    for net, optimizer in ((one, first), (two, second)):
        affinet.project(net, optimizer, rules_for(net))
    for _ in range(10):
        one.zero_grad()
        for _ in range(4):
            (one() / 4).backward()
        first.step()
        backward(two)
        second.step()
    assert all(torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(weights(one), weights(two), strict=True))


@pytest.mark.parametrize("none", [True, False])
def test_gradients_may_be_cleared_both_ways(none: bool) -> None:
    net, stock = Net(), Net()
    ends = []
    for one in (net, stock):
        optimizer = optim.Adam(one.parameters(), lr=0.1, weight_decay=0.2)
        handle = affinet.project(one, optimizer, rules_for(one))
        for _ in range(6):
            one().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=none if one is net else True)
            assert worst(handle) < 1e-13
        ends.append(weights(one))
    assert same(*ends)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_projecting_gradients_before_the_step_changes_nothing_without_clipping(decay: float) -> None:
    ends = []
    for early in (0, 1, 3):
        net = Net()
        optimizer = optim.Adam(net.parameters(), lr=0.1, weight_decay=decay)
        handle = affinet.project(net, optimizer, rules_for(net))
        for _ in range(20):
            backward(net)
            for _ in range(early):
                handle.project_gradients()
            optimizer.step()
        ends.append(weights(net))
    for end in ends[1:]:
        assert all(torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(end, ends[0], strict=True))


def test_projecting_gradients_twice_leaves_their_bits() -> None:
    net = Net()
    handle = affinet.project(net, optim.SGD(net.parameters(), lr=0.1), rules_for(net))
    backward(net)
    handle.project_gradients()
    once = [p.grad.clone() for p in net.parameters()]  # type: ignore[union-attr]
    handle.project_gradients()
    for p, kept in zip(net.parameters(), once, strict=True):
        assert torch.allclose(p.grad, kept, rtol=0, atol=1e-15)  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_clipping_after_projecting_is_clipping_in_the_reduced_problem(decay: float) -> None:
    """SGD on `w = w₀ + N v` with N orthonormal, `‖∇v‖` clipped at 1, decay on the part of w that can move.

    The decay of w adds `λ P w` along the rules; of v, with w₀ = A⁺b, it adds `λ v`: the same.
    """
    net = Net()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=decay)
    handle = affinet.project(net, optimizer, rules_for(net))
    zero = handle.projector.project({n: torch.zeros_like(p) for n, p in net.named_parameters()})
    eye = torch.eye(COUNT, dtype=torch.float64)
    tangent = torch.stack([laid(handle.projector.tangent(apart(row))) for row in eye])
    values, vectors = torch.linalg.eigh((tangent + tangent.T) / 2)
    basis, base = vectors[:, values > 0.5], laid(zero)
    v = torch.nn.Parameter(basis.T @ (net.flat().detach() - base))
    reduced = optim.SGD([v], lr=0.1, momentum=0.9, weight_decay=decay)
    for _ in range(60):
        backward(net)
        handle.project_gradients()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        reduced.zero_grad()
        away = base + basis @ v - net.centre
        (0.5 * away @ net.curvature @ away).backward()
        assert float(norm) == pytest.approx(float(torch.nn.utils.clip_grad_norm_([v], 1.0)), rel=1e-9)
        reduced.step()
        assert torch.allclose(net.flat(), base + basis @ v, rtol=0, atol=1e-11)


def test_clipping_before_projecting_spends_the_budget_on_what_is_taken_away() -> None:
    """So that the test above could fail: the step is shorter."""
    net = Net()
    handle = affinet.project(net, optim.SGD(net.parameters(), lr=0.1), rules_for(net))
    backward(net)
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    handle.project_gradients()
    left = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
    assert float(torch.cat(left).norm()) < 0.98


def laid(named: dict[str, Tensor]) -> Tensor:
    return torch.cat([named[name].detach().reshape(-1) for name in SIZES])


def apart(flat: Tensor) -> dict[str, Tensor]:
    pieces = torch.split(flat, [int(np.prod(shape)) for shape in SIZES.values()])
    return {name: piece.reshape(shape).clone() for (name, shape), piece in zip(SIZES.items(), pieces, strict=True)}
