"""Reparametrized models are copied, saved, baked and cast, and keep their rules."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import affinet
from affinet.training.reparametrization import Basis
from tests.training.autoencoder import Autoencoder, X, each_basis, made, train


@each_basis
def test_copies_are_reparametrized_with_numbers_of_their_own(basis: Basis) -> None:
    model, handle = made(basis)
    train(model)
    other, before = copy.deepcopy(model), model(X)
    assert torch.equal(other(X), before)
    train(other)
    assert torch.equal(model(X), before)
    assert not torch.equal(other(X), before)
    after = other(X)
    handle.bake()
    assert torch.equal(other(X), after), "baking a model takes its copy apart"
    assert affinet.bake(other) is other
    assert torch.equal(other(X), after)
    assert torch.equal(model(X), before)
    assert torch.equal(other.decoder.weight, other.encoder.weight.T)


@each_basis
def test_numbers_are_saved_and_loaded(basis: Basis, tmp_path: Path) -> None:
    model, _ = made(basis)
    train(model)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other, _ = made(basis)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(X), model(X))
    save_file(model.state_dict(), tmp_path / "free.safetensors")
    third, _ = made(basis)
    third.load_state_dict(load_file(tmp_path / "free.safetensors"), assign=True)
    assert torch.equal(third(X), model(X))


@each_basis
def test_baked_models_are_plain_modules(basis: Basis, tmp_path: Path) -> None:
    model, handle = made(basis)
    plain = Autoencoder()
    train(model)
    before = model(X)
    handle.bake()
    assert list(model.state_dict()) == list(plain.state_dict())
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert torch.equal(pickle.loads(pickle.dumps(model))(X), before)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(plain(X), before)
    exported = torch.export.export(model, (X,)).module()
    torch.testing.assert_close(exported(X), before)
    train(model)
    assert not torch.equal(model(X), before)


def test_baking_gives_the_same_parameter_objects_back() -> None:
    model = Autoencoder()
    model.encoder.bias.requires_grad_(False)
    parameters = dict(model.named_parameters())
    handle = affinet.reparametrize(model, model.rules()[:3])
    handle.bake()
    assert {name: id(p) for name, p in model.named_parameters()} == {name: id(p) for name, p in parameters.items()}
    assert not model.encoder.bias.requires_grad
    assert model.encoder.weight.requires_grad


@each_basis
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_model_cast_afterwards_keeps_its_rules(basis: Basis, dtype: torch.dtype) -> None:
    model, handle = made(basis)
    model.to(dtype)
    train(model, X.to(dtype))
    assert model.encoder.weight.dtype == dtype
    assert max(handle.violation().values()) <= 4 * torch.finfo(dtype).eps
    assert torch.equal(model.decoder.weight, model.encoder.weight.T)
    before = model(X.to(dtype))
    handle.bake()
    assert all(p.dtype == dtype for p in model.parameters())
    assert torch.equal(model(X.to(dtype)), before)
