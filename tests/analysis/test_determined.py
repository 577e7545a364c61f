"""Weights that rules leave nothing of are told by name; weights that were fixed on purpose are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.errors import NothingToTrainWarning

SHAPES = {"a": (6,), "b": (6,), "c": (3, 3), "big": (400, 400)}
TURN = np.array([[0.6, -0.8], [0.8, 0.6]])
Rules = Callable[[Any], list[affinet.Constraint]]

DETERMINED: dict[str, tuple[Rules, str, int]] = {
    "a vector that a rotation turns": (
        lambda w: [families.equivariant(w.a[:2].flatten(), outputs=[TURN]), w.a[2:] == w.b[2:], w.b == 2 * w.a + 1],
        "a",
        6,
    ),
    "as many equations as entries": (lambda w: [families.linear([w.a], np.eye(6) + 1, 3)], "a", 6),
    "regular slices": (lambda w: [(np.eye(400) + 1) @ w.big == 1], "big", 160_000),
    "ties that contradict": (lambda w: [w.c == -2 * w.c.T], "c", 9),
}


@pytest.mark.parametrize("case", DETERMINED)
def test_a_weight_that_is_determined_is_named(case: str) -> None:
    rules, name, entries = DETERMINED[case]
    with pytest.warns(NothingToTrainWarning) as told:
        affinet.plan(rules(affinet.weights(SHAPES)))
    said = [one.message for one in told if isinstance(one.message, NothingToTrainWarning)]
    assert (name, entries) in [(one.weight, one.entries) for one in said]
    assert f"nothing is left to train in {name}: its {entries:,} entries can take one value only" in str(said[0])


def test_advice_about_groups_is_for_rules_about_groups() -> None:
    w = affinet.weights(SHAPES)
    advice = {}
    turn = families.equivariant(w.b[:2], outputs=[TURN]).named("turn")
    for rules in ([families.linear([w.a], np.eye(6) + 1, 3)], [turn, families.linear([w.b[2:]], np.eye(4) + 1, 3)]):
        with pytest.warns(NothingToTrainWarning) as told:
            affinet.plan(rules)
        (advice[rules[0].name],) = (str(one.message).partition("Loosen")[2] for one in told)
    assert advice[None] == " a rule, or, if this is intended, write families.fix."
    assert advice["turn"].startswith(
        " a rule (representations without a common part allow only zero), or, if this is intended"
    )


def test_of_components_alike_only_the_determined_ones_count() -> None:
    w = affinet.weights(SHAPES)
    both, one = np.array([[1.0, 2, 3], [2, 0, 1], [1, 1, 0]]), np.array([[1.0, 2, 3], [2, 4, 6], [1, 1, 0]])
    rules = [families.linear([w.a[:3]], both), families.linear([w.a[3:]], both), families.linear([w.b[:3]], one)]
    with pytest.warns(NothingToTrainWarning) as told:
        plan = affinet.plan(rules)
    assert [str(one.message)[:40] for one in told] == ["nothing is left to train in a: its 6 ent"]
    assert plan.free == 1


INTENDED: dict[str, Rules] = {
    "fixed": lambda w: [families.fix(w.a, value=2)],
    "fixed and said again": lambda w: [w.a == 1, w.a.sum() == 6],
    "equal to zero": lambda w: [w.c == 0],
    "one entry is left": lambda w: [w.a[1:].cumsum(0) == 1],
    "skew": lambda w: [families.skew(w.c)],
    "sums": lambda w: [w.big.sum(0) == 1, w.big.sum(1) == 1],
}


@pytest.mark.parametrize("case", INTENDED)
def test_what_is_meant_or_leaves_something_is_not_told(case: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        affinet.plan(INTENDED[case](affinet.weights(SHAPES)))


def test_attaching_tells_too() -> None:
    model = torch.nn.Linear(2, 2)
    rule = families.equivariant(affinet.weights(model).bias, outputs=[TURN])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(NothingToTrainWarning, match="nothing is left to train in bias: its 2 entries"):
        handle = affinet.project(model, optimizer, rule)
    assert handle.plan.free == 0
    assert not model.bias.any()


def test_the_plan_says_that_nothing_is_left() -> None:
    w = affinet.weights(SHAPES)
    assert "note: nothing is left to train among these entries" in str(affinet.plan(w.a == 1))
    assert "nothing is left" not in str(affinet.plan(w.a.sum() == 1))
