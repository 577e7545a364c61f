"""Averaged weights, weights frozen after attaching, and which optimizers may be given at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import affinet
from affinet.kernels.torch import sparse_kernel as sparse
from affinet.kernels.torch.projector import Projector
from affinet.kernels.torch.sparse_kernel import SparseKernel
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


def test_weights_frozen_after_attaching_stay_where_they_are_until_thawed() -> None:
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    handle = affinet.project(net, optimizer, rules_for(net))
    backward(net)
    optimizer.step()
    net.second.bias.requires_grad_(False)
    frozen = net.second.bias.detach().clone()
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        net().backward()
        assert net.second.bias.grad is None
        optimizer.step()
        assert worst(handle) < 1e-13
        assert torch.equal(net.second.bias, frozen)
    net.second.bias.requires_grad_(True)
    for _ in range(3):
        backward(net)
        assert net.second.bias.grad is not None
        optimizer.step()
        assert worst(handle) < 1e-13
    assert not torch.equal(net.second.bias, frozen)


def test_the_optimum_is_that_of_the_weights_that_are_trained() -> None:
    """Frozen after attaching: minimise ‖w − t‖² over a alone, with a.sum() + b.sum() == 1 and b held."""
    model = torch.nn.ParameterDict({"a": torch.zeros(3, dtype=torch.float64), "b": torch.ones(2, dtype=torch.float64)})
    w = affinet.weights(model)
    optimizer = optim.SGD(model.parameters(), lr=0.2)
    handle = affinet.project(model, optimizer, w.a.sum() + w.b.sum() == 1)
    model["b"].requires_grad_(False)
    held, target = model["b"].detach().clone(), torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    for _ in range(200):
        optimizer.zero_grad()
        (model["a"] - target).square().sum().backward()
        optimizer.step()
    wanted = target + (1 - held.sum() - target.sum()) / 3
    assert torch.allclose(model["a"], wanted, atol=1e-12)
    assert torch.equal(model["b"], held)
    assert set(handle.multipliers()) == set(handle.violation())


def test_two_parts_frozen_in_turn_are_planned_once_each() -> None:
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    handle = affinet.project(net, optimizer, rules_for(net))
    whole, seen = handle.projector, set()
    for turn in range(6):
        net.second.bias.requires_grad_(turn % 2 == 1)
        optimizer.zero_grad(set_to_none=True)
        net().backward()
        optimizer.step()
        seen.add(handle.projector if turn % 2 == 0 else whole)
        assert worst(handle) < 1e-13
    assert handle.projector is whole
    assert len(seen) > 1  # the bias moved while it was trained, so that its constant is another one each time


def test_freezing_what_a_rule_then_cannot_do_without_names_the_rule() -> None:
    model = torch.nn.ParameterDict({"a": torch.zeros(3), "b": torch.ones(2)})
    w = affinet.weights(model)
    optimizer = optim.SGD(model.parameters(), lr=0.2)
    affinet.project(model, optimizer, (w.a.sum() == 1).named("a sums to one"))
    with torch.no_grad():
        model["a"].copy_(torch.ones(3))
    model["a"].requires_grad_(False)
    for _ in range(2):
        optimizer.zero_grad()
        model["b"].square().sum().backward()
        with pytest.raises(affinet.InfeasibleError, match="a sums to one"):
            optimizer.step()
    assert torch.equal(model["b"], torch.ones(2))


def test_thawing_a_weight_that_no_optimizer_holds_is_refused_at_the_next_step() -> None:
    model = torch.nn.ParameterDict({"a": torch.zeros(3), "b": torch.ones(2)})
    model["b"].requires_grad_(False)
    w = affinet.weights(model)
    optimizer = optim.SGD([model["a"]], lr=0.2)
    handle = affinet.project(model, optimizer, w.a[0] == w.b[0])
    model["b"].requires_grad_(True)
    model["a"].square().sum().backward()
    with pytest.raises(affinet.AttachError, match="does not hold: b"):
        optimizer.step()
    optimizer.add_param_group({"params": [model["b"]]})
    optimizer.step()
    assert handle.violation() == {"a[0] == b[0]": 0.0}


def two_weights(value: float = 0.0) -> tuple[torch.nn.ParameterDict, affinet.Constraint]:
    model = torch.nn.ParameterDict({"a": torch.zeros(2, dtype=torch.float64), "b": torch.full((2,), value).double()})
    w = affinet.weights(model)
    return model, w.a == w.b


def test_a_frozen_weight_that_is_loaded_anew_is_the_constant_from_then_on() -> None:
    model, rule = two_weights()
    model["b"].requires_grad_(False)
    optimizer = optim.SGD([model["a"]], lr=0.1)
    handle = affinet.project(model, optimizer, rule)
    model.load_state_dict({"a": torch.zeros(2), "b": torch.full((2,), 5.0)})
    assert max(handle.violation().values()) == 5.0
    (model["a"] - 3).square().sum().backward()
    optimizer.step()
    assert torch.equal(model["a"], torch.full((2,), 5.0, dtype=torch.float64))
    assert max(handle.violation().values()) == 0.0


def test_a_frozen_value_that_contradicts_later_is_refused_as_when_attaching() -> None:
    model = torch.nn.ParameterDict({"w": torch.zeros(2), "f": torch.nn.Parameter(torch.ones(2), requires_grad=False)})
    w = affinet.weights(model)
    optimizer = optim.SGD([model["w"]], lr=0.1)
    rules = [(w.w[0] == w.f[0]).named("first"), (w.w[0] == w.f[1]).named("second")]
    handle = affinet.project(model, optimizer, rules)
    with torch.no_grad():
        model["f"][1] = 2.0
    model["w"].grad = torch.ones(2)
    with pytest.raises(affinet.InfeasibleError, match=r'(?s)"first".*"second".*f is frozen') as later:
        optimizer.step()
    with torch.no_grad():
        model["f"].fill_(3.0)
    optimizer.step()
    assert model["w"][0] == 3.0
    handle.remove()
    with torch.no_grad():
        model["f"].copy_(torch.tensor([1.0, 2.0]))
    with pytest.raises(affinet.InfeasibleError) as at_first:
        affinet.project(model, optim.SGD([model["w"]], lr=0.1), rules)
    assert str(later.value) == str(at_first.value)


def test_kernels_of_rules_that_no_frozen_value_enters_serve_on() -> None:
    model = torch.nn.ParameterDict(
        {"a": torch.zeros(8, 8), "b": torch.zeros(8), "f": torch.nn.Parameter(torch.ones(4), requires_grad=False)}
    )
    w = affinet.weights(model)
    optimizer = optim.SGD([model["a"], model["b"]], lr=0.1)
    handle = affinet.project(model, optimizer, [w.a.sum(1) == 1, w.b[:4] + 2 * w.b[4:] == w.f])
    weights = {"a": model["a"], "b": model["b"]}
    before = handle.projector.kernels(weights)
    with torch.no_grad():
        model["f"].fill_(3.0)
    for name in ("a", "b"):
        model[name].grad = torch.zeros_like(model[name])
    optimizer.step()
    after = handle.projector.kernels(weights)
    assert [kernel.names for kernel in after if any(kernel is other for other in before)] == [("a",)]
    assert torch.equal((model["b"][:4] + 2 * model["b"][4:]).detach(), torch.full((4,), 3.0))


def test_a_changed_frozen_value_makes_no_sparse_factor_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one component that is too large for a dense factor."""
    draw = torch.Generator().manual_seed(0)
    model = torch.nn.ParameterDict({"w": torch.randn(4_000, generator=draw, dtype=torch.float64)})
    model["f"] = torch.nn.Parameter(torch.randn(1_800, generator=draw, dtype=torch.float64), requires_grad=False)
    terms = torch.randint(0, 4_000, (1_800, 4), generator=draw)
    scales = torch.randn(1_800, 4, generator=draw, dtype=torch.float64)
    w = affinet.weights(model)
    optimizer = optim.SGD([model["w"]], lr=0.1)
    rule = (scales * w.w[terms]).sum(dim=1) == w.f
    handle = affinet.project(model, optimizer, rule)
    assert any(isinstance(kernel, SparseKernel) for kernel in handle.projector.kernels({"w": model["w"]}))
    with torch.no_grad():
        model["f"].normal_(generator=draw)
    anew = affinet.plan(rule).with_constants({"f": model["f"].detach().numpy()}, torch.finfo(torch.float64).eps)
    wanted = {"w": model["w"].detach().clone()}
    Projector(anew, wanted).project_(wanted)
    monkeypatch.setattr(sparse, "factored", None)
    model["w"].grad = torch.zeros_like(model["w"])
    optimizer.step()
    assert torch.equal(model["w"].detach(), wanted["w"])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_frozen_weight_that_a_gradient_left_over_still_moves_keeps_the_rules(momentum: float) -> None:
    """As in stock training: an optimizer steps what has a gradient, whether it requires one or not."""
    model, rule = two_weights()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    handle = affinet.project(model, optimizer, rule)
    for step in range(6):
        optimizer.zero_grad(set_to_none=step < 3)
        model["b"].requires_grad_(step < 3)
        ((model["a"] - 1).square().sum() + (model["b"] - 3).square().sum()).backward()
        if step == 2:
            model["b"].requires_grad_(False)  # between backward and step
        optimizer.step()
        assert torch.equal(model["a"], model["b"])
        assert max(handle.violation().values()) == 0.0


@pytest.mark.parametrize("early", [False, True])
def test_gradients_written_where_no_version_tells_are_projected(early: bool) -> None:
    """Master weights: gradients are copied into `.grad.data`."""
    model, _ = two_weights()
    w = affinet.weights(model)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, w.a[0] == w.a[1])
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for k in range(600):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - k / 600)
        model["a"].grad.data.copy_(2 * torch.tensor([1.0, 3.0]) * (model["a"].detach() - torch.tensor([0.2, 1.0])))
        if early:
            handle.project_gradients()
            model["a"].grad.data.mul_(torch.tensor([1.0, 0.5]))
            model["a"].grad.data.mul_(torch.tensor([1.0, 2.0]))
        optimizer.step()
    assert torch.allclose(model["a"], torch.full((2,), 0.8, dtype=torch.float64), atol=1e-6)


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
