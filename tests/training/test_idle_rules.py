"""Rules whose weights are all frozen do nothing, and attaching says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import affinet


def model_and_rules() -> tuple[nn.Module, list[affinet.Constraint]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    nn.init.zeros_(model[0].weight)
    w = affinet.weights(model)
    return model, [
        (w["0.weight"].sum(dim=1) == 0).named("first"),
        (w["0.weight"][0, 0] + w["1.weight"][0, 0] == 1).named("both"),
        w["1.weight"].sum() == 2,
    ]


def test_project_names_the_rules_and_their_frozen_weights_and_goes_on() -> None:
    model, rules = model_and_rules()
    model[0].weight.requires_grad_(False)
    with pytest.warns(affinet.NothingTrainedWarning) as told:
        handle = affinet.project(model, optim.SGD(model.parameters(), lr=0.1), rules)
    assert str(told[0].message) == (
        'the rule "first" has no effect in this training: 0.weight is frozen (requires_grad=False). Unfreeze it, or '
        "drop the rule."
    )
    assert told[0].filename == __file__
    assert max(handle.violation().values()) < 1e-6


def test_reparametrize_does_too() -> None:
    model, rules = model_and_rules()
    model[0].weight.requires_grad_(False)
    with pytest.warns(affinet.NothingTrainedWarning, match='the rule "first" has no effect'):
        affinet.reparametrize(model, rules)


def test_several_rules_are_told_at_once() -> None:
    model, rules = model_and_rules()
    w = affinet.weights(model)
    model[0].requires_grad_(False)
    nn.init.zeros_(model[0].bias)
    with pytest.warns(
        affinet.NothingTrainedWarning, match=r'2 rules \("first", "biases"\) have no effect .* are frozen'
    ):
        affinet.project(model, optim.SGD(model.parameters(), lr=0.1), [*rules, (w["0.bias"] == 0).named("biases")])


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_leaves_everything_as_it_was() -> None:
    model, rules = model_and_rules()
    model[0].weight.requires_grad_(False)
    optimizer, before = optim.SGD(model.parameters(), lr=0.1), model[1].weight.detach().clone()
    with pytest.raises(affinet.NothingTrainedWarning):
        affinet.project(model, optimizer, rules)
    assert torch.equal(model[1].weight, before)
    with pytest.warns(affinet.NothingTrainedWarning):
        affinet.project(model, optimizer, rules)


def test_nothing_is_said_where_every_rule_has_a_trained_weight() -> None:
    model, rules = model_and_rules()
    affinet.project(model, optim.SGD(model.parameters(), lr=0.1), rules)
