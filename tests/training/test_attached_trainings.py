"""Averaged weights, weights frozen after attaching, and which optimizers may be given at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import affinet
from tests.training.test_several_optimizers import Net, backward, pair, rules_for, same, weights, worst


def mean_of_both(average: torch.Tensor, now: torch.Tensor, _: Any) -> torch.Tensor:
    return (average + now) / 2


# Averages


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("how", ["swa", "ema", "own"])
def test_averages_keep_ties_to_the_bit_and_sums_to_rounding(how: str, dtype: torch.dtype) -> None:
    net = Net().to(dtype)
    net.curvature, net.centre = net.curvature.to(dtype), net.centre.to(dtype)
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net))
    averaged = {
        "swa": lambda: AveragedModel(net),
        "ema": lambda: AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
        "own": lambda: AveragedModel(net, avg_fn=mean_of_both),
    }[how]()
    for _ in range(50):
        backward(net)
        optimizer.step()
        averaged.update_parameters(net)
    mean = dict(averaged.module.named_parameters())
    assert torch.equal(mean["first.weight"][:2, :3], mean["second.weight"][:3, :2].T)
    spacing = torch.finfo(dtype).eps
    assert max(handle.projector.violation(mean).values()) < 64 * spacing
    projected = handle.projector.project(mean)
    assert max(handle.projector.violation(projected).values()) < 8 * spacing
    assert not handle.attached_to(optim.SGD(averaged.parameters(), lr=0.1))


def test_averages_in_half_precision_drift_and_are_projected_back() -> None:
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net))
    average = {name: p.detach().to(torch.bfloat16) for name, p in net.named_parameters()}
    for _ in range(50):
        backward(net)
        optimizer.step()
        average = {name: average[name].lerp(p.detach().to(torch.bfloat16), 0.1) for name, p in net.named_parameters()}
    drifted = handle.projector.violation(average)
    settled = handle.projector.violation(handle.projector.project(average))
    assert drifted["sum"] > 1e-3
    assert settled["sum"] <= 2**-7
    assert sum(settled.values()) < sum(drifted.values())


# Frozen after attaching


def test_weights_frozen_after_attaching_and_thawed_again() -> None:
    """`requires_grad` toggled later is a missing gradient: its entries are free to be moved by the projection."""
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    handle = affinet.project(net, optimizer, rules_for(net))
    backward(net)
    optimizer.step()
    net.second.bias.requires_grad_(False)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        net().backward()
        assert net.second.bias.grad is None
        optimizer.step()
        assert worst(handle) < 1e-13
    net.second.bias.requires_grad_(True)
    for _ in range(3):
        backward(net)
        assert net.second.bias.grad is not None
        optimizer.step()
        assert worst(handle) < 1e-13


# What may be given


def test_a_list_of_one_is_that_one() -> None:
    one, two = Net(), Net()
    for net, wrap in ((one, False), (two, True)):
        optimizer = optim.Adam(net.parameters(), lr=0.1, weight_decay=0.2)
        affinet.project(net, [optimizer] if wrap else optimizer, rules_for(net))
        for _ in range(5):
            backward(net)
            optimizer.step()
    assert same(weights(one), weights(two))


def test_an_optimizer_in_two_handles_is_refused_and_nothing_has_changed() -> None:
    net = Net()
    optimizers = pair(net)
    handle = affinet.project(net, optimizers, rules_for(net))
    before, w = weights(net), affinet.weights(net)
    other = optim.SGD(net.parameters(), lr=0.1)
    for again in (optimizers, optimizers[:1], optimizers[1], [optimizers[1], other]):
        with pytest.raises(affinet.AttachError, match=r"already keeps rules.*handle\.remove\(\)"):
            affinet.project(net, again, w.first.bias.sum() == 3)
    assert same(weights(net), before)
    assert len(optimizers[0]._optimizer_step_pre_hooks) == 1
    assert not other._optimizer_step_pre_hooks
    assert all(handle.attached_to(one) for one in optimizers)
    assert not handle.attached_to(other)
    handle.remove()
    assert not any(handle.attached_to(one) for one in optimizers)
    affinet.project(net, optimizers, rules_for(net))


def test_the_same_optimizer_twice_in_a_list_is_refused() -> None:
    net = Net()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(affinet.AttachError, match="twice"):
        affinet.project(net, [optimizer, optimizer], rules_for(net))
    assert not optimizer._optimizer_step_pre_hooks


def test_no_optimizer_at_all_is_refused() -> None:
    net = Net()
    before = weights(net)
    with pytest.raises(affinet.AttachError, match="no optimizer"):
        affinet.project(net, [], rules_for(net))
    assert same(weights(net), before)


def test_two_optimizers_that_hold_one_parameter_are_refused() -> None:
    """It would be stepped twice, and which decay and rate are its own could not be told."""
    net = Net()
    with pytest.raises(affinet.AttachError, match=r"more than one of the optimizers holds first\.weight.*in turn"):
        affinet.project(net, [optim.SGD(net.parameters(), lr=0.1), optim.Adam([net.first.weight])], rules_for(net))
