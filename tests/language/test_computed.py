"""Weights that hooks compute before every forward: neither they nor what they are computed from can be constrained."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.utils import prune

import affinet
from affinet.errors import UnknownWeightError, UnsupportedWeightError


def layer() -> Any:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def normed(function: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have its parametrizations
        return getattr(torch.nn.utils, function)(layer())


COMPUTED: dict[str, tuple[Callable[[], Any], str, tuple[str, ...]]] = {
    "pruned": (
        lambda: prune.l1_unstructured(layer(), "weight", 0.5),
        r'prune\.remove\(layer, "weight"\)',
        ("weight_orig",),
    ),
    "pruned twice": (
        lambda: prune.l1_unstructured(prune.random_unstructured(layer(), "weight", 0.5), "weight", 0.5),
        r'prune\.remove\(layer, "weight"\)',
        ("weight_orig",),
    ),
    "weight_norm": (
        lambda: normed("weight_norm"),
        r'torch\.nn\.utils\.remove_weight_norm\(layer, "weight"\)',
        ("weight_g", "weight_v"),
    ),
    "spectral_norm": (
        lambda: normed("spectral_norm"),
        r'torch\.nn\.utils\.remove_spectral_norm\(layer, "weight"\)',
        ("weight_orig",),
    ),
}
each = pytest.mark.parametrize(("made", "way_out", "sources"), COMPUTED.values(), ids=list(COMPUTED))


@each
def test_a_computed_weight_is_refused_with_the_way_out(
    made: Callable[[], Any], way_out: str, sources: tuple[str, ...]
) -> None:
    model = torch.nn.Sequential(made(), layer())
    w: Any = affinet.weights(model)
    assert [str(symbol) for symbol in w] == ["0.bias", "1.weight", "1.bias"]
    with pytest.raises(UnsupportedWeightError, match=rf"0\.weight cannot .* computed by torch\.nn\.utils.*{way_out}"):
        w[0].weight  # noqa: B018
    for source in sources:
        with pytest.raises(UnsupportedWeightError, match=rf"0\.{source} .* a rule on it would not hold for 0\.weight"):
            w[0][source]
    with pytest.raises(UnknownWeightError) as wrong:
        w["0.weigth"]
    assert not any(source in str(wrong.value) for source in sources)


@each
def test_rules_from_elsewhere_are_refused_before_anything_moves(
    made: Callable[[], Any], way_out: str, sources: tuple[str, ...]
) -> None:
    model = made()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for name in ("weight", *sources):
        rule = affinet.weights({name: (2, 3)})[name].sum() == 1
        for attach in (
            lambda rule: affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), rule),
            lambda rule: affinet.reparametrize(model, rule),
            lambda rule: affinet.plan(rule).projector(model),
        ):
            with pytest.raises(UnsupportedWeightError, match=way_out):
                attach(rule)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_without_the_hook_it_is_a_weight_again() -> None:
    model = prune.remove(prune.l1_unstructured(layer(), "weight", 0.5), "weight")
    w: Any = affinet.weights(model)
    zero = (model.weight == 0).numpy()
    handle = affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), affinet.families.fix(w.weight, zero))
    assert handle.plan.rank == 3


def test_a_tensor_that_a_module_sets_itself_is_no_weight() -> None:
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight_raw = torch.nn.Parameter(torch.ones(3))
            self.weight = 2 * self.weight_raw
            self.other = torch.ones(2)

    w: Any = affinet.weights(Scaled())
    with pytest.raises(UnsupportedWeightError, match=r"weight cannot .* not a Parameter \(weight_raw is one\)"):
        w.weight  # noqa: B018
    assert (w.weight_raw.sum() == 1).rows == 1
    with pytest.raises(UnknownWeightError, match="no weight named 'other'"):
        w.other  # noqa: B018


def test_directions_of_a_recurrent_layer_are_no_sources_of_each_other() -> None:
    lstm: Any = torch.nn.LSTM(3, 2, bidirectional=True)
    prune.random_unstructured(lstm, "weight_hh_l0", 0.5)
    w: Any = affinet.weights(lstm)
    assert w.weight_hh_l0_reverse.shape == (8, 2)
    with pytest.raises(UnsupportedWeightError):
        w.weight_hh_l0  # noqa: B018
