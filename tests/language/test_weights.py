"""Names of weights: what they lead to, what is said about wrong ones, and what of a torch module is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations, parametrize

from affinet.errors import RuleError, ShapeError, UnknownWeightError, UnsupportedWeightError
from affinet.language.expression import Expression
from affinet.language.modules import read_module
from affinet.language.weights import Weights, weights


class Autoencoder(torch.nn.Module):
    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(8, 4, device=device)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4, device=device) for _ in range(3))
        self.decoder = torch.nn.Linear(4, 8, device=device)
        self.scale = torch.nn.Parameter(torch.ones((), device=device))


NAMES = ["scale", "encoder.weight", "encoder.bias"]
NAMES += [f"layers.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")] + ["decoder.weight", "decoder.bias"]


def names(w: Weights) -> list[str]:
    return [str(symbol) for symbol in w]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_by_name_attribute_and_index(device: str) -> None:
    w = weights(Autoencoder(device))
    assert names(w) == NAMES
    assert len(w) == len(NAMES)
    for found in (w["layers.1.weight"], w.layers[1].weight, w.layers[-2]["weight"], w.layers["1"].weight):
        assert str(found) == "layers.1.weight"
        assert found.shape == (4, 4)
    assert w.scale.shape == ()
    assert "encoder.weight" in w
    assert "encoder" not in w
    assert "weight" in w.encoder
    assert names(w.layers[2]) == ["layers.2.weight", "layers.2.bias"]
    assert dir(w) == ["decoder", "encoder", "layers", "scale"]
    assert dir(w.layers) == ["0", "1", "2"]
    assert repr(w.encoder) == "<Weights weight (4, 8), bias (4,)>"
    assert weights(w) is w


def test_weights_of_a_sequential_by_index() -> None:
    w = weights(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1)))
    assert str(w[0].weight) == "0.weight"
    assert str(w[-1].bias) == "2.bias"
    with pytest.raises(UnknownWeightError, match="no weight named '1'"):
        w[1]


def test_weights_of_a_mapping() -> None:
    w = weights({"a": (2, 3), "b.c": 4, "b.d": np.ones((5, 1)), "e": torch.ones(2), "number": ()})
    assert [symbol.shape for symbol in w] == [(2, 3), (4,), (5, 1), (2,), ()]
    assert str(w.b.c[0] == w.a[0, 1]) == "b.c[0] == a[0, 1]"


@pytest.mark.parametrize("shape", ["3", (2, -1), (2.0,), None, [2, 3], (True,)])
def test_shapes_of_a_mapping_are_checked(shape: Any) -> None:
    with pytest.raises(ShapeError, match=r"the shape of a must be an integer or a tuple of integers"):
        weights({"a": shape})


def test_other_sources_are_refused() -> None:
    with pytest.raises(RuleError, match=r"weights\(\) takes a torch.nn.Module, a tree .*, or a mapping .*; got int"):
        weights(3)
    with pytest.raises(RuleError, match="the name of a weight must be text"):
        weights({"": 3})


def test_a_wrong_name_says_near_ones() -> None:
    w = weights(Autoencoder())
    with pytest.raises(UnknownWeightError, match=r"no weight named 'encodr.weight'. Did you mean 'encoder.weight'"):
        w["encodr.weight"]
    with pytest.raises(UnknownWeightError, match=r"no weight named 'weigth' under 'encoder'. Did you mean 'weight'"):
        w.encoder.weigth  # noqa: B018
    with pytest.raises(UnknownWeightError, match="no weight named '7' under 'layers'"):
        w.layers[7]
    with pytest.raises(UnknownWeightError, match=r"no weight named '1.5'"):
        w[1.5]  # type: ignore[index]
    with pytest.raises(UnknownWeightError, match="There are no weights at all"):
        weights({})["a"]
    assert not hasattr(w, "nothing")


@pytest.mark.parametrize(
    "mistake",
    [lambda m: m == 0, lambda m: m + 1, lambda m: 2 * m, lambda m: -m, lambda m: np.ones(4) @ m, lambda m: m != 0],
)
def test_a_module_used_as_a_weight_says_the_weights_under_it(mistake: Any) -> None:
    with pytest.raises(RuleError, match=r"'encoder' is a module, not a weight. Weights under it: weight, bias"):
        mistake(weights(Autoencoder()).encoder)


def test_weights_can_be_copied_and_pickled() -> None:
    w = weights({"a.b": (2, 3)})
    for twin in (copy.deepcopy(w), pickle.loads(pickle.dumps(w))):
        assert twin.a.b.shape == (2, 3)


def test_tied_parameters_are_one_set_of_entries() -> None:
    model = Autoencoder()
    model.layers[2].weight = model.layers[0].weight
    model.twin = model.encoder
    read = read_module(model)
    assert read.aliases == {
        "layers.2.weight": "layers.0.weight",
        "twin.weight": "encoder.weight",
        "twin.bias": "encoder.bias",
    }
    w = weights(model)
    assert len(w) == len(NAMES) - 1
    assert str(w.layers[2].weight) == "layers.0.weight"
    assert w.twin.bias.terms[0].parameter == w.encoder.bias.terms[0].parameter
    assert list(read.parameters) == names(w)
    assert all(read.parameters[name] is dict(model.named_parameters())[name] for name in read.parameters)


def test_names_see_through_wrappers() -> None:
    model = Autoencoder()
    assert names(weights(torch.compile(model))) == NAMES
    assert names(weights(torch.nn.DataParallel(model))) == NAMES
    assert names(weights(torch.compile(torch.nn.DataParallel(torch.compile(model))))) == NAMES
    model.encoder = torch.compile(model.encoder)
    assert names(weights(model)) == NAMES


def test_a_child_that_happens_to_be_called_module_keeps_its_name() -> None:
    outer = torch.nn.Module()
    outer.module = torch.nn.Linear(2, 2)
    assert names(weights(outer)) == ["module.weight", "module.bias"]


def test_a_lazy_parameter_is_refused_when_asked_for() -> None:
    w = weights(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LazyLinear(3)))
    assert names(w) == ["0.weight", "0.bias"]
    with pytest.raises(UnsupportedWeightError, match=r"1.weight cannot be constrained: it is lazy.*Run the model once"):
        w[1].weight  # noqa: B018


def test_a_parametrized_weight_is_refused_with_the_way_out() -> None:
    model = torch.nn.Sequential(parametrizations.orthogonal(torch.nn.Linear(3, 3)), torch.nn.Linear(3, 3))
    w = weights(model)
    assert names(w) == ["0.bias", "1.weight", "1.bias"]
    with pytest.raises(UnsupportedWeightError, match=r"computed by torch's parametrize .*remove_parametrizations"):
        w[0].weight  # noqa: B018
    with pytest.raises(UnsupportedWeightError, match=r"0.weight is computed from it by torch's parametrize"):
        w["0.parametrizations.weight.original"]
    parametrize.remove_parametrizations(model[0], "weight")
    assert len(weights(model)) == 4


def test_overlapping_parameters_are_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = torch.nn.Parameter(model[0].weight.data[1:])
    w = weights(model)
    for name, other in (("0.weight", "1.weight"), ("1.weight", "0.weight")):
        with pytest.raises(UnsupportedWeightError, match=f"{name} cannot .* it shares memory with {other}"):
            w[name]
    assert str(w[2].weight) == "2.weight"


def test_interleaved_views_do_not_overlap() -> None:
    ground = torch.randn(4, 6)
    model = torch.nn.ParameterDict({"left": ground[:, :3], "right": ground[:, 3:]})
    model["left"], model["right"] = torch.nn.Parameter(ground[:, :3]), torch.nn.Parameter(ground[:, 3:])
    assert sorted(names(weights(model))) == ["left", "right"]


def test_flattened_recurrent_weights_are_fine() -> None:
    assert len(weights(torch.nn.LSTM(3, 4, num_layers=2))) == 8


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.ones(3).expand(2, 3), "several of its entries are one number in memory"),
        (torch.ones(3, dtype=torch.complex64), "it is complex"),
        (torch.ones(3, dtype=torch.int32), "its numbers are torch.int32"),
        (torch.eye(3).to_sparse(), "it is sparse"),
    ],
    ids=["expanded", "complex", "integer", "sparse"],
)
def test_other_unfit_parameters_are_refused(tensor: torch.Tensor, reason: str) -> None:
    model = torch.nn.Module()
    model.p = torch.nn.Parameter(tensor, requires_grad=False)
    model.q = model.p
    w = weights(model)
    assert len(w) == 0
    with pytest.raises(UnsupportedWeightError, match=f"p cannot be constrained: {reason}"):
        w.p  # noqa: B018
    with pytest.raises(UnsupportedWeightError, match=reason):
        w.q  # noqa: B018


def test_reading_leaves_the_module_alone() -> None:
    model = Autoencoder()
    before = {name: (id(p), p.clone()) for name, p in model.named_parameters()}
    assert isinstance(weights(model).encoder.weight, Expression)
    for name, p in model.named_parameters():
        assert before[name][0] == id(p)
        assert torch.equal(before[name][1], p)
