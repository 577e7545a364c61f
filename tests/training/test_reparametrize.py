"""Ways in which reparametrized models are used: shared, copied, saved, cast, compiled, exported."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, optim
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

import affinet
from affinet import families
from affinet.training.free_numbers import Weight
from affinet.training.reparametrization import Basis

each_basis = pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Autoencoder(nn.Module):
    """Three layers under rules of every reach, one bias in none, and its activations checkpointed where asked."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.hidden, self.decoder = nn.Linear(8, 4), nn.Linear(4, 4), nn.Linear(4, 8)
        self.reentrant: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(x) if self.reentrant is None else checkpoint(self.inner, x, use_reentrant=self.reentrant)
        return self.decoder(inner)

    def inner(self, x: Tensor) -> Tensor:
        return torch.tanh(self.hidden(torch.tanh(self.encoder(x)) + x @ self.encoder.weight.T))

    def rules(self) -> list[affinet.Constraint]:
        w = affinet.weights(self)
        return [
            w.hidden.weight[0, 1] == w.hidden.weight[2, 3],
            (w.hidden.weight.sum(dim=1) == 1).named("rows sum to one"),
            w.decoder.weight == w.encoder.weight.T,
            3 * w.encoder.bias[0] - w.decoder.bias[1] / 2 == 0.5,
        ]


def made(basis: Basis = "orthonormal", **options: Any) -> tuple[Autoencoder, affinet.Reparametrization]:
    torch.manual_seed(1)
    model = Autoencoder()
    return model, affinet.reparametrize(model, model.rules(), basis=basis, **options)


def train(model: nn.Module, x: Tensor = X, steps: int = 3, loss: Any = None) -> None:
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        out = model(x)
        (out if isinstance(out, Tensor) else out[0]).square().sum().backward()
        optimizer.step()


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

    def counted(self: Weight, original: Tensor) -> Tensor:
        found = whole(self, original)
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
    other.load_state_dict(torch.load(file))
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


@each_basis
def test_autocast_computes_weights_as_ever(basis: Basis) -> None:
    model, handle = made(basis)
    with torch.autocast("cpu", torch.bfloat16):
        train(model)
        assert max(handle.violation().values()) <= 1e-6
    assert model.encoder.weight.dtype == torch.float32


@pytest.mark.parametrize("basis", ["orthonormal", "free"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("cast", [False, True])
def test_compiled_models_train_alike(basis: Basis, backend: str, cast: bool) -> None:
    torch.compiler.reset()
    dtype = torch.float64 if cast else torch.float32
    model, handle = made(basis)
    other = copy.deepcopy(model)
    model, other = model.to(dtype), other.to(dtype)
    train(torch.compile(model, backend=backend, fullgraph=True), X.to(dtype))
    train(other, X.to(dtype))
    torch.testing.assert_close(model(X.to(dtype)), other(X.to(dtype)), rtol=1e-4, atol=1e-5)
    assert max(handle.violation().values()) <= 1e-6


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch, at a graph break
def test_a_compiled_projection_breaks_the_graph_and_is_right() -> None:
    torch.compiler.reset()
    model, _ = made("projection")
    torch.testing.assert_close(torch.compile(model, backend="aot_eager")(X), model(X))


@pytest.mark.parametrize("basis", ["orthonormal", "free"])
@pytest.mark.parametrize("strict", [False, True])
def test_exported_models_give_the_same_outputs(basis: Basis, strict: bool) -> None:
    model, _ = made(basis)
    train(model)
    exported = torch.export.export(model, (X,), strict=strict).module()
    torch.testing.assert_close(exported(X), model(X))


def test_a_projection_is_not_exported_and_says_so() -> None:
    model, _ = made("projection")
    with pytest.raises(affinet.AttachError, match=r"weight is computed by a projection .* Call affinet.bake\(model\)"):
        torch.export.export(model, (X,), strict=False)


@each_basis
def test_functional_calls_see_the_numbers_given(basis: Basis) -> None:
    model, _ = made(basis)
    numbers = {name: p.detach().clone() for name, p in model.named_parameters()}
    doubled = {name: 2 * x for name, x in numbers.items()}
    before = model(X)
    assert torch.equal(torch.func.functional_call(model, numbers, (X,)), before)
    assert not torch.equal(torch.func.functional_call(model, doubled, (X,)), before)
    assert torch.equal(model(X), before)


@pytest.mark.parametrize("basis", ["orthonormal", "free"])
def test_per_sample_gradients_and_ensembles_go_through(basis: Basis) -> None:
    model, _ = made(basis)
    numbers = {name: p.detach() for name, p in model.named_parameters()}

    def loss(given: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, given, (x[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(numbers, X)
    model(X).square().sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(each[name].sum(0), p.grad, rtol=1e-4, atol=1e-5)


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
        pytest.warns(UserWarning, match="nothing is left to train in bias_ih_l0") if basis != "projection" else _quiet()
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


def _quiet() -> Any:
    return pytest.MonkeyPatch.context()


# What is refused, each with nothing changed.


def test_an_optimizer_made_before_is_named_at_its_first_step() -> None:
    model = Autoencoder()
    optimizer, other = optim.AdamW(model.parameters()), optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    handle = affinet.reparametrize(model, model.rules())
    model(X).sum().backward()
    before = model.hidden.bias.detach().clone()
    message = r"this AdamW was made before affinet.reparametrize: it holds encoder.weight, .* Make this optimizer anew"
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
    with pytest.raises(affinet.AttachError, match=r'restore_variance scales free numbers, and basis="projection" has'):
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
    with pytest.raises(affinet.AttachError, match="1 number that are not finite"):
        affinet.reparametrize(model, w.weight.sum() == 1)
    with pytest.raises(affinet.AttachError, match=r"speak of 'weight' .*there is no such tensor"):
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
