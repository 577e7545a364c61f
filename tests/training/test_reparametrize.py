"""Weights of a reparametrized model: computed once, never stale, with constants and variance as they were."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim

import affinet
from affinet import families
from affinet.training.free_numbers import Weight
from affinet.training.reparametrization import Basis
from tests.training.autoencoder import Autoencoder, X, each_basis, made, train


def test_names_say_what_the_numbers_are() -> None:
    model, handle = made()
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "encoder.parametrizations.weight.0.free": (33,),
        "encoder.parametrizations.bias.0.untouched": (3,),
        "hidden.bias": (4,),
        "hidden.parametrizations.weight.0.free": (11,),
        "decoder.parametrizations.bias.0.untouched": (7,),
    }
    assert str(handle.trainable) == "58 of 96 numbers"
    assert "encoder.weight from 33 free numbers (orthonormal), which encoder.bias, decoder.weight" in repr(model)
    assert repr(handle).startswith("<Reparametrization (orthonormal): 58 of 96 numbers trained; moved ")
    handle.bake()
    assert repr(handle).startswith("<Reparametrization (baked)")


@each_basis
def test_weights_are_computed_once_in_a_forward_and_never_stale(basis: Basis, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = made(basis)
    calls: list[str] = []
    whole = Weight.forward

    def counted(self: Weight) -> Tensor:
        found = whole(self)
        calls.append(f"{self.name} {id(found)}")
        return found

    monkeypatch.setattr(Weight, "forward", counted)
    model(X)
    weights = [call for call in calls if call.startswith("encoder.weight")]
    assert len(weights) == 2
    assert len(set(weights)) == 1, "the second access in a forward computes again"
    first, optimizer = model(X), optim.SGD(model.parameters(), lr=0.1)
    first.square().sum().backward()
    optimizer.step()
    assert not torch.equal(model(X), first)
    with torch.no_grad():
        without = model(X)
    assert torch.equal(model(X), without)
    with torch.inference_mode():
        assert torch.equal(model(X), without)
    assert model(X).requires_grad


@each_basis
def test_a_forward_that_raises_leaves_nothing_behind(basis: Basis) -> None:
    model, _ = made(basis)
    with pytest.raises(RuntimeError):
        model(torch.randn(6, 7))
    before = model(X)
    train(model)
    assert not torch.equal(model(X), before)


@each_basis
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_activations_change_nothing(basis: Basis, reentrant: bool) -> None:
    gradients = []
    for use in (None, reentrant):
        model, _ = made(basis)
        model.reentrant = use
        model(X.clone().requires_grad_()).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-5, atol=1e-6)


@each_basis
def test_gradients_accumulate_over_forwards(basis: Basis) -> None:
    model, _ = made(basis)
    model(X).square().sum().backward()
    once = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model(X).square().sum().backward()
    for before, p in zip(once, model.parameters(), strict=True):
        torch.testing.assert_close(p.grad, 2 * before, rtol=1e-5, atol=1e-6)


def test_frozen_parameters_are_constants() -> None:
    model, handle = Autoencoder(), None
    model.decoder.weight.requires_grad_(False)
    fixed = model.decoder.weight.detach().clone()
    with pytest.warns(UserWarning, match=r"nothing is left to train in encoder.weight: the rules fix every entry"):
        handle = affinet.reparametrize(model, model.rules())
    train(model)
    assert torch.equal(model.encoder.weight, fixed.T)
    assert torch.equal(model.decoder.weight, fixed)
    assert max(handle.violation().values()) <= 1e-6


@pytest.mark.filterwarnings("ignore::affinet.LongStepsWarning")
@pytest.mark.parametrize("basis", ["orthonormal", "free"])
def test_variance_is_restored_inside_the_set(basis: Basis) -> None:
    torch.manual_seed(0)
    pattern = np.random.default_rng(0).integers(0, 40, (30, 40))
    deviations = []
    for restore in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(40, 30)
        before = model.weight.detach().clone()
        rules = families.share(affinet.weights(model).weight, pattern)
        handle = affinet.reparametrize(model, rules, basis=basis, restore_variance=restore)
        deviations.append(float(model.weight.detach().std(correction=0) / before.std(correction=0)))
        assert handle.moved["weight"] == pytest.approx(float((model.weight.detach() - before).norm()))
        assert max(handle.violation().values()) == 0.0
    assert deviations[0] < 0.3
    assert deviations[1] == pytest.approx(1.0, rel=1e-5)
    torch.manual_seed(0)
    model = nn.Linear(40, 30)
    rows = affinet.weights(model).weight.sum(dim=1) == 4
    affinet.reparametrize(model, rows, basis=basis, restore_variance=True)
    torch.manual_seed(0)
    away = model.weight.detach() - 4 / 40
    assert float(away.std(correction=0)) == pytest.approx(
        float(nn.Linear(40, 30).weight.detach().std(correction=0)), rel=1e-5
    )
    torch.testing.assert_close(model.weight.sum(dim=1), torch.full((30,), 4.0))


def test_constant_weights_have_no_variance_to_restore() -> None:
    model = nn.LayerNorm(6)
    affinet.reparametrize(model, affinet.weights(model).weight.sum() == 6, restore_variance=True)
    torch.testing.assert_close(model.weight, torch.ones(6))


def test_recentring_moves_what_is_projected_and_no_weight() -> None:
    model, handle = made("projection")
    train(model, steps=200)
    (u,) = (
        p.detach() for name, p in model.named_parameters() if name == "hidden.parametrizations.weight.0.unprojected"
    )
    off = float((u.sum(dim=1) - 1).abs().max())
    before = model(X)
    handle.recentre()
    assert off > 1e-3
    assert float((u.sum(dim=1) - 1).abs().max()) < 1e-6
    torch.testing.assert_close(model(X), before)
    other, plain = made("free")
    plain.recentre()
    handle.bake()
    handle.recentre()
    assert other(X).shape == before.shape


def test_memory_of_the_parameters_is_let_go() -> None:
    model = nn.Linear(40, 30)
    parameter = model.weight
    handle = affinet.reparametrize(model, families.share(affinet.weights(model).weight, np.zeros((30, 40), int)))
    assert parameter.numel() == 0
    handle.bake()
    assert parameter.shape == (30, 40)
    assert model.weight is parameter


def test_a_model_that_is_forgotten_is_collected() -> None:
    model, handle = made()
    gone = weakref.ref(model)
    del model, handle
    gc.collect()
    assert gone() is None
