"""Each way of training that torch offers: mixed and half precision, functional calls, checkpoints, casts, resuming."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, optim
from torch.utils.checkpoint import checkpoint

import affinet
from tests.training.test_traps import Net, backward, projected, rules_for, same, weights, worst

Optimizer = optim.Optimizer
FUSED = {"Adam": optim.Adam, "AdamW": optim.AdamW, "SGD": optim.SGD, "Adagrad": optim.Adagrad}


def step(net: Net, optimizer: Optimizer) -> None:
    backward(net)
    optimizer.step()


def bits(optimizer: Optimizer) -> list[Tensor]:
    return [
        value.clone() for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
    ]


# Autocast and GradScaler


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", FUSED)
def test_a_skipped_step_changes_no_bit(name: str, fused: bool) -> None:
    net, optimizer, handle = projected(FUSED[name], lr=0.1, weight_decay=0.2, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for overflow in (False, True, False):
        # Off the rules by hand, so that a projection of a skipped step would show.
        with torch.no_grad():
            net.first.weight[0, 0] += 0.25
        before, state, scale = weights(net), bits(optimizer), scaler.get_scale()
        optimizer.zero_grad()
        scaler.scale(net() * (float("inf") if overflow else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        if overflow:
            assert same(weights(net), before)
            assert same(bits(optimizer), state)
            assert scaler.get_scale() < scale
        else:
            assert worst(handle) < 1e-13
            assert not same(weights(net), before)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", FUSED)
def test_scaled_gradients_and_coupled_decay_give_the_unscaled_step(name: str, fused: bool, clip: bool) -> None:
    ends = []
    for scaled in (True, False):
        net, optimizer, handle = projected(FUSED[name], lr=0.05, weight_decay=0.3, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        for _ in range(5):
            optimizer.zero_grad()
            scaler.scale(net()).backward()
            if clip:
                scaler.unscale_(optimizer)
                handle.project_gradients()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            assert worst(handle) < 1e-13
        ends.append(weights(net))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*ends, strict=True))


def test_several_optimizers_with_gradients_still_scaled_raise_and_take_no_step() -> None:
    net = Net()
    optimizers = [optim.Adam(net.first.parameters(), lr=0.1, fused=True), optim.SGD(net.second.parameters(), lr=0.1)]
    affinet.project(net, optimizers, rules_for(net))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scaler.scale(net()).backward()
    before = weights(net)
    with pytest.raises(affinet.GradientError, match=r"still scaled by a GradScaler.*scaler\.unscale_\(optimizer\)"):
        scaler.step(optimizers[0])
    assert same(weights(net), before)


def test_several_optimizers_with_unscaled_gradients_train() -> None:
    ends = []
    for scaled in (True, False):
        net = Net()
        optimizers = [
            optim.Adam(net.first.parameters(), lr=0.1, fused=True),
            optim.SGD(net.second.parameters(), lr=0.1),
        ]
        handle = affinet.project(net, optimizers, rules_for(net))
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0, enabled=scaled)
        for _ in range(4):
            net.zero_grad()
            scaler.scale(net()).backward()
            for optimizer in optimizers:
                scaler.unscale_(optimizer)
            for optimizer in optimizers:
                scaler.step(optimizer)
            scaler.update()
            assert worst(handle) < 1e-13
        ends.append(weights(net))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains_float32_weights_on_the_rules(dtype: torch.dtype) -> None:
    net = Net(torch.float32)
    optimizer = optim.AdamW(net.parameters(), lr=0.02)
    handle = affinet.project(net, optimizer, rules_for(net))
    scaler, losses = torch.amp.GradScaler("cpu", init_scale=256.0), []
    for _ in range(40):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = net()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
        assert worst(handle) < 1e-6
    assert losses[-1] < 0.5 * losses[0]


def test_pure_bfloat16_trains_and_stays_within_a_spacing_of_the_rules() -> None:
    net = Net(torch.bfloat16)
    optimizer = optim.AdamW(net.parameters(), lr=0.02)
    handle = affinet.project(net, optimizer, rules_for(net))
    losses, seen = [], []
    for _ in range(60):
        losses.append(float(net().detach()))
        step(net, optimizer)
        seen.append(worst(handle))
    assert losses[-1] < 0.5 * losses[0]
    assert max(seen) <= 2**-7
    assert torch.equal(net.second.weight[:, 0], net.second.weight[:, 1])
    assert torch.equal(net.first.bias[0], -net.second.bias[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="GradScaler on CUDA, fused and capturable, needs a GPU")
@pytest.mark.parametrize("options", [{}, {"fused": True}, {"capturable": True}], ids=["plain", "fused", "capturable"])
def test_a_skipped_step_changes_no_bit_on_a_gpu(options: dict[str, Any]) -> None:
    net = Net(torch.float32).cuda()
    net.inputs = net.inputs.cuda()
    optimizer = optim.Adam(net.parameters(), lr=0.05, weight_decay=0.2, **options)
    handle = affinet.project(net, optimizer, rules_for(net))
    scaler = torch.amp.GradScaler("cuda", init_scale=64.0)
    for overflow in (False, True, False):
        before, state = weights(net), bits(optimizer)
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = net()
        scaler.scale(loss * (float("inf") if overflow else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        assert worst(handle) < 1e-5
        assert same(weights(net), before) == overflow
        assert not overflow or same(bits(optimizer), state)


# The model's own ways


def test_functional_calls_and_their_gradients() -> None:
    one, first, _ = projected(optim.Adam, lr=0.05)
    two, second, handle = projected(optim.Adam, lr=0.05)
    for _ in range(5):
        step(one, first)
        held = dict(two.named_parameters())
        gradients = torch.func.grad(lambda given: torch.func.functional_call(two, given, ()))(
            {name: p.detach() for name, p in held.items()}
        )
        for name, p in held.items():
            p.grad = gradients[name]
        second.step()
        assert worst(handle) < 1e-13
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(weights(one), weights(two), strict=True))


def test_projected_weights_can_be_called_functionally() -> None:
    net, _, handle = projected(optim.Adam, lr=0.05)
    moved = {name: p.detach() + 0.1 for name, p in net.named_parameters()}
    assert float(torch.func.functional_call(net, handle.projector.project(moved), ())) > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_activations_change_nothing(reentrant: bool) -> None:
    ends = []
    for checked in (True, False):
        net, optimizer, handle = projected(optim.Adam, lr=0.05)
        inputs = net.inputs.clone().requires_grad_()
        for _ in range(4):
            optimizer.zero_grad()
            hidden = checkpoint(net.first, inputs, use_reentrant=reentrant) if checked else net.first(inputs)
            (net.second(torch.tanh(hidden)) - 0.7).square().sum().backward()
            optimizer.step()
        assert worst(handle) < 1e-13
        ends.append(weights(net))
    assert same(*ends)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_model_cast_after_attaching_keeps_its_rules(dtype: torch.dtype) -> None:
    net, optimizer, handle = projected(optim.SGD, lr=0.02)
    step(net, optimizer)
    net.to(dtype)
    net.inputs = net.inputs.to(dtype)
    for _ in range(3):
        step(net, optimizer)
    assert all(p.dtype == dtype for p in net.parameters())
    assert worst(handle) <= 8 * torch.finfo(dtype).eps
    assert torch.equal(net.second.weight[:, 0], net.second.weight[:, 1])


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_copies_are_unconstrained_and_say_so(duplicate: Callable[[Any], Any]) -> None:
    net, optimizer, handle = projected(optim.AdamW, lr=0.05)
    step(net, optimizer)
    other, copied = duplicate((net, optimizer))
    assert handle.attached_to(optimizer)
    assert not handle.attached_to(copied)
    step(other, copied)
    assert max(handle.projector.violation(dict(other.named_parameters())).values()) > 1e-3


# Loading


def test_a_state_dict_off_the_rules_is_projected_at_the_next_step_and_shows_until_then() -> None:
    net, optimizer, handle = projected(optim.SGD, lr=0.02)
    net.load_state_dict(
        {name: value + torch.arange(value.numel()).view_as(value) for name, value in net.state_dict().items()}
    )
    assert worst(handle) > 0.1
    step(net, optimizer)
    assert worst(handle) < 1e-12


@pytest.mark.parametrize("closure", [False, True])
def test_parameters_replaced_by_assign_are_detected_by_name_and_no_step_is_taken(closure: bool) -> None:
    net, optimizer, handle = projected(optim.Adam, lr=0.02)
    step(net, optimizer)
    saved = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(saved, assign=True)
    backward(net)
    before = weights(net)
    with pytest.raises(
        affinet.AttachError, match=r"first\.\w+ is no longer the parameter.*assign=True.*handle\.remove"
    ):
        optimizer.step(lambda: net().detach()) if closure else optimizer.step()
    assert same(weights(net), before)
    handle.remove()
    fresh = optim.Adam(net.parameters(), lr=0.02)
    again = affinet.project(net, fresh, rules_for(net))
    step(net, fresh)
    assert worst(again) < 1e-13


def test_a_parameter_of_no_rule_may_be_replaced() -> None:
    net = Net()
    optimizer, w = optim.SGD(net.parameters(), lr=0.02), affinet.weights(net)
    affinet.project(net, optimizer, w.first.weight.sum(dim=1) == 1)
    net.second.bias = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    step(net, optimizer)


def test_tied_parameters_are_watched_at_every_place() -> None:
    net = Net()
    net.register_module("third", torch.nn.Linear(6, 5, dtype=torch.float64))
    net.third.weight = net.first.weight
    optimizer, w = optim.SGD(net.parameters(), lr=0.02), affinet.weights(net)
    affinet.project(net, optimizer, w.first.weight.sum(dim=1) == 1)
    step(net, optimizer)
    net.third.weight = torch.nn.Parameter(net.first.weight.detach().clone())
    with pytest.raises(affinet.AttachError, match=r"first\.weight is no longer"):
        step(net, optimizer)


@pytest.mark.parametrize("attach_first", [True, False])
@pytest.mark.parametrize(
    ("kind", "metric"),
    [(kind, "euclidean") for kind in (optim.Adam, optim.RMSprop, optim.SGD, optim.Adagrad)]
    + [(kind, "optimizer") for kind in (optim.Adam, optim.RMSprop, optim.Adagrad)],
)
def test_a_training_saved_and_loaded_continues_as_it_was(
    kind: type[Optimizer], metric: Any, attach_first: bool
) -> None:
    """To the bit where rules are attached and then the states are loaded; the other way, attaching rounds once more."""
    ends = []
    for broken in (False, True):
        net = Net()
        optimizer = kind(net.parameters(), lr=0.02, weight_decay=0.1)  # type: ignore[call-arg]
        handle = affinet.project(net, optimizer, rules_for(net), metric=metric)
        for number in range(10):
            if broken and number == 5:
                file = io.BytesIO()
                torch.save((net.state_dict(), optimizer.state_dict(), handle.state_dict()), file)
                file.seek(0)
                model_state, optimizer_state, handle_state = torch.load(file, weights_only=True)
                net = Net()
                if not attach_first:
                    net.load_state_dict(model_state)
                optimizer = kind(net.parameters(), lr=0.5)  # type: ignore[call-arg]
                handle = affinet.project(net, optimizer, rules_for(net), metric=metric)
                if attach_first:
                    net.load_state_dict(model_state)
                else:
                    assert all(far < 1e-14 for far in handle.moved.values())
                optimizer.load_state_dict(optimizer_state)
                handle.load_state_dict(handle_state)
            step(net, optimizer)
        ends.append(weights(net))
    if attach_first:
        assert same(*ends)
    else:
        assert all(torch.allclose(a, b, rtol=0, atol=1e-13) for a, b in zip(*ends, strict=True))


def test_the_state_of_a_handle_with_other_rules_is_refused_by_their_names() -> None:
    _, _, handle = projected(optim.SGD, lr=0.02)
    net = Net()
    other = affinet.project(net, optim.SGD(net.parameters(), lr=0.02), rules_for(net)[1:])
    with pytest.raises(affinet.AttachError, match=r"other rules: only in the saved state \['rows'\]"):
        other.load_state_dict(handle.state_dict())
