"""Layers whose weights are used in more than one place, or by more than one name."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import affinet
from affinet import families
from affinet.training.reparametrization import Basis
from tests.training.autoencoder import X, each_basis, train


def test_tied_embeddings_are_one_weight_at_two_places() -> None:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embedding(x))

    model = Language()
    w = affinet.weights(model)
    keys, shared = list(model.state_dict()), model.head.weight
    handle = affinet.reparametrize(model, [w.embedding.weight[2:].sum(dim=1) == 0])
    assert [name for name, _ in model.named_parameters()] == [
        "embedding.parametrizations.weight.0.free",
        "embedding.parametrizations.weight.0.untouched",
    ]
    assert torch.equal(model.head.weight, model.embedding.weight)
    train(model, torch.arange(10))
    before = model(torch.arange(10))
    handle.bake()
    assert list(model.state_dict()) == keys
    assert model.head.weight is model.embedding.weight is shared
    assert torch.equal(model(torch.arange(10)), before)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@each_basis
def test_recurrent_layers_train_and_bake(kind: type[nn.LSTM | nn.GRU], basis: Basis) -> None:
    model = kind(5, 4, num_layers=2, batch_first=True)
    keys = list(model.state_dict())
    w = affinet.weights(model)
    rules = [w.weight_hh_l0.sum(dim=1) == 0, w.weight_hh_l0 == w.weight_hh_l1, w.bias_ih_l0 == 1]
    with (
        pytest.warns(UserWarning, match="nothing is left to train in bias_ih_l0")
        if basis != "projection"
        else nullcontext()
    ):
        handle = affinet.reparametrize(model, rules, basis=basis)
    x = torch.randn(3, 7, 5)
    train(model, x)
    assert max(handle.violation().values()) <= 1e-6
    before = model(x)[0]
    with torch.no_grad():
        model(x)
    other = copy.deepcopy(model)
    assert torch.equal(other(x)[0], before)
    handle.bake()
    assert list(model.state_dict()) == keys
    assert torch.equal(model(x)[0], before)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x)[0], before)
    train(model, x)
    assert not torch.equal(model(x)[0], before)
    assert torch.equal(affinet.bake(other)(x)[0], before)


def test_a_recurrent_layer_is_copied_after_a_forward_without_gradients_alone() -> None:
    """Torch keeps the weights of the last forward in the layer, and copies no tensor that has a history."""
    model = nn.LSTM(5, 4)
    affinet.reparametrize(model, affinet.weights(model).weight_hh_l0.sum(dim=1) == 0)
    model(torch.randn(2, 3, 5))
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(model)
    affinet.bake(model)
    assert copy.deepcopy(model)(torch.zeros(2, 3, 5))[0].shape == (2, 3, 4)


def test_a_layer_used_twice_is_computed_once() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    w = affinet.weights(model)
    affinet.reparametrize(model, families.symmetric(w[0].weight))
    x = torch.randn(3, 4)
    model(x).sum().backward()
    numbers = [p for name, p in model.named_parameters() if ".weight.0." in name]
    weight = layer.weight.detach().requires_grad_()
    bias = layer.bias.detach()
    nn.functional.linear(nn.functional.linear(x, weight, bias).tanh(), weight, bias).sum().backward()
    assert weight.grad is not None
    symmetric = (weight.grad + weight.grad.T) / 2
    found = torch.cat([p.grad for p in numbers if p.grad is not None])
    assert len(found) == 10
    assert float(found.norm()) == pytest.approx(float(symmetric.norm()), rel=1e-5)


@pytest.mark.parametrize("basis", ["orthonormal", "free"])
def test_attention_and_lists_of_parameters_work(basis: Basis) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.scales = nn.ParameterList([nn.Parameter(torch.randn(8)) for _ in range(2)])
            self.named = nn.ParameterDict({"gain": nn.Parameter(torch.randn(8))})

        def forward(self, x: Tensor) -> Tensor:
            scaled = x * self.scales[0] * self.named["gain"]
            return self.attention(scaled, x, x, need_weights=False)[0] + self.scales[1]

    model = Model()
    keys, w = list(model.state_dict()), affinet.weights(model)
    rules = [
        w.attention.in_proj_weight[:8] == w.attention.in_proj_weight[8:16],
        w["scales.0"].sum() == 1,
        w["named.gain"] == 2 * w["scales.1"],
    ]
    handle = affinet.reparametrize(model, rules, basis=basis)
    x = torch.randn(2, 3, 8)
    train(model, x)
    before = model(x)
    handle.bake()
    assert list(model.state_dict()) == keys
    assert torch.equal(model(x), before)
    assert max(handle.violation().values()) <= 1e-6


def test_other_parametrizations_of_the_layer_stay() -> None:
    model = nn.Linear(4, 4)
    parametrize.register_parametrization(model, "bias", nn.ReLU())
    handle = affinet.reparametrize(model, affinet.weights(model).weight.sum(dim=1) == 1)
    train(model, torch.randn(2, 4))
    before = model(X[:, :4])
    handle.bake()
    assert parametrize.is_parametrized(model, "bias")
    assert not parametrize.is_parametrized(model, "weight")
    assert torch.equal(model(X[:, :4]), before)
