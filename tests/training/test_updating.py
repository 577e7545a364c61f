"""`handle.update`: other rules on a training that goes on."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from tests.training.guests import Lookahead, ScheduleFree
from tests.training.test_own_weights import Net, gap, rules_for, trained

Optimizer = optim.Optimizer


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.a, self.b = (torch.nn.Parameter(torch.randn(6, 8, generator=draw, dtype=torch.float64)) for _ in range(2))

    def forward(self) -> Tensor:
        return (self.a - 1.0).square().sum() + (self.b + 2.0).square().sum()


def step(model: torch.nn.Module, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    model().backward()
    optimizer.step()


def weights(model: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def state(optimizer: Optimizer) -> list[Tensor]:
    return [value for held in optimizer.state.values() for value in held.values() if isinstance(value, Tensor)]


def test_a_mask_that_moves_every_few_steps_keeps_the_optimizer_as_it_is() -> None:
    """Pruning: the smallest weights are zero, more of them each time, and those of the last time may grow again."""
    model = Layer()
    w = affinet.weights(model)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    handle = affinet.project(model, optimizer, [])
    for share in (0.25, 0.5, 0.75):
        for _ in range(4):
            step(model, optimizer)
        mask = model.a.detach().abs() <= model.a.detach().abs().quantile(share)
        before, kept = weights(model), copy.deepcopy(state(optimizer))
        handle.update(families.fix(w.a, where=mask.numpy()))
        assert all(torch.equal(one, other) for one, other in zip(state(optimizer), kept, strict=True))
        assert torch.equal(model.a.detach(), torch.where(mask, 0.0, before[0]))
        assert torch.equal(model.b.detach(), before[1])
        assert handle.moved == {"a": pytest.approx(float(before[0][mask].norm()))}
        for _ in range(2):
            step(model, optimizer)
            assert not model.a.detach()[mask].any()
    assert handle.attached_to(optimizer)


def test_new_rules_are_what_a_removal_and_a_new_call_would_keep() -> None:
    ends = []
    for updates in (True, False):
        model = Layer()
        w = affinet.weights(model)
        optimizer = optim.Adam(model.parameters(), lr=0.05, weight_decay=0.1)
        handle = affinet.project(model, optimizer, w.a.sum(dim=1) == 1)
        for rules in (w.a == w.b, [w.b[0] == 2.0, w.a.sum() + w.b.sum() == 1], w.a.sum(dim=0) == 3):
            for _ in range(5):
                step(model, optimizer)
            if updates:
                handle.update(rules)
            else:
                handle.remove()
                handle = affinet.project(model, optimizer, rules)
            assert max(handle.violation().values()) < 1e-13
        for _ in range(5):
            step(model, optimizer)
        assert [rule.name for rule in handle.plan.system.rules] == list(handle.violation())
        ends.append(weights(model))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


@pytest.mark.parametrize(
    "make", [lambda p: ScheduleFree(p, lr=0.02), lambda p: Lookahead(optim.SGD(p, lr=0.02))], ids=["free", "slow"]
)
def test_weights_that_optimizers_keep_go_to_the_new_rules_too(make: Any) -> None:
    net = Net()
    w = affinet.weights(net)
    optimizer = make(net.parameters())
    handle = affinet.project(net, optimizer, w.weight.sum() == 1)
    trained(net, optimizer, 10)
    handle.update(rules_for(net))
    assert gap(net.flat()) < 1e-13
    key = "z" if isinstance(optimizer, ScheduleFree) else "slow"
    assert gap(torch.cat([optimizer.state[p][key].reshape(-1) for p in (net.weight, net.bias)])) < 1e-13
    trained(net, optimizer, 10, lambda _: None)
    assert gap(net.flat()) < 1e-13


def test_rules_that_cannot_be_kept_leave_the_old_ones_and_the_weights() -> None:
    model = Layer()
    w = affinet.weights(model)
    optimizer = optim.SGD([model.a], lr=0.05)
    handle = affinet.project(model, optimizer, (w.a.sum(dim=1) == 1).named("rows"))
    before = weights(model)
    with pytest.raises(affinet.InfeasibleError):
        handle.update([w.a[0] == 1, w.a[0] == 2])
    with pytest.raises(affinet.AttachError, match=r"does not hold: b"):
        handle.update(w.a == w.b)
    with pytest.raises(affinet.AttachError, match="no such tensor"):
        handle.update(affinet.weights({"c": (3,)}).c == 0)
    model.a.data = model.a.data.float()
    with pytest.raises(affinet.AttachError, match="cannot hold"):
        handle.update(w.a[0] == 1e100)
    model.a.data = before[0]
    assert all(torch.equal(one, other) for one, other in zip(weights(model), before, strict=True))
    assert list(handle.violation()) == ["rows"]
    step(model, optimizer)
    assert max(handle.violation().values()) < 1e-13


def test_rules_over_weights_of_another_handle_are_refused() -> None:
    model = Layer()
    w = affinet.weights(model)
    first, second = optim.SGD([model.a], lr=0.1), optim.SGD([model.b], lr=0.1)
    one = affinet.project(model, first, w.a.sum() == 1)
    two = affinet.project(model, second, w.b.sum() == 1)
    with pytest.raises(affinet.AttachError, match=r"both would move a, each"):
        two.update(w.a.sum() == 2)
    assert max(one.violation().values()) < 1e-14
    assert two.attached_to(second)


def test_a_handle_whose_rules_were_taken_off_has_none_to_replace() -> None:
    model = Layer()
    w = affinet.weights(model)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, w.a.sum() == 1)
    handle.remove()
    with pytest.raises(affinet.AttachError, match=r"no training whose rules"):
        handle.update(w.a.sum() == 2)
    handle = affinet.project(model, optimizer, w.a.sum() == 1)
    optimizer.zero_grad()
    del model, w
    gc.collect()
    with pytest.raises(affinet.AttachError, match=r"no training whose rules"):
        handle.update([])


def test_a_watch_goes_on_with_the_new_rules() -> None:
    model = Layer()
    w = affinet.weights(model)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, (w.a.sum() == 1).named("one"))
    watch = handle.watch(multipliers=True)
    step(model, optimizer)
    handle.update((w.b.sum() == 2).named("two"))
    step(model, optimizer)
    first, second = watch.history
    assert (list(first.violation), list(second.violation)) == (["one"], ["two"])
    assert (list(first.multipliers), list(second.multipliers)) == (["one"], ["two"])
    assert max(second.violation.values()) < 1e-13
