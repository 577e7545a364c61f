"""Rules that follow from others are named with those others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.analysis.findings import looking, redundant
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.findings.redundant import Redundant

W = affinet.weights({"a": (4, 6), "s": (4, 4), "c": (8,), "big": (400, 400)})


def found(*rules: affinet.Constraint) -> list[Redundant]:
    return [finding for finding in affinet.plan(rules).findings if isinstance(finding, Redundant)]


def test_a_rule_said_twice() -> None:
    (one,) = found((W.c[0] == W.c[1]).named("once"), W.c[3] == 1, (2 * W.c[1] == 2 * W.c[0]).named("twice"))
    assert one == Redundant("twice", ("once",))
    assert str(one).startswith('the rule "twice" follows from "once": dropping it changes nothing.')


def test_of_a_circle_of_ties_the_last_is_told() -> None:
    ties = [(W.c[k] == W.c[(k + 1) % 4]).named(f"tie {k}") for k in range(4)]
    assert found(*ties, W.c[6] == W.c[7]) == [Redundant("tie 3", ("tie 0", "tie 1", "tie 2"))]


def test_only_the_rules_that_are_needed_are_named() -> None:
    rules = [families.symmetric(W.s).named("symmetric"), (W.s.sum(dim=1) == 1).named("rows")]
    more = [(W.s.sum() == 4).named("all"), (W.s[0, 0] == W.s[1, 1]).named("a tie")]
    assert found(*rules, *more) == [Redundant("all", ("rows",))]


def test_large_regular_rules_are_planned_again_without() -> None:
    symmetric, rows = families.symmetric(W.big).named("symmetric"), (W.big.sum(dim=1) == 1).named("rows")
    assert found(symmetric, rows, (W.big.sum(dim=0) == 1).named("columns")) == [
        Redundant("columns", ("symmetric", "rows"))
    ]
    assert found(symmetric, rows) == []
    assert "nothing: other rules imply it" in str(affinet.plan([symmetric, rows, W.big.sum(dim=0) == 1]))
    again = (W.big[:, :200].sum(dim=1) == 0.5).named("left half")
    right = (W.big[:, 200:].sum(dim=1) == 0.5).named("right half")
    assert found(again, right, rows) == [Redundant("rows", ("left half", "right half"))]


@pytest.mark.parametrize(
    "rules",
    [
        [W.a.sum(dim=1) == 3, W.a.sum(dim=0) == 2],
        [W.big.sum(dim=1) == 1, W.big.sum(dim=0) == 1],
        [families.symmetric(W.s)],
        [W.c[0] == W.c[1], W.c[1] == W.c[2]],
    ],
    ids=str,
)
def test_rules_that_share_single_equations_are_not_told(rules: list[affinet.Constraint]) -> None:
    assert found(*rules) == []


def test_what_is_too_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LARGEST", 3)
    rules = [W.c[:4].sum() == 1, W.c[2:].sum() == 1, W.c.sum() == 1, W.c[::2].sum() == 1]
    *_, one = affinet.plan(rules).findings
    assert one == Overlooked(tuple(rule.text for rule in rules), 4, "near-redundancy")
    monkeypatch.setattr(redundant, "MOST_PLANS", 1)
    large = [(W.big[:, :200].sum(dim=1) == 1).named("half"), (W.big.sum(dim=1) == 2).named("rows")]
    (one,) = affinet.plan([*large, (W.big[:, 200:].sum(dim=1) == 1).named("other half")]).findings
    assert one == Overlooked(("half", "rows", "other half"), 1_200, "redundancy")


def test_no_more_is_tried_than_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redundant, "MOST_WORK", -1.0)
    twice, circle = [W.c[0] == W.c[1], W.c[1] == W.c[0]], [W.c[4] == W.c[5], W.c[5] == W.c[6], W.c[6] == W.c[4]]
    first, late = affinet.plan([*twice, *circle]).findings
    assert first == Redundant("c[1] == c[0]", ("c[0] == c[1]",))
    assert isinstance(late, Overlooked)
    assert late.reason == "redundancy and near-redundancy"


@pytest.mark.parametrize("small", [1e-6, 1e-12, 1e-20])
def test_a_rule_that_a_tiny_coefficient_makes_independent_is_not_told(small: float) -> None:
    tiny, one = (torch.tensor([small, 1.0]) * W.c[:2]).sum() == 2, W.c[1] == 1
    assert affinet.plan([tiny, one]).rank == 2
    assert found(tiny, one) == []


def test_beside_a_tiny_coefficient_the_rule_said_twice_is_told() -> None:
    tiny = (torch.tensor([1e-6, 1.0]) * W.c[:2]).sum() == 2
    once, twice = (W.c[1] == 1).named("once"), (2 * W.c[1] == 2).named("twice")
    assert found(tiny, once, twice) == [Redundant("twice", ("once",))]
    assert found(once, twice, tiny) == [Redundant("twice", ("once",))]


def test_what_is_not_looked_for_in_a_symmetric_matrix_with_row_sums_is_said_to_be_no_fault() -> None:
    w = affinet.weights({"s": (50, 50)})
    (one,) = affinet.plan([families.symmetric(w.s).named("symmetric"), (w.s.sum(dim=1) == 1).named("rows")]).findings
    assert str(one) == (
        'Not looked for, as it would take long: redundancy and near-redundancy among "symmetric" and "rows" (2,550 '
        "equations). The plan holds as it is; plan fewer of them to see."
    )


def test_what_is_not_looked_for_is_a_footnote_below_what_was_found() -> None:
    w = affinet.weights({"s": (50, 50), "c": (2,)})
    rules = [families.symmetric(w.s), w.s.sum(dim=1) == 1]
    footnote = "(Not looked for, as it would take long: redundancy and near-redundancy among"
    alone = str(affinet.plan(rules))
    assert "Findings" not in alone
    assert alone.splitlines()[-1].startswith(footnote)
    both = str(affinet.plan([*rules, (w.c[0] == 1).named("once"), (2 * w.c[0] == 2).named("twice")])).splitlines()
    assert both[-4:-1] == [
        "Findings:",
        '  - the rule "twice" follows from "once": dropping it changes nothing. Was it meant to say something else?',
        "",
    ]
    assert both[-1].startswith(footnote)


def test_what_planning_alone_tells_apart_is_not_told() -> None:
    tiny = np.array([[-1e-22, -1, 0, 0], [0, -1, -2e-22, 0], [-1e-9, 1e-40, -2e-40, -2e-5], [1e-22, -2e-22, -2, 2]])
    rules = [families.linear([W.c[:4]], row, row @ [0, 1, 0, -1]) for row in tiny[:, None]]
    assert affinet.plan(rules).rank == 4
    assert found(*rules) == []


def test_what_is_too_large_is_named_behind_groups_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LARGEST", 3)
    rules = [W.c[:4].sum() == 1, W.c[2:].sum() == 1, W.c.sum() == 1, W.c[::2].sum() == 1]
    *_, one = affinet.plan([W.a[0, 0] == W.a[0, 1], *rules]).findings
    assert one == Overlooked(tuple(rule.text for rule in rules), 4, "near-redundancy")
