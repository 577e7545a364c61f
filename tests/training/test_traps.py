"""The traps of docs/architecture.md that a training falls into without a word: each was measured, each is a test."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet

Optimizer = optim.Optimizer


class Net(torch.nn.Module):
    """Two layers, the same ones every time."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.first, self.second = (torch.nn.Linear(n, m, dtype=dtype) for n, m in ((6, 5), (5, 4)))
        self.inputs = torch.linspace(-1, 1, 48, dtype=dtype).reshape(8, 6)

    def forward(self) -> Tensor:
        return (self.second(torch.tanh(self.first(self.inputs))) - 0.7).square().sum()


def rules_for(net: torch.nn.Module) -> list[affinet.Constraint]:
    """Sums, ties within and across layers, a dense rest, and right-hand sides that are not zero."""
    w = affinet.weights(net)
    return [
        (w.first.weight.sum(dim=1) == 1).named("rows"),
        (w.first.bias[0] == -w.second.bias[1]).named("opposite"),
        (w.second.weight[:, 0] == w.second.weight[:, 1]).named("columns"),
        (w.second.weight[0].sum() + 2 * w.first.bias[2] == 0.5).named("mixed"),
    ]


def projected(
    make: Callable[..., Optimizer], net: Net | None = None, **options: Any
) -> tuple[Net, Optimizer, affinet.Handle]:
    net = Net() if net is None else net
    optimizer = make(net.parameters(), **options)
    return net, optimizer, affinet.project(net, optimizer, rules_for(net))


def backward(net: Net) -> None:
    net.zero_grad()
    net().backward()


def worst(handle: affinet.Handle) -> float:
    return max(handle.violation().values())


def weights(net: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# 1. Weight decay


def test_param_groups_are_never_touched() -> None:
    net, optimizer, _ = projected(optim.Adam, lr=0.1, weight_decay=0.3)
    seen: list[float] = []
    for parameter in net.parameters():
        parameter.register_hook(lambda gradient: seen.append(optimizer.param_groups[0]["weight_decay"]))
    before = copy.deepcopy({k: v for k, v in optimizer.param_groups[0].items() if k != "params"})
    optimizer.register_step_pre_hook(lambda *_: seen.append(optimizer.param_groups[0]["weight_decay"]))
    backward(net)
    optimizer.step()
    assert {k: v for k, v in optimizer.param_groups[0].items() if k != "params"} == before
    assert set(seen) == {0.3}


class Failing(optim.Adam):
    """An optimizer whose step raises when told to."""

    fails = False

    def step(self, closure: Any = None) -> Any:
        if self.fails:
            raise RuntimeError("out of luck")
        return super().step(closure)


def test_a_step_that_raises_leaves_nothing_behind() -> None:
    net, twin = Net(), Net()
    optimizer, stock = (Failing(one.parameters(), lr=0.1, weight_decay=0.3) for one in (net, twin))
    handle, _ = (
        affinet.project(one, opt, rules_for(one), decay="coupled") for one, opt in ((net, optimizer), (twin, stock))
    )
    backward(net)
    before = weights(net)
    optimizer.fails = True
    with pytest.raises(RuntimeError, match="out of luck"):
        optimizer.step()
    assert same(weights(net), before)
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    optimizer.fails = False
    for one, opt in ((net, optimizer), (twin, stock)):
        backward(one)
        opt.step()
    assert same(weights(net), weights(twin))
    assert worst(handle) < 1e-14


class Shy(optim.SGD):
    """A subclass may do anything, and this one steps nothing but what it was made for."""

    def step(self, closure: Any = None) -> Any:
        if len(self.param_groups[0]["params"]) < 4:
            raise RuntimeError("these are not my weights")
        return super().step(closure)


@pytest.fixture
def unknown() -> type[Optimizer]:
    return Shy


@pytest.mark.filterwarnings("ignore:affinet could not learn whether .* keeps separate weights")
def test_an_optimizer_whose_decay_cannot_be_learnt_warns(unknown: type[Optimizer]) -> None:
    with pytest.warns(UserWarning, match=r"Shy has weight decay.*decay='coupled'.*decay='decoupled'"):
        projected(unknown, lr=0.1, weight_decay=0.1)


@pytest.mark.filterwarnings("ignore:affinet could not learn whether .* keeps separate weights")
def test_an_unknown_optimizer_without_decay_does_not_warn_of_it(unknown: type[Optimizer]) -> None:
    projected(unknown, lr=0.1)


@pytest.mark.filterwarnings("ignore:affinet could not learn whether .* keeps separate weights")
def test_decay_says_how_an_unknown_optimizer_decays(unknown: type[Optimizer]) -> None:
    ends = {}
    for said in ("coupled", "decoupled", None):
        net, kind = Net(), optim.SGD if said is None else unknown
        optimizer = kind(net.parameters(), lr=0.05, weight_decay=0.5, momentum=0.9)  # type: ignore[call-arg]
        affinet.project(net, optimizer, rules_for(net), decay=said)  # type: ignore[arg-type]
        backward(net)
        optimizer.step()
        ends[said] = [p.grad.clone() for p in net.parameters()]  # type: ignore[union-attr]
    assert same(ends["coupled"], ends[None])
    assert not same(ends["coupled"], ends["decoupled"])


# 3. Closures


@pytest.mark.parametrize("how", ["positional", "keyword"])
@pytest.mark.parametrize("kind", [optim.SGD, optim.LBFGS])
def test_gradients_from_closures_are_projected(kind: type[Optimizer], how: str) -> None:
    net, optimizer, handle = projected(kind, lr=0.02)
    calls = []

    def closure() -> Tensor:
        backward(net)
        calls.append(1)
        return net().detach()

    losses = [
        float(optimizer.step(closure) if how == "positional" else optimizer.step(closure=closure)) for _ in range(4)
    ]
    assert len(calls) >= 4
    assert losses[-1] < losses[0]
    assert worst(handle) < 1e-12
    tangent = handle.projector.tangent({name: p.grad for name, p in net.named_parameters()})
    assert all(torch.allclose(tangent[name], p.grad, rtol=0, atol=1e-12) for name, p in net.named_parameters())


def test_a_closure_and_a_plain_step_end_in_the_same_place() -> None:
    one, first, _ = projected(optim.Adam, lr=0.1, weight_decay=0.2)
    other, second, _ = projected(optim.Adam, lr=0.1, weight_decay=0.2)
    for _ in range(3):
        backward(one)
        first.step()

        def closure() -> Tensor:
            backward(other)
            return other().detach()

        second.step(closure)
    assert same(weights(one), weights(other))


# 4. Ties of a million entries


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.1, 1e-3, 3.0])
def test_a_large_class_of_equal_numbers_is_its_own_mean(dtype: torch.dtype, value: float) -> None:
    w = affinet.weights({"a": (1_000_000,)})
    plan = affinet.plan(w.a == w.a[:1])
    equal = {"a": torch.full((1_000_000,), value, dtype=dtype)}
    assert torch.equal(plan.projector(equal).project(equal)["a"], equal["a"])


def test_a_large_class_keeps_its_bits_through_fused_and_foreach_steps() -> None:
    for options in ({"fused": True}, {"foreach": True}):
        parameter = torch.nn.Parameter(torch.rand(1003, 7))
        model = torch.nn.Module()
        model.register_parameter("a", parameter)
        optimizer = optim.Adam([parameter], lr=0.1, **options)  # type: ignore[arg-type]
        w = affinet.weights(model)
        affinet.project(model, optimizer, [w.a[1:, :5] == w.a[:1, :5], w.a[:, 5] == -w.a[:, 6]])
        for _ in range(5):
            parameter.grad = torch.rand(1003, 7)
            optimizer.step()
            assert (parameter[1:, :5] == parameter[:1, :5]).all()
            assert torch.equal(parameter[:, 5], -parameter[:, 6])


# 5. Autocast and shortened products


def test_projections_ignore_autocast_and_shortened_products() -> None:
    start = Net(torch.float32)
    ends = []
    for precision, cast in (("highest", False), ("medium", False), ("highest", True), ("medium", True)):
        net = Net(torch.float32)
        net.load_state_dict(start.state_dict())
        torch.set_float32_matmul_precision("highest")
        backward(net)
        torch.set_float32_matmul_precision(precision)
        try:
            with torch.autocast("cpu", torch.bfloat16, enabled=cast):
                optimizer = optim.SGD(net.parameters(), lr=0.1)
                w = affinet.weights(net)
                mix = torch.tensor(np.random.default_rng(0).standard_normal((2, 6)), dtype=torch.float64)
                handle = affinet.project(net, optimizer, [*rules_for(net)[1:], w.first.weight @ mix.T == 1])
                optimizer.step()
                assert worst(handle) < 1e-6
        finally:
            torch.set_float32_matmul_precision("highest")
        ends.append(weights(net))
    for end in ends[1:]:
        assert all(torch.allclose(a, b, rtol=0, atol=5e-7) for a, b in zip(end, ends[0], strict=True))


# 6. Rounding noise and Adam's eps


@pytest.mark.parametrize("rule", ["sums", "ties", "dense", "product"])
def test_flat_directions_do_not_walk_at_an_optimum(rule: str) -> None:
    model = torch.nn.Module()
    model.register_parameter("a", torch.nn.Parameter(torch.randn(8, 12)))
    w = affinet.weights(model)
    draw = np.random.default_rng(2)
    mix = draw.standard_normal((3, 96))
    normal = {
        "sums": ([w.a.sum(dim=1) == 1], draw.standard_normal((8, 1)) + np.zeros((8, 12))),
        "ties": (
            [w.a == w.a[:1]],
            np.sin(np.arange(96.0)).reshape(8, 12) - np.sin(np.arange(96.0)).reshape(8, 12).mean(0),
        ),
        "dense": ([affinet.families.linear([w.a], mix, 1)], (draw.standard_normal(3) @ mix).reshape(8, 12)),
        "product": (
            [w.a.sum(dim=1) == 0, w.a.sum(dim=0) == 0],
            np.add.outer(draw.standard_normal(8), draw.standard_normal(12)),
        ),
    }
    rules, gradient = normal[rule]
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    affinet.project(model, optimizer, rules)
    start = model.a.detach().clone()
    for _ in range(1000):
        model.a.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
    assert float((model.a.detach() - start).abs().max()) < 1e-4


# 7. Copies, second projections, subclasses, removal


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_copies_carry_no_rules(duplicate: Callable[[Any], Any]) -> None:
    net, optimizer, handle = projected(optim.Adam, lr=0.1)
    copied_net, copied = duplicate((net, optimizer))
    assert handle.attached_to(optimizer)
    assert not handle.attached_to(copied)
    backward(copied_net)
    copied.step()
    measured = handle.projector.violation(dict(copied_net.named_parameters()))
    assert max(measured.values()) > 1e-3
    again = affinet.project(copied_net, copied, rules_for(copied_net))
    assert again.attached_to(copied)
    assert handle.attached_to(optimizer)


def test_a_second_projection_raises_until_the_first_is_removed() -> None:
    net, optimizer, handle = projected(optim.SGD, lr=0.1)
    with pytest.raises(affinet.AttachError, match=r"already keeps rules.*handle\.remove\(\)"):
        affinet.project(net, optimizer, rules_for(net))
    handle.remove()
    assert not handle.attached_to(optimizer)
    assert "removed" in repr(handle)
    assert affinet.project(net, optimizer, rules_for(net)).attached_to(optimizer)
    handle.remove()


class Twice(optim.Adam):
    """A subclass whose step calls its parent's: torch then fires the hooks twice."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def test_hooks_that_fire_twice_do_no_harm() -> None:
    one, first, _ = projected(optim.Adam, lr=0.1, weight_decay=0.2)
    other = Net()
    second = Twice(other.parameters(), lr=0.1, weight_decay=0.2)
    handle = affinet.project(other, second, rules_for(other), decay="coupled")
    fired = []
    second.register_step_pre_hook(lambda *_: fired.append(1))
    for _ in range(5):
        for net, optimizer in ((one, first), (other, second)):
            backward(net)
            optimizer.step()
    assert len(fired) == 10
    assert worst(handle) < 1e-14
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(weights(one), weights(other), strict=True))


def test_after_removal_steps_are_stock_to_the_bit() -> None:
    net, optimizer, handle = projected(optim.Adam, lr=0.1, weight_decay=0.2)
    backward(net)
    optimizer.step()
    handle.remove()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    twin = Net()
    twin.load_state_dict(net.state_dict())
    stock = optim.Adam(twin.parameters(), lr=0.1, weight_decay=0.2)
    stock.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        for one, opt in ((net, optimizer), (twin, stock)):
            backward(one)
            opt.step()
    assert same(weights(net), weights(twin))
    assert worst(handle) > 1e-3


def test_nothing_keeps_a_projected_training_alive() -> None:
    net, optimizer, handle = projected(optim.Adam, lr=0.1)
    held = [weakref.ref(x) for x in (net, optimizer)]
    del net, optimizer, handle
    gc.collect()
    assert [reference() for reference in held] == [None, None]


def test_a_handle_alone_keeps_no_optimizer_alive_and_can_still_be_removed() -> None:
    _, optimizer, handle = projected(optim.Adam, lr=0.1)
    held = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert held() is None
    handle.remove()


# 8. Missing gradients


def test_a_missing_gradient_takes_its_part_where_rules_couple_it_and_is_missing_again_after_the_step() -> None:
    """Its coupled entries step as with a gradient of zeros; the others stay, whatever momentum and decay would do."""
    net, optimizer, handle = projected(optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.3)
    backward(net)
    full = {name: p.grad.clone() for name, p in net.named_parameters()}  # type: ignore[union-attr]
    net.second.bias.grad = None
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer.step()
    assert net.second.bias.grad is None
    assert torch.equal(net.second.bias[[0, 2, 3]], before["second.bias"][[0, 2, 3]])
    assert worst(handle) < 1e-14
    used = {n: full[n] + 0.3 * before[n] for n in full} | {"second.bias": 0.3 * before["second.bias"]}
    wanted = handle.projector.tangent(used)
    for name, parameter in net.named_parameters():
        moved = (before[name] - parameter.detach()) / 0.1
        where = [1] if name == "second.bias" else slice(None)
        assert torch.allclose(moved[where], wanted[name][where], rtol=0, atol=1e-13), name


def test_no_gradient_at_all_moves_nothing() -> None:
    net, optimizer, _ = projected(optim.Adam, lr=0.1, weight_decay=0.3)
    before = weights(net)
    optimizer.step()
    assert same(weights(net), before)
    assert all(parameter.grad is None for parameter in net.parameters())
