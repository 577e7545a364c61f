"""Optimizers inside optimizers, steps that do not pass through `step`, and several that meet on one weight."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, optim

import affinet
from tests.training.guests import Delegating, Moving, SharpnessAware, TwoPasses
from tests.training.test_own_weights import OPTIMUM, Net, gap, rules_for


def distance(net: Net) -> float:
    return float((net.flat().detach() - torch.tensor(OPTIMUM)).abs().max())


def kept(net: Net) -> Tensor:
    return net.flat().detach().clone()


@pytest.mark.parametrize("base", [optim.SGD, optim.Adam])
@pytest.mark.parametrize("how", ["first_step and second_step", "closure"])
@pytest.mark.parametrize("given", ["outer", "inner"])
def test_two_passes_with_an_inner_optimizer_keep_the_rules_and_reach_the_optimum(
    base: type[optim.Optimizer], how: str, given: str
) -> None:
    net, steps = Net(), 1200
    optimizer = SharpnessAware(net.parameters(), base, rho=1e-4, lr=0.05)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer.base_optimizer, steps)
    handle = affinet.project(net, optimizer if given == "outer" else optimizer.base_optimizer, rules_for(net))

    def closure() -> Any:
        net.zero_grad()
        loss = net()
        loss.backward()
        return loss

    for step in range(steps):
        closure()
        if how == "closure":
            optimizer.step(closure)
        else:
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step(zero_grad=True)
        if step < 20 or step % 100 == 0:
            assert gap(net.flat()) < 1e-13
        schedule.step()
    assert handle.attached_to(optimizer.base_optimizer)
    # The worst point within rho is rho away, and the gradient there differs by the curvature, at most 6, times rho.
    assert distance(net) < 10 * 1e-4


def test_two_passes_without_an_inner_optimizer_are_refused_and_nothing_moves() -> None:
    net = Net()
    before = kept(net)
    with pytest.raises(affinet.AttachError, match=r"TwoPasses moves weights in first_step.*affinet\.reparametrize"):
        affinet.project(net, TwoPasses(net.parameters(), lr=0.1), rules_for(net))
    assert torch.equal(net.flat(), before)


def test_an_optimizer_that_passes_everything_on_is_seen_through() -> None:
    """As accelerate's prepared optimizers: no hooks of their own, and the state of the inner one."""
    ends = []
    for wrap in (lambda one: one, Delegating, lambda one: Delegating(Delegating(one))):
        torch.manual_seed(0)
        net = Net()
        net.load_state_dict({name: torch.ones_like(value) for name, value in net.state_dict().items()})
        inner = optim.Adam(net.parameters(), lr=0.05, weight_decay=0.1)
        optimizer = wrap(inner)
        handle = affinet.project(net, optimizer, rules_for(net))
        assert handle.attached_to(optimizer)
        assert handle.attached_to(inner)
        for _ in range(20):
            optimizer.zero_grad()
            net().backward()
            optimizer.step()
        ends.append(kept(net))
        handle.remove()
        assert not handle.attached_to(optimizer)
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_a_wrapper_without_hooks_and_with_state_of_its_own_is_refused_and_nothing_moves() -> None:
    net = Net()
    before = kept(net)
    with pytest.raises(affinet.AttachError, match=r"Moving may move weights after .* SGD .*affinet\.reparametrize"):
        affinet.project(net, Moving(optim.SGD(net.parameters(), lr=0.1)), rules_for(net))
    assert torch.equal(net.flat(), before)


def test_an_optimizer_without_hooks_is_refused_and_nothing_moves() -> None:
    class Bare(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            self.param_groups, self.state = [{"params": list(params)}], {}  # type: ignore[assignment]

    net = Net()
    before = kept(net)
    with pytest.raises(affinet.AttachError, match=r"Bare takes no step hooks.*super\(\).__init__"):
        affinet.project(net, Bare(net.parameters()), rules_for(net))
    assert torch.equal(net.flat(), before)


# Several over one weight


def test_a_second_optimizer_over_a_constrained_weight_is_refused_until_the_first_is_gone() -> None:
    net = Net()
    w = affinet.weights(net)
    first, second = (optim.SGD(net.parameters(), lr=0.1) for _ in range(2))
    handle = affinet.project(net, first, w.weight.sum() == 1)
    before = kept(net)
    with pytest.raises(
        affinet.AttachError, match=r"another optimizer \(SGD\) keeps rules, and both would move weight,"
    ):
        affinet.project(net, second, w.weight[0].sum() == 3)
    with pytest.raises(affinet.AttachError, match=r"both would move bias, weight, each against"):
        affinet.project(net, second, w.bias.sum() == 3)  # which it holds, and which it would move
    assert torch.equal(net.flat(), before)
    handle.remove()
    assert affinet.project(net, second, w.weight[0].sum() == 3).attached_to(second)


def test_an_optimizer_that_is_gone_is_in_nobodys_way() -> None:
    """Trainers make an optimizer for each call of `fit`, and schedulers keep the last one alive in a cycle."""
    net = Net()
    w = affinet.weights(net)
    for _ in range(3):
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.StepLR(optimizer, 1)
        affinet.project(net, optimizer, w.weight.sum() == 1)
        del optimizer, schedule
    gc.collect()


def test_optimizers_over_different_weights_may_keep_rules_of_their_own() -> None:
    net = Net()
    w = affinet.weights(net)
    one = affinet.project(net, optim.SGD([net.weight], lr=0.1), w.weight.sum() == 1)
    two = affinet.project(net, optim.SGD([net.bias], lr=0.1), w.bias.sum() == 1)
    assert max([*one.violation().values(), *two.violation().values()]) < 1e-14


def test_hooks_of_others_see_weights_on_the_rules_whenever_they_were_registered() -> None:
    """An average of the weights, taken in a hook that was there before ours, is on the rules."""
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    seen: list[float] = []
    optimizer.register_step_post_hook(lambda *_: seen.append(gap(net.flat())))
    affinet.project(net, optimizer, rules_for(net))
    optimizer.register_step_post_hook(lambda *_: seen.append(gap(net.flat())))
    for _ in range(5):
        net.zero_grad()
        net().backward()
        optimizer.step()
    assert len(seen) == 10
    assert max(seen) < 1e-13
