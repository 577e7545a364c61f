"""Reparametrized models under autocast, compiled, exported, and called with numbers of others."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import affinet
from affinet.training.reparametrization import Basis
from tests.training.autoencoder import X, each_basis, made, train


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


STRICT = pytest.param(
    True,
    marks=pytest.mark.skipif(torch.__version__ < (2, 14), reason="torch 2.5 to 2.7 trace no hooks strictly"),
)


# torch 2.5 to 2.7 warn of the constants that they themselves put into the graph.
@pytest.mark.filterwarnings("ignore:.*(get_attr Node|get_attr references|lifted_tensor):UserWarning")
@pytest.mark.parametrize("basis", ["orthonormal", "free"])
@pytest.mark.parametrize("strict", [False, STRICT])
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
