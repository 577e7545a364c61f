"""Optimizers that keep weights in their state: these are on the rules, too, and so is what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.training.probing import ProbeError, couples_decay, state_weights
from tests.training.guests import AverageFromZero, Lookahead, ScheduleFree

DRAW = np.random.default_rng(4)
COUNT = 12
FACTOR = DRAW.standard_normal((COUNT, COUNT))
CURVATURE = FACTOR @ FACTOR.T / COUNT + np.eye(COUNT)
CENTRE = 2.0 * DRAW.standard_normal(COUNT)
START = DRAW.standard_normal((2, 4))
MATRIX, RIGHT = DRAW.standard_normal((3, COUNT)), DRAW.standard_normal(3)
KKT = np.block([[CURVATURE, MATRIX.T], [MATRIX, np.zeros((3, 3))]])
OPTIMUM = np.linalg.solve(KKT, np.concatenate([CURVATURE @ CENTRE, RIGHT]))[:COUNT]


class Net(torch.nn.Module):
    """A quadratic over a matrix and a bias; the bias starts at zero, as biases do."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(START, dtype=dtype))
        self.bias = torch.nn.Parameter(torch.zeros(4, dtype=dtype))
        self.curvature, self.centre = torch.tensor(CURVATURE, dtype=dtype), torch.tensor(CENTRE, dtype=dtype)

    def flat(self) -> Tensor:
        return torch.cat([self.weight.reshape(-1), self.bias])

    def forward(self) -> Tensor:
        away = self.flat() - self.centre
        return 0.5 * away @ self.curvature @ away


def rules_for(net: Net) -> list[affinet.Constraint]:
    w = affinet.weights(net)
    return [families.linear([w.weight, w.bias], MATRIX, RIGHT)]


def gap(flat: Tensor | np.ndarray) -> float:
    """The violation, by NumPy alone."""
    return float(np.abs(MATRIX @ np.asarray(flat.detach() if isinstance(flat, Tensor) else flat) - RIGHT).max())


def trained(net: Net, optimizer: optim.Optimizer, steps: int, look: Callable[[int], None] = lambda step: None) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        net().backward()
        optimizer.step()
        look(step)


@pytest.mark.parametrize("scaled", [False, True], ids=["sgd", "adaptive"])
@pytest.mark.parametrize("late", [False, True], ids=["from the start", "attached later"])
def test_a_schedule_free_optimizer_is_on_the_rules_in_both_modes_and_reaches_the_optimum(
    scaled: bool, late: bool
) -> None:
    net = Net()
    optimizer = ScheduleFree(net.parameters(), lr=0.05, scaled=scaled)
    if late:
        trained(net, optimizer, 20)
    affinet.project(net, optimizer, rules_for(net))
    seen: list[float] = []

    def look(step: int) -> None:
        if step < 10 or step % 100 == 0:
            seen.append(gap(net.flat()))
            optimizer.eval()
            seen.append(gap(net.flat()))
            optimizer.train()

    trained(net, optimizer, 4000, look)
    optimizer.eval()
    # One rounding of each of the 12 products in a row of about 20 in sum, some of them made twice.
    assert max(seen) < 1e-13
    assert gap(net.flat()) < 1e-13
    free = Net()
    stock = ScheduleFree(free.parameters(), lr=0.05, scaled=scaled)
    trained(free, stock, 4000)
    stock.eval()
    without_rules = float(np.abs(free.flat().detach().numpy() - CENTRE).max())
    # The average forgets its start as one over the number of steps, at a rate that the curvature sets: between 1 and 5.
    assert float(np.abs(net.flat().detach().numpy() - OPTIMUM).max()) < 5.0 * without_rules + 1e-9


def test_the_average_of_asgd_is_on_the_rules() -> None:
    net = Net()
    optimizer = optim.ASGD(net.parameters(), lr=0.05, lambd=0.0, t0=20)
    affinet.project(net, optimizer, rules_for(net))
    trained(net, optimizer, 60)
    average = torch.cat([optimizer.state[p]["ax"].reshape(-1) for p in (net.weight, net.bias)])
    assert gap(average) < 1e-13
    assert not torch.equal(average, net.flat())


def test_the_slow_weights_of_lookahead_are_on_the_rules_from_the_start() -> None:
    net = Net()
    optimizer = Lookahead(optim.Adam(net.parameters(), lr=0.05))
    assert gap(net.flat()) > 0.1
    handle = affinet.project(net, optimizer, rules_for(net))
    seen: list[float] = []

    def look(step: int) -> None:
        slow = torch.cat([optimizer.state[p]["slow"].reshape(-1) for p in (net.weight, net.bias)])
        seen.extend([gap(net.flat()), gap(slow)])
        assert not any(bool(optimizer.state[p]["slow_momentum"].any()) for p in (net.weight, net.bias))

    trained(net, optimizer, 1500, look)
    assert max(seen) < 1e-13
    assert handle.attached_to(optimizer)
    assert handle.attached_to(optimizer.optimizer)
    assert float(np.abs(net.flat().detach().numpy() - OPTIMUM).max()) < 1e-6


def test_lookahead_whose_slow_weights_have_moved_away_is_refused_and_nothing_moves() -> None:
    net = Net()
    optimizer = Lookahead(optim.SGD(net.parameters(), lr=0.05))
    trained(net, optimizer, 4)
    before = net.flat().detach().clone()
    with pytest.raises(affinet.AttachError, match=r"Lookahead .* \(state 'slow'\) .*right after it was made"):
        affinet.project(net, optimizer, rules_for(net))
    assert torch.equal(net.flat(), before)


def test_an_average_that_begins_at_zero_is_reported() -> None:
    net = Net()
    with pytest.warns(UserWarning, match=r"AverageFromZero keeps an average .* 'average'.*handle\.projector\.project"):
        affinet.project(net, AverageFromZero(net.parameters(), lr=0.1), rules_for(net))


def test_two_optimizers_keep_one_point() -> None:
    """A schedule-free one for the matrix and a plain one for the bias: rules couple them, and `z` with the bias."""
    net = Net()
    free = ScheduleFree([net.weight], lr=0.03)
    plain = optim.SGD([net.bias], lr=0.05)
    handle = affinet.project(net, [free, plain], rules_for(net))
    for _ in range(50):
        net.zero_grad()
        net().backward()
        free.step()
        plain.step()
        assert max(handle.violation().values()) < 1e-13


# Probing


@pytest.mark.parametrize(
    ("make", "weights"),
    [
        (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), ()),
        (lambda p: optim.AdamW(p, lr=0.1), ()),
        (lambda p: optim.ASGD(p, lr=0.1), ("ax",)),
        (lambda p: optim.LBFGS(p), ()),
        (lambda p: optim.Rprop(p), ()),
        (lambda p: ScheduleFree(p, lr=0.1), ("z",)),
    ],
    ids=["SGD", "AdamW", "ASGD", "LBFGS", "Rprop", "ScheduleFree"],
)
@pytest.mark.parametrize("start", ["zeros", "random"])
def test_weights_are_told_from_gradients_whatever_the_weights_are(
    make: Callable[[Any], optim.Optimizer], weights: tuple[str, ...], start: str
) -> None:
    """All-zero weights make every buffer look like a copy of them: the probe has weights of its own."""
    parameter = torch.nn.Parameter(torch.zeros(3, 4) if start == "zeros" else torch.randn(3, 4))
    before = parameter.detach().clone()
    optimizer = make([parameter])
    state = torch.get_rng_state()
    assert state_weights(optimizer, parameter).weights == weights
    assert torch.equal(parameter, before)
    assert parameter.grad is None
    assert not optimizer.state
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "coupled"),
    [
        ("SGD", True),
        ("Adam", True),
        ("AdamW", False),
        ("NAdam", True),
        ("RAdam", True),
        ("Adamax", True),
        ("Adagrad", True),
        ("Adadelta", True),
        ("RMSprop", True),
        ("Muon", False),
    ],
)
def test_a_probe_learns_of_torchs_optimizers_what_their_documentation_says_about_decay(
    kind: str, coupled: bool, dtype: torch.dtype, maximize: bool
) -> None:
    if not hasattr(optim, kind):
        pytest.skip(f"this torch has no {kind}")
    if kind == "Adagrad" and torch.__version__ < (2, 14):
        pytest.skip("torch 2.5 to 2.7 make its state with it, and a probe starts without; affinet knows it by name")
    parameter = torch.nn.Parameter(torch.randn(3, 4, dtype=dtype))
    options = {"maximize": True} if maximize and kind != "Muon" else {}
    optimizer = getattr(optim, kind)([parameter], lr=0.1, weight_decay=0.1, **options)
    assert couples_decay(optimizer, parameter, maximize=bool(options)) == coupled


def test_a_probe_reaches_nothing_of_the_training_however_the_optimizer_holds_it() -> None:
    """LBFGS keeps its parameters in a list, a scheduler puts a bound method into the optimizer's place of `step`."""
    parameter = torch.nn.Parameter(torch.randn(3, 4))
    before = parameter.detach().clone()
    for optimizer in (optim.LBFGS([parameter]), optim.SGD([parameter], lr=0.5)):
        optim.lr_scheduler.StepLR(optimizer, 1)
        fired: list[int] = []
        optimizer.register_step_pre_hook(lambda *_, fired=fired: fired.append(1))
        parameter.grad = torch.ones_like(parameter)
        state_weights(optimizer, parameter)
        assert torch.equal(parameter, before)
        assert torch.equal(parameter.grad, torch.ones_like(parameter))
        assert not fired


def test_an_optimizer_that_never_moves_teaches_nothing_about_decay() -> None:
    class Still(optim.SGD):
        def step(self, closure: Any = None) -> Any: ...

    parameter = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(ProbeError, match="does not move"):
        couples_decay(Still([parameter], lr=0.1), parameter)
