"""Optimizers of other packages: schedule-free ones, SAM, Lookahead, Prodigy, Lion and Muon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import optim

import affinet
from tests.training.every_kind import EveryKind, optimum, violation
from tests.training.every_kind import rules_of as every_kind_of
from tests.training.guests import EightBitAdam
from tests.training.test_own_weights import OPTIMUM, Net, gap, rules_for

pytorch_optimizer = pytest.importorskip("pytorch_optimizer")
schedulefree = pytest.importorskip("schedulefree")

FEASIBLE = 1e-13
"""Twelve products of numbers of size ten in a row: a hundred roundings of float64."""


def trained(net: Net, optimizer: Any, steps: int, closure: bool = False) -> None:
    def loss() -> Any:
        optimizer.zero_grad()
        found = net()
        found.backward()
        return found

    for _ in range(steps):
        loss()
        optimizer.step(loss) if closure else optimizer.step()


def away(net: Net, wanted: np.ndarray) -> float:
    return float(np.abs(net.flat().detach().numpy() - wanted).max())


FREE: dict[str, Callable[[Any], Any]] = {
    "AdamW": lambda p: schedulefree.AdamWScheduleFree(p, lr=0.1),
    "AdamW with decay": lambda p: schedulefree.AdamWScheduleFree(p, lr=0.1, weight_decay=0.1),
    "RAdam": lambda p: schedulefree.RAdamScheduleFree(p, lr=0.1),
    "SGD": lambda p: schedulefree.SGDScheduleFree(p, lr=0.05),
}


@pytest.mark.parametrize("kind", FREE)
def test_schedule_free_optimizers_are_on_the_rules_in_both_modes(kind: str) -> None:
    net = Net()
    optimizer = FREE[kind](net.parameters())
    affinet.project(net, optimizer, rules_for(net))
    optimizer.train()
    for _ in range(30):
        trained(net, optimizer, 100)
        assert gap(net.flat()) < FEASIBLE
        optimizer.eval()
        assert gap(net.flat()) < FEASIBLE
        optimizer.train()
    optimizer.eval()
    if "decay" not in kind:  # decoupled decay has no fixed objective whose optimum this could be
        # An average over 3,000 steps forgets its start, which is about one away, no faster than one over their number.
        assert away(net, OPTIMUM) < 10.0 / 3000


@pytest.mark.parametrize("kind", FREE)
def test_schedule_free_optimizers_stay_on_a_simplex_in_both_modes(kind: str) -> None:
    net = Net()
    optimizer = FREE[kind](net.parameters())
    handle = affinet.project(net, optimizer, [affinet.families.simplex(affinet.weights(net).weight, 1)])
    optimizer.train()
    for _ in range(10):
        trained(net, optimizer, 50)
        before = net.weight.detach().clone()
        optimizer.eval()
        assert max(handle.violation().values()) < FEASIBLE
        optimizer.train()
        assert (net.weight == before).all()


@pytest.mark.parametrize("how", ["first_step and second_step", "closure"])
@pytest.mark.parametrize("base", [optim.SGD, optim.Adam])
def test_sharpness_aware_minimization(base: type[optim.Optimizer], how: str) -> None:
    net = Net()
    optimizer = pytorch_optimizer.SAM(net.parameters(), base_optimizer=base, rho=1e-3, lr=0.02)
    affinet.project(net, optimizer, rules_for(net))
    for _ in range(20):
        if how == "closure":
            trained(net, optimizer, 50, closure=True)
        else:
            for _ in range(50):
                net.zero_grad()
                net().backward()
                optimizer.first_step(zero_grad=True)
                net().backward()
                optimizer.second_step(zero_grad=True)
        assert gap(net.flat()) < FEASIBLE
    # The gradient is taken rho away, and Adam's last steps are of the size of its learning rate.
    assert away(net, OPTIMUM) < 0.1


@pytest.mark.parametrize("pullback", ["none", "reset", "pullback"])
def test_lookahead(pullback: str) -> None:
    net = Net()
    optimizer = pytorch_optimizer.Lookahead(optim.Adam(net.parameters(), lr=0.05), pullback_momentum=pullback)
    affinet.project(net, optimizer, rules_for(net))
    for _ in range(100):
        trained(net, optimizer, 15)
        assert gap(net.flat()) < FEASIBLE
    assert away(net, OPTIMUM) < 1e-3


OTHERS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "Prodigy": (lambda p: pytorch_optimizer.Prodigy(p, lr=0.5), 0.1),
    "Lion": (lambda p: pytorch_optimizer.Lion(p, lr=2e-3), 0.05),
    "Ranger": (lambda p: pytorch_optimizer.Ranger(p, lr=0.05), 0.1),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_optimizers_come_near_the_optimum(kind: str) -> None:
    """As near as the size of their steps lets them; the largest entry of it is above two."""
    make, reach = OTHERS[kind]
    net = Net()
    optimizer = make(net.parameters())
    affinet.project(net, optimizer, rules_for(net))
    for _ in range(30):
        trained(net, optimizer, 100)
        assert gap(net.flat()) < FEASIBLE
    assert away(net, OPTIMUM) < reach


def test_muon_for_matrices_and_adamw_for_the_rest() -> None:
    net, steps = Net(), 1500
    pair = [optim.Muon([net.weight], lr=0.05, weight_decay=0.0), optim.AdamW([net.bias], lr=0.05, weight_decay=0.0)]
    affinet.project(net, pair, rules_for(net))
    schedules = [optim.lr_scheduler.LambdaLR(one, lambda t: float(np.cos(np.pi / 2 * t / steps)) ** 4) for one in pair]
    for _ in range(steps):
        net.zero_grad()
        net().backward()
        for one, schedule in zip(pair, schedules, strict=True):
            one.step()
            schedule.step()
    assert gap(net.flat()) < FEASIBLE
    # Muon steps by its rate however small the gradient is; in the last tenth of the steps that is below this.
    assert away(net, OPTIMUM) < 0.05 * np.sin(np.pi / 20) ** 4


@pytest.mark.parametrize(
    "name", ["adamw", "adan", "sophiah", "madgrad", "lamb", "soap", "adopt", "ademamix", "prodigy", "lion", "splus"]
)
def test_whatever_can_be_learnt_of_an_optimizer_is_and_the_rest_is_a_warning(name: str) -> None:
    """Every optimizer either keeps the rules in silence or says what it could not learn."""
    net = Net()
    kind = pytorch_optimizer.load_optimizer(name)
    optimizer = kind(net.parameters(), lr=1e-3)
    if name in ("sophiah", "splus"):
        with pytest.warns(UserWarning, match="could not learn|keeps an average"):
            affinet.project(net, optimizer, rules_for(net))
    else:
        affinet.project(net, optimizer, rules_for(net))
    if name != "sophiah":  # asks for the graph of the gradient
        trained(net, optimizer, 5)
        assert gap(net.flat()) < FEASIBLE


SHRINKS, LONG, COARSE = 1e-9, 1e-5, 1e-3
"""How near the least loss a training with falling rates comes, relative to the fall: where steps shrink with the
gradient; where they are as long as the rate however small the gradient is; and where moments have seven bits, or add up
all squares of gradients, so that the steps get smaller than the rates do."""

UNDER_INEQUALITIES: dict[str, tuple[Callable[[Any], Any], float]] = {
    "Lookahead": (lambda p: pytorch_optimizer.Lookahead(optim.Adam(p, lr=0.05)), SHRINKS),
    "Lookahead, pullback": (
        lambda p: pytorch_optimizer.Lookahead(optim.Adam(p, lr=0.05), pullback_momentum="pullback"),
        SHRINKS,
    ),
    "Prodigy": (lambda p: pytorch_optimizer.Prodigy(p, lr=0.5), SHRINKS),
    "D-adapted SGD": (lambda p: pytorch_optimizer.DAdaptSGD(p, lr=1.0), SHRINKS),
    "AdaBelief": (lambda p: pytorch_optimizer.AdaBelief(p, lr=0.05), SHRINKS),
    "ADOPT": (lambda p: pytorch_optimizer.ADOPT(p, lr=0.05), SHRINKS),
    "MADGRAD": (lambda p: pytorch_optimizer.MADGRAD(p, lr=0.05), SHRINKS),
    "SOAP": (lambda p: pytorch_optimizer.SOAP(p, lr=0.05), SHRINKS),
    "Shampoo": (lambda p: pytorch_optimizer.Shampoo(p, lr=0.1), COARSE),
    "Adan": (lambda p: pytorch_optimizer.Adan(p, lr=0.05), LONG),
    "Lion": (lambda p: pytorch_optimizer.Lion(p, lr=0.02), LONG),
    "8 bits": (lambda p: EightBitAdam(p, lr=0.05), COARSE),
    "AdaBelief, maximizing": (lambda p: pytorch_optimizer.AdaBelief(p, lr=0.05, maximize=True), SHRINKS),
    "Lion, maximizing": (lambda p: pytorch_optimizer.Lion(p, lr=0.02, maximize=True), LONG),
}


def train_every_kind(
    net: EveryKind, optimizer: Any, steps: int, *, sign: float = 1.0, closure: bool = False, decay: float = 0.0
) -> float:
    """How far the loss, with decay, is above the least, relative to the fall. Every step is feasible."""
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def loss() -> Any:
        optimizer.zero_grad()
        value = sign * net()
        value.backward()
        return value

    def decayed(net: EveryKind) -> float:
        return float(net().detach() + 0.5 * decay * net.flat().detach().square().sum())

    for _ in range(steps):
        loss()
        optimizer.step(loss) if closure else optimizer.step()
        schedule.step()
        assert violation(net.flat().detach().numpy()) < FEASIBLE
    least = optimum(decay)[1]
    return (decayed(net) - least) / (decayed(EveryKind()) - least)


@pytest.mark.parametrize("kind", UNDER_INEQUALITIES)
def test_other_optimizers_reach_the_optimum_under_every_kind_of_inequality(kind: str) -> None:
    make, reach = UNDER_INEQUALITIES[kind]
    torch.manual_seed(0)
    net = EveryKind()
    optimizer = make(net.parameters())
    affinet.project(net, optimizer, every_kind_of(net))
    assert train_every_kind(net, optimizer, 400, sign=-1.0 if "maximizing" in kind else 1.0) <= reach


@pytest.mark.parametrize("maximize", [False, True])
def test_coupled_decay_of_other_optimizers_is_part_of_what_they_minimize(maximize: bool) -> None:
    net = EveryKind()
    optimizer = pytorch_optimizer.ADOPT(
        net.parameters(), lr=0.05, weight_decay=0.5, weight_decouple=False, maximize=maximize
    )
    affinet.project(net, optimizer, every_kind_of(net))
    assert train_every_kind(net, optimizer, 400, sign=-1.0 if maximize else 1.0, decay=0.5) <= SHRINKS


@pytest.mark.parametrize("how", ["first_step and second_step", "closure"])
def test_sharpness_aware_minimization_under_every_kind_of_inequality(how: str) -> None:
    net, rho = EveryKind(), 1e-4
    optimizer = pytorch_optimizer.SAM(net.parameters(), base_optimizer=optim.SGD, rho=rho, lr=0.1)
    affinet.project(net, optimizer, every_kind_of(net))
    if how == "closure":
        gap_at_end = train_every_kind(net, optimizer, 200, closure=True)
    else:
        for _ in range(200):
            net.zero_grad()
            net().backward()
            optimizer.first_step(zero_grad=True)
            net().backward()
            optimizer.second_step(zero_grad=True)
            assert violation(net.flat().detach().numpy()) < FEASIBLE
        gap_at_end = train_every_kind(net, optimizer, 1, closure=True)
    # The gradient is off by rho times the largest curvature, 4.5, where the least is 0.5; the loss falls by 12.
    assert gap_at_end <= (4.5 * rho) ** 2 / (2 * 0.5) / 12 + SHRINKS


@pytest.mark.parametrize("kind", [name for name in FREE if "decay" not in name])
def test_schedule_free_optimizers_come_to_the_optimum_under_every_kind_of_inequality(kind: str) -> None:
    net = EveryKind()
    optimizer = FREE[kind](net.parameters())
    affinet.project(net, optimizer, every_kind_of(net))
    optimizer.train()
    for _ in range(500):
        optimizer.zero_grad()
        net().backward()
        optimizer.step()
        assert violation(net.flat().detach().numpy()) < FEASIBLE
    optimizer.eval()
    assert violation(net.flat().detach().numpy()) < FEASIBLE
    least = optimum()[1]
    # An average over n steps forgets its start no faster than one over n, and losses are squares.
    assert float(net().detach()) - least <= 12.0 * (10.0 / 500) ** 2
