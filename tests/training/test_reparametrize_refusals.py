"""What `reparametrize` refuses, each with nothing changed, and what it warns of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn, optim

import affinet
from tests.training.autoencoder import Autoencoder, X, train


def test_an_optimizer_made_before_is_named_at_its_first_step() -> None:
    model = Autoencoder()
    optimizer, other = optim.AdamW(model.parameters()), optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    handle = affinet.reparametrize(model, model.rules())
    model(X).sum().backward()
    before = model.hidden.bias.detach().clone()
    message = r"this AdamW was made before affinet.reparametrize: it holds encoder.weight, .* Make a new optimizer"
    for _ in range(2):
        with pytest.raises(affinet.AttachError, match=message):
            optimizer.step()
    assert torch.equal(model.hidden.bias, before)
    other.step()
    late = optim.SGD([model.hidden.bias], lr=0.1)
    late.step()
    late.add_param_group({"params": [handle._parameters["hidden.weight"]]})
    with pytest.raises(affinet.AttachError, match=r"this SGD was made before .* it holds hidden.weight, which is now"):
        late.step()
    handle.bake()
    model(X).sum().backward()
    optimizer.step()
    assert not torch.equal(model.hidden.bias, before)


@pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
def test_an_optimizer_made_before_baking_is_named_at_its_next_step(basis: Any) -> None:
    model = Autoencoder()
    affinet.reparametrize(model, model.rules(), basis=basis)
    optimizer, scheduled = optim.Adam(model.parameters(), lr=0.1), optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    model(X).sum().backward()
    optimizer.step()
    affinet.bake(model)
    model(X).sum().backward()
    before = model.hidden.bias.detach().clone()
    with pytest.raises(affinet.AttachError, match=r"this Adam was made before the model was baked: it holds encoder"):
        optimizer.step()
    assert torch.equal(model.hidden.bias, before)
    scheduled.step()
    fresh = optim.Adam(model.parameters(), lr=0.1)
    fresh.step()
    assert not torch.equal(model.hidden.bias, before)


def test_reparametrizing_twice_is_refused() -> None:
    model = Autoencoder()
    plan = affinet.plan(model.rules())
    affinet.reparametrize(model, plan)
    with pytest.raises(affinet.AttachError, match="this model is reparametrized already"):
        affinet.reparametrize(model, plan)
    with pytest.raises(affinet.UnsupportedWeightError, match=r"computed by affinet.reparametrize. Call affinet.bake"):
        affinet.weights(model).hidden.weight.sum()


def test_a_projected_model_is_refused() -> None:
    model = Autoencoder()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, model.rules())
    with pytest.raises(affinet.AttachError, match=r"affinet.project keeps rules on an optimizer that holds .*remove"):
        affinet.reparametrize(model, model.rules())
    handle.remove()
    affinet.reparametrize(model, model.rules())


def test_rules_that_fix_everything_warn_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    w = affinet.weights(model)
    with pytest.warns(UserWarning, match=r"nothing is left to train in 0\.bias, 0\.weight|in 0\.weight, 0\.bias"):
        handle = affinet.reparametrize(model, [w[0].weight == 1, w[0].bias == 0, w[1].weight.sum() == 1])
    assert [name for name, _ in model.named_parameters()] == ["1.bias", "1.parametrizations.weight.0.free"]
    assert torch.equal(model[0].weight, torch.ones(2, 2))
    train(model, torch.randn(3, 2))
    handle.bake()
    assert torch.equal(model[0].weight, torch.ones(2, 2))


def test_nothing_to_bake_is_said() -> None:
    with pytest.raises(affinet.AttachError, match="there is nothing to bake"):
        affinet.bake(nn.Linear(2, 2))


def test_bases_that_are_none_are_refused() -> None:
    model = Autoencoder()
    with pytest.raises(affinet.AttachError, match=r"basis is 'qr'; it is 'orthonormal', 'free' or 'projection'"):
        affinet.reparametrize(model, model.rules(), basis="qr")  # type: ignore[arg-type]
    with pytest.raises(affinet.AttachError, match=r'restore_variance scales free numbers, which basis="projection"'):
        affinet.reparametrize(model, model.rules(), basis="projection", restore_variance=True)
    with pytest.raises(affinet.AttachError, match=r"give affinet.reparametrize a torch.nn.Module, not dict"):
        affinet.reparametrize({}, model.rules())  # type: ignore[arg-type]


def test_what_does_not_fit_the_dtype_is_refused_and_nothing_changed() -> None:
    model = nn.Linear(2, 2).half()
    before = model.weight.detach().clone()
    with pytest.raises(affinet.AttachError, match=r"weight cannot hold in torch.float16.*Nothing was changed"):
        affinet.reparametrize(model, affinet.weights(model).weight == 1e6)
    assert torch.equal(model.weight, before)
    assert type(model) is nn.Linear


def test_parameters_of_a_container_of_layers_are_refused() -> None:
    class Steps(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(2, 2))
            self.scale = nn.Parameter(torch.ones(2))

    model = Steps()
    with pytest.raises(
        affinet.UnsupportedWeightError, match=r"scale cannot be constrained: it belongs to a Steps itself"
    ):
        affinet.reparametrize(model, affinet.weights(model).scale.sum() == 2)
    assert isinstance(model.scale, nn.Parameter)


def test_contradictions_and_models_without_numbers_are_refused() -> None:
    model = nn.Linear(2, 2)
    w = affinet.weights(model)
    with pytest.raises(affinet.InfeasibleError):
        affinet.reparametrize(model, [w.weight == 1, w.weight == 2])
    with torch.device("meta"):
        empty = nn.Linear(2, 2)
    with pytest.raises(affinet.UnsupportedWeightError, match="meta device"):
        affinet.reparametrize(empty, affinet.weights(empty).weight == 1)
    lazy = nn.LazyLinear(2)
    with pytest.raises(affinet.UnsupportedWeightError, match="it is lazy"):
        affinet.reparametrize(lazy, affinet.weights(lazy).weight == 1)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(affinet.AttachError, match="1 number that is not finite"):
        affinet.reparametrize(model, w.weight.sum() == 1)
    with pytest.raises(affinet.AttachError, match=r"about 'weight' .*there is no such tensor"):
        affinet.reparametrize(nn.ReLU(), w.weight.sum() == 1)
    assert type(model) is nn.Linear


def test_data_parallel_wrappers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    monkeypatch.setattr("torch.nn.parallel.DistributedDataParallel", Wrapped)
    model = Autoencoder()
    with pytest.raises(affinet.AttachError, match="Reparametrize first, and wrap the model then"):
        affinet.reparametrize(Wrapped(model), model.rules())
