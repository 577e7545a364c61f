"""Outputs before and after bake, export, ONNX and compilation: one table."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

import affinet
from affinet import families
from affinet.training.reparametrization import Basis

pytestmark = pytest.mark.filterwarnings("ignore::affinet.LongStepsWarning")  # nothing is trained far

Ready = tuple[nn.Module, list[affinet.Constraint], tuple[Tensor, ...]]


class Tower(nn.Module):
    """Layers under ties, sums, a mirror, rules across layers, plain equations and entries in no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.hidden, self.decoder = nn.Linear(8, 4), nn.Linear(4, 4), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.hidden(torch.tanh(self.encoder(x)))))


class Images(nn.Module):
    """Kernels under turns and zero means, a norm, and a head of shared weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.norm(self.first(x))))).mean((2, 3)))


class Words(nn.Module):
    """A table of words that is the output layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(x)))


def tower() -> Ready:
    model = Tower()
    w = affinet.weights(model)
    matrix = np.random.default_rng(0).normal(size=(2, 16))
    rules = [
        w.hidden.weight[0, 1] == w.hidden.weight[2, 3],
        w.hidden.weight.sum(dim=1) == 1,
        w.decoder.weight == w.encoder.weight.T,
        3 * w.encoder.bias[0] - w.decoder.bias[1] / 2 == 0.5,
        families.linear([w.hidden.weight], matrix, np.ones(2)),
    ]
    return model, rules, (torch.randn(5, 8),)


def images() -> Ready:
    model = Images()
    w = affinet.weights(model)
    rules = [
        families.rotations(w.first.weight, flips=True),
        families.zero_mean(w.second.weight, dim=(1, 2, 3)),
        families.share(w.head.weight, np.arange(24).reshape(6, 4) % 5),
        w.head.bias.sum() == 0,
    ]
    return model, rules, (torch.randn(2, 1, 9, 9),)


def words() -> Ready:
    model = Words()
    w = affinet.weights(model)
    return model, [w.embedding.weight[2:].sum(dim=1) == 0], (torch.arange(10),)


MODELS: dict[str, Callable[[], Ready]] = {"tower": tower, "images": images, "words": words}
FORMS = ("baked", "orthonormal", "free")
each_model = pytest.mark.parametrize("name", MODELS)
each_form = pytest.mark.parametrize("form", FORMS)


def trained(name: str, basis: Basis) -> tuple[nn.Module, affinet.Reparametrization, tuple[Tensor, ...]]:
    """A model after three steps under its rules, in eval mode."""
    torch.manual_seed(1)
    model, rules, given = MODELS[name]()
    handle = affinet.reparametrize(model, rules, basis=basis)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(*given).square().mean().backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval(), handle, given


def form_of(name: str, form: str) -> tuple[nn.Module, tuple[Tensor, ...], Tensor]:
    """The model as it is exported, its input, and its output before anything was done to it."""
    model, handle, given = trained(name, "free" if form == "free" else "orthonormal")
    before = model(*given).detach()
    if form == "baked":
        handle.bake()
    return model, given, before


def assert_rounding(found: Tensor, before: Tensor) -> None:
    scale = float(before.abs().max())
    torch.testing.assert_close(found, before, rtol=0, atol=64 * torch.finfo(before.dtype).eps * max(scale, 1.0))


@each_model
@pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
def test_baking_changes_no_bit_of_the_outputs(name: str, basis: Basis) -> None:
    model, _, given = trained(name, basis)
    before = model(*given)
    assert torch.equal(affinet.bake(model)(*given), before)


# torch 2.5 to 2.7 warn of the constants that they themselves put into the graph.
@pytest.mark.filterwarnings("ignore:.*(get_attr Node|get_attr references|lifted_tensor):UserWarning")
@each_model
@each_form
def test_exported_programs_are_saved_and_loaded_with_the_same_outputs(name: str, form: str) -> None:
    model, given, before = form_of(name, form)
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, given, strict=False), file)
    file.seek(0)
    assert_rounding(torch.export.load(file).module()(*given).detach(), before)


@each_model
@each_form
def test_onnx_gives_the_same_outputs(name: str, form: str, tmp_path: Path) -> None:
    model, given, before = form_of(name, form)
    assert_rounding(in_onnxruntime(model, given, tmp_path / "model.onnx"), before)


def test_a_projection_has_no_graph_and_says_to_bake_first() -> None:
    model, _, given = trained("tower", "projection")
    with pytest.raises(affinet.AttachError, match=r"no graph to export. Call affinet.bake\(model\) first"):
        torch.export.export(model, given, strict=False)


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch 2.5 hides the error of non-strict tracing")
def test_a_projection_has_no_onnx_and_says_to_bake_first(tmp_path: Path) -> None:
    model, _, given = trained("tower", "projection")
    before = model(*given).detach()
    onnx_is_there()
    with pytest.raises(torch.onnx.OnnxExporterError, match=r"no graph to export. Call affinet.bake\(model\) first"):
        to_onnx(model, given)
    assert_rounding(in_onnxruntime(affinet.bake(model), given, tmp_path / "model.onnx"), before)


@each_model
@pytest.mark.parametrize("form", ["orthonormal", "free"])
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile's own backend needs a C++ compiler")
def test_compiled_models_give_the_same_outputs_and_gradients(name: str, form: str) -> None:
    model, given, before = form_of(name, form)
    model(*given).square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()  # takes the gradients off, and leaves these
    torch.compiler.reset()
    found = torch.compile(model, fullgraph=True)(*given)
    assert_rounding(found.detach(), before)
    found.square().sum().backward()
    for key, p in model.named_parameters():
        torch.testing.assert_close(p.grad, gradients[key], rtol=1e-4, atol=1e-5)


@each_model
def test_weights_and_rules_are_saved_side_by_side(name: str, tmp_path: Path) -> None:
    model, handle, given = trained(name, "orthonormal")
    before = model(*given).detach()
    save_model(affinet.bake(model), str(tmp_path / "model.safetensors"))
    handle.plan.save(tmp_path / "plan.safetensors")
    other = MODELS[name]()[0].eval()
    load_model(other, str(tmp_path / "model.safetensors"))
    assert torch.equal(other(*given), before)
    loaded = affinet.Plan.load(tmp_path / "plan.safetensors")
    projector = loaded.projector(other)
    weights = {name: p.detach() for name, p in other.named_parameters()}
    assert max(projector.violation(weights).values()) <= 1e-6
    first = next(parameter.name for parameter in loaded.parameters)
    weights[first] = weights[first] + torch.linspace(0, 1, weights[first].numel()).view(weights[first].shape)
    assert max(projector.violation(weights).values()) > 1e-3


def onnx_is_there() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'affinet[test]'")


def to_onnx(model: nn.Module, given: tuple[Tensor, ...]) -> Any:
    return torch.onnx.export(model, given, dynamo=True, verbose=False)


def in_onnxruntime(model: nn.Module, given: tuple[Tensor, ...], path: Path) -> Tensor:
    """What onnxruntime computes from the file that torch writes."""
    onnx_is_there()
    import onnxruntime

    to_onnx(model, given).save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    (found,) = session.run(None, {name: x.numpy() for name, x in zip(names, given, strict=True)})
    return torch.from_numpy(found)
