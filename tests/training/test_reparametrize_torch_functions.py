"""What torch's own functions do to computed weights: taking parametrizations off, adding more, pruning, setting."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.nn.utils import parametrizations, parametrize, prune

import affinet
from affinet import families
from affinet.training.reparametrization import Basis
from tests.oracle import oracle
from tests.training.autoencoder import X, each_basis, made, train

each_mode = pytest.mark.parametrize("leave_parametrized", [True, False])


def take_all_off(model: nn.Module, **options: Any) -> None:
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name, **options)


@each_basis
@each_mode
@pytest.mark.parametrize("no_grad", [False, True])
def test_what_torch_takes_off_is_a_parameter_of_the_same_value(
    basis: Basis, leave_parametrized: bool, no_grad: bool
) -> None:
    model, handle = made(basis)
    parameters = dict(handle._parameters)
    train(model)
    before, weights = model(X), {name: handle._replacement.weight(name).detach().clone() for name in parameters}
    with torch.set_grad_enabled(not no_grad):
        take_all_off(model, leave_parametrized=leave_parametrized)
    found = dict(model.named_parameters())
    for name, parameter in parameters.items():
        assert found[name] is parameter
        assert parameter.requires_grad
        assert torch.equal(parameter, weights[name])
    assert {*model.state_dict()} == {"encoder.weight", "encoder.bias", "hidden.weight", "hidden.bias"} | {
        "decoder.weight",
        "decoder.bias",
    }
    assert type(model.encoder) is nn.Linear
    assert torch.equal(model(X), before)
    train(model)
    assert all(not torch.equal(parameter, weights[name]) for name, parameter in parameters.items())
    handle.bake()
    assert list(model.state_dict())[:2] == ["encoder.weight", "encoder.bias"]
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_what_is_taken_off_has_the_dtype_that_the_model_was_cast_to(dtype: torch.dtype) -> None:
    model, _ = made()
    model.to(dtype)
    weight = model.hidden.weight.detach().clone()
    take_all_off(model)
    assert model.hidden.weight.dtype == dtype
    assert torch.equal(model.hidden.weight, weight)


@each_mode
def test_weights_that_rules_fix_and_frozen_ones_are_given_back(leave_parametrized: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight.requires_grad_(False)
    w = affinet.weights(model)
    with pytest.warns(UserWarning, match="nothing is left to train"):
        affinet.reparametrize(model, [w[0].weight == 1, w[0].bias.sum() == w[1].weight[0, 0]])
    take_all_off(model, leave_parametrized=leave_parametrized)
    assert torch.equal(model[0].weight, torch.ones(2, 2))
    assert model[0].weight.requires_grad
    assert not model[1].weight.requires_grad
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]


@each_basis
@each_mode
@pytest.mark.parametrize("layer", ["encoder", "decoder"])
def test_a_group_of_which_torch_took_a_part_off_is_refused_until_it_is_baked(
    basis: Basis, leave_parametrized: bool, layer: str
) -> None:
    model, handle = made(basis)
    train(model)
    before = model(X)
    parametrize.remove_parametrizations(model.get_submodule(layer), "weight", leave_parametrized=leave_parametrized)
    others = "encoder" if layer == "decoder" else "decoder"
    message = rf"made {layer}.weight plain, and .*{others}.weight.* are still computed .* Call affinet.bake\(model\)"
    with pytest.raises(affinet.AttachError, match=message):
        model(X)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model.get_submodule(layer)(torch.ones(1, model.get_submodule(layer).in_features)).sum().backward()
    with pytest.raises(affinet.AttachError, match=message):
        optimizer.step()
    optim.SGD([model.hidden.bias], lr=0.0).step()
    affinet.bake(model)
    assert torch.equal(model(X), before)
    assert all(p.shape == model.state_dict()[name].shape for name, p in handle._parameters.items())
    train(model)


def test_a_group_taken_off_whole_leaves_the_others_as_they_were() -> None:
    model, handle = made()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    parametrize.remove_parametrizations(model.hidden, "weight")
    assert isinstance(model.hidden.weight, nn.Parameter)
    model(X).square().sum().backward()
    with pytest.raises(affinet.AttachError, match=r"this SGD was made before the model was baked: it holds hidden.wei"):
        optimizer.step()
    train(model)
    assert torch.equal(model.decoder.weight, model.encoder.weight.T)
    assert handle.violation()["rows sum to one"] > 1e-3, "no rule is kept on a weight that was taken off"
    handle.bake()
    assert isinstance(model.encoder.weight, nn.Parameter)


def test_one_weight_in_two_places_is_one_parameter_again() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    affinet.reparametrize(model, families.symmetric(affinet.weights(model)[0].weight))
    parametrize.remove_parametrizations(model[0], "weight")
    with pytest.raises(affinet.AttachError, match=r"made 0.weight plain, and 0.weight, which"):
        model(torch.ones(1, 3))
    parametrize.remove_parametrizations(model[1], "weight")
    assert model[0].weight is model[1].weight
    train(model, torch.ones(1, 3))


def test_another_parametrization_on_top_is_refused() -> None:
    model, _ = made()
    before = model(X)
    with pytest.raises(affinet.AttachError, match=r"hidden.weight is computed .* _SpectralNorm would change it .*bake"):
        parametrizations.spectral_norm(model.hidden)
    assert torch.equal(model(X), before)
    parametrizations.weight_norm(nn.Linear(2, 2))


def test_pruning_is_refused_and_changes_nothing() -> None:
    model, _ = made()
    copied, before = copy.deepcopy(model), model(X)
    for each in (model, copied):
        with pytest.raises(affinet.AttachError, match=r"hidden.weight is computed .* Write the zeros as rules"):
            prune.l1_unstructured(each.hidden, "weight", amount=0.5)
        assert torch.equal(each(X), before)
    prune.l1_unstructured(model.hidden, "bias", amount=0.5)
    assert hasattr(model.hidden, "bias_orig")
    affinet.bake(copied)
    prune.l1_unstructured(copied.hidden, "weight", amount=0.5)


def test_sparse_gradients_of_embeddings_are_refused() -> None:
    for kind in (nn.Embedding, nn.EmbeddingBag):
        model = nn.Sequential(kind(5, 3, sparse=True))
        w = affinet.weights(model)
        for basis in ("orthonormal", "projection"):
            with pytest.raises(affinet.AttachError, match=rf"gradient of 0.weight would be sparse \({kind.__name__}\("):
                affinet.reparametrize(model, w[0].weight.sum(dim=1) == 0, basis=basis)
        assert isinstance(model[0].weight, nn.Parameter)


@each_basis
def test_setting_a_weight_moves_the_group_to_the_nearest_point(basis: Basis) -> None:
    model, handle = made(basis)
    model.to(torch.float64)
    names = ("encoder.weight", "encoder.bias", "hidden.weight", "decoder.weight", "decoder.bias")
    weights = {name: handle._replacement.weight(name).detach().clone() for name in names}
    kept = dict(model.named_parameters())
    wanted = torch.randn(8, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    given = wanted.clone()
    model.decoder.weight = wanted
    assert torch.equal(wanted, given), "what is set is read only"
    reference = oracle(handle.plan.system)
    expected = reference.project({name: w.numpy() for name, w in {**weights, "decoder.weight": wanted}.items()})
    for name in names:
        found = handle._replacement.weight(name).detach()
        # All are sums of two numbers of size 4 at most: a few roundings of float64.
        torch.testing.assert_close(found, torch.from_numpy(expected[name]), rtol=0, atol=1e-14)
    assert torch.equal(model.encoder.weight, model.decoder.weight.T)
    assert {name: id(p) for name, p in model.named_parameters()} == {name: id(p) for name, p in kept.items()}
    model(X.double()).sum().backward()
    optimizer.step()
    model.encoder.bias = torch.full((4,), 2.0)
    assert torch.equal(model.encoder.bias[1:], torch.full((3,), 2.0, dtype=torch.float64)), "in no rule"
    assert max(handle.violation().values()) <= 1e-14


@each_basis
def test_setting_what_is_no_weight_is_refused_and_changes_nothing(basis: Basis) -> None:
    model, _ = made(basis)
    before = model(X)
    with pytest.raises(affinet.ShapeError, match=r"hidden.weight has shape \(4, 4\) and was set to a tensor of \(4,\)"):
        model.hidden.weight = torch.zeros(4)
    with pytest.raises(affinet.AttachError, match=r"hidden.weight was set to a tensor of torch.int64; give"):
        model.hidden.weight = torch.zeros(4, 4, dtype=torch.int64)
    with pytest.raises(affinet.AttachError, match=r"hidden.weight was set to a float; give a torch.Tensor"):
        model.hidden.weight = 1.0
    with pytest.raises(affinet.AttachError, match="16 numbers that are not finite"):
        model.hidden.weight = torch.full((4, 4), torch.nan)
    assert torch.equal(model(X), before)
