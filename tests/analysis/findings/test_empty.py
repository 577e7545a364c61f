"""Rules that hold for every weight, rows of zeros, and rules about frozen weights alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.analysis.findings.empty import HoldsAlways, NothingTrained

W = affinet.weights({"a": (4, 6), "s": (4, 4), "c": (5,), "big": (400, 400)})


def found(*rules: affinet.Constraint) -> list[object]:
    kinds = HoldsAlways | NothingTrained
    return [finding for finding in affinet.plan(rules).findings if isinstance(finding, kinds)]


@pytest.mark.parametrize("rule", [W.c - W.c == 0, 0 * W.big == 0, W.a.T - W.a.T == 0], ids=str)
def test_a_rule_that_holds_for_every_weight(rule: affinet.Constraint) -> None:
    (one,) = found(rule.named("nothing"))
    assert one == HoldsAlways("nothing", rule.rows, rule.rows)
    assert f'the rule "nothing" holds for every weight: its {rule.rows:,} equations say 0 == 0.' in str(one)


def test_one_equation_and_none() -> None:
    one, none = found((W.c[0] - W.c[0] == 0).named("one"), (W.c[5:] == 1).named("none"))
    assert "its equation says 0 == 0" in str(one)
    assert str(none) == 'the rule "none" has no equations: one of its axes has length 0. Check its slices.'


def test_rows_of_zeros_in_a_matrix() -> None:
    matrix = np.zeros((4, 5))
    matrix[0] = 1
    (one,) = found(families.linear([W.c], matrix, [1, 0, 0, 0]).named("A"))
    assert one == HoldsAlways("A", 3, 4)
    assert str(one).startswith('3 equations of 4 of the rule "A" say 0 == 0: rows of zeros.')


@pytest.mark.parametrize("rule", [families.symmetric(W.s), W.s == W.s.T, families.skew(W.s), W.c == 0], ids=str)
def test_equations_that_are_empty_by_their_nature_are_not_told(rule: affinet.Constraint) -> None:
    assert found(rule) == []


@pytest.mark.filterwarnings("ignore::affinet.NothingTrainedWarning")
def test_a_rule_about_frozen_weights_alone() -> None:
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    with torch.no_grad():
        model.bias.fill_(0.5)
    w = affinet.weights(model)
    rules = [(w.bias == 0.5).named("bias"), (w.weight.sum(dim=1) == w.bias).named("rows")]
    handle = affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), rules)
    (one,) = [finding for finding in handle.projector.plan.findings if isinstance(finding, NothingTrained)]
    assert str(one) == (
        'the rule "bias" touches no trained weight: all weights in it are frozen, and satisfy it. '
        "It does nothing until one of them is trained."
    )
    assert not handle.plan.findings
