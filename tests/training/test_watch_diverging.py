"""Multipliers that diverge and numbers that are not finite are told by a watch."""

from __future__ import annotations

import pytest
import torch
from torch import optim

import affinet
from affinet.training.alarms import DIVERGED_STEPS, FEWEST_KNOWN, MultiplierSizes
from tests.training.test_traps import backward
from tests.training.watched import step, watched


def test_multipliers_of_a_loss_that_diverges_are_told_with_the_rule() -> None:
    net, optimizer, _, _ = watched(optim.SGD, lr=1e-4)

    def diverging(steps: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.0
        for number in range(steps):
            net.zero_grad()
            (net() * 1.5**number).backward()
            optimizer.step()

    for _ in range(FEWEST_KNOWN + 2):
        step(net, optimizer)
    with pytest.warns(affinet.MultipliersDivergeWarning, match=r"multipliers of \".*\" diverge: their norm is") as told:
        diverging(60)
    assert len(told) == 1
    said = told[0].message
    assert isinstance(said, affinet.MultipliersDivergeWarning)
    assert said.size > 1e3 * said.usual > 0.0


CALM = [1.0, 1.5, 0.7, 2.0] * (FEWEST_KNOWN // 2)


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        (True, [*CALM, *[5e3] * DIVERGED_STEPS]),
        (True, [*CALM, *[5e3 * 2.0**k for k in range(DIVERGED_STEPS)]]),
        (True, [2.0**k for k in range(60)]),
        (True, [*CALM, float("inf")]),
        (False, [*CALM, *[5e3] * (DIVERGED_STEPS - 1), *CALM, *[5e3] * (DIVERGED_STEPS - 1)]),  # single bad batches
        (False, [5e3] * (FEWEST_KNOWN - 1)),
        (False, [*([0.0] * 20), *CALM]),  # a layer that gets no gradient at first
        (False, [1e-6 * (k + 1) ** 2 for k in range(3000)]),  # a warm-up from nothing
        (False, [*CALM, *[1e-9] * 200, *CALM]),  # an optimum, and then other data
        (False, [*CALM, *[500.0] * 20]),
    ],
)
def test_multipliers_diverge_where_they_grow_far_and_stay_there(told: bool, seen: list[float]) -> None:
    growth = MultiplierSizes()
    found = [growth.update({"rule": size, "other": 1.0}) for size in seen]
    assert any(grown is not None for grown in found) is told
    assert all(grown.rule == "rule" for grown in found if grown is not None)


def test_multipliers_that_are_rounding_beside_others_do_not_diverge() -> None:
    growth = MultiplierSizes()
    assert all(growth.update({"rule": 1e-15, "other": 1.0}) is None for _ in range(20))
    assert all(growth.update({"rule": 1e-5, "other": 1.0}) is None for _ in range(20))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_told_once_with_their_weights(bad: float) -> None:
    net, optimizer, _, watch = watched(optim.SGD)
    step(net, optimizer)
    backward(net)
    assert net.first.bias.grad is not None
    net.first.bias.grad[1] = bad
    with pytest.warns(
        affinet.NotFiniteWarning, match=r"the gradients of first\.bias and .* step 1\..*check_finite"
    ) as told:
        optimizer.step()
    assert len(told) == 1
    said = told[0].message
    assert isinstance(said, affinet.NotFiniteWarning)
    assert said.gradients == ("first.bias",)
    assert "first.bias" in said.weights
    step(net, optimizer)  # told once
    assert watch.history[1].numbers().keys() == watch.history[0].numbers().keys()


def test_weights_that_are_not_finite_are_told_where_gradients_are() -> None:
    net, optimizer, _, _ = watched(optim.SGD)
    backward(net)
    net.second.weight.data[0, 0] = float("nan")
    with pytest.warns(affinet.NotFiniteWarning, match=r"^first\.bias, second\.weight hold .* not finite") as told:
        optimizer.step()
    said = told[0].message
    assert isinstance(said, affinet.NotFiniteWarning)
    assert said.gradients == ()


def test_squares_that_overflow_are_no_reason_to_warn() -> None:
    """The step is longer than float32 can say, and each of its entries is a number."""
    net, optimizer, _, watch = watched(optim.SGD, torch.float32, lr=1.0)
    backward(net)
    assert net.second.bias.grad is not None
    net.second.bias.grad[2:] = 3e38  # of entries in no rule
    optimizer.step()
    assert watch.history[0].step_length == float("inf")
    assert bool(net.second.bias.isfinite().all())
