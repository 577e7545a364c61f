"""Irreducible sets of rules from what cancels: the same as by leaving rules out one by one, in dense arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.analysis.diagnosis import explaining, filtering
from affinet.analysis.diagnosis.filtering import filtered
from affinet.errors import InfeasibleError
from affinet.planning.elimination import markowitz
from affinet.system.system import System
from affinet.system.tolerance import Tolerance
from tests.analysis.diagnosis.contradictory_systems import Dense, contradictory


@pytest.mark.parametrize("small_enough", [0, 10**6])
def test_any_one_rule_is_needed(small_enough: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markowitz, "SMALL_ENOUGH", small_enough)
    several = 0
    for seed in range(40):
        dense = Dense(contradictory(seed))
        found = filtered(dense.rows, Tolerance())
        assert found
        several += len(found) > 2
        names = tuple(dense.names[rule] for rule in found)
        assert not dense.holds(dense.of_rules(names)), seed
        for k in range(len(names)):
            assert dense.holds(dense.of_rules(names[:k] + names[k + 1 :])), seed
    assert several > 10


def test_rules_that_hold_leave_nothing_to_name() -> None:
    w = affinet.weights({"a": (3, 4)}).a
    system = System.of([w.sum(dim=1) == 4, w.sum(dim=0) == 3, w.sum() == 12])
    assert filtered(system.rows(range(3)), system.tolerance) is None


def test_too_many_dependencies_are_left_to_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    w = affinet.weights({"a": (3, 4)}).a
    rules = [w.sum(dim=1) == 4, w.sum(dim=0) == 3, w.sum() == 11, (w.sum(dim=0) == 3).named("again")]
    system = System.of(rules)
    assert filtered(system.rows(range(4)), system.tolerance) == [2, 3]
    for name, value in (("MOST_COMBINATIONS", 2), ("MOST_NUMBERS", 10)):
        with monkeypatch.context() as patch:
            patch.setattr(filtering, name, value)
            assert filtered(system.rows(range(4)), system.tolerance) is None


def tied_sums(n: int) -> list[affinet.Constraint]:
    """Every entry is tied in a rule of its own, and the sums of one matrix along both axes are against another's."""
    w = affinet.weights({"v": (n, n), "w": (n, n)})
    ties = [(w.v[i, j] == w.w[i, j]).named(f"tie {i} {j}") for i in range(n) for j in range(n)]
    sums = affinet.concat([w.w.sum(dim=1), w.w.sum(dim=0)]) == 1
    return [
        *ties,
        sums.named("sums"),
        (w.v.sum() == n + 1).named("whole"),
        (w.w[: n // 2].sum() == n // 2).named("half"),
    ]


def test_rules_of_which_some_equations_are_not_needed() -> None:
    rules = tied_sums(30)
    with pytest.raises(InfeasibleError, match="cannot hold") as found:
        affinet.plan(rules)
    assert found.value.minimal
    assert len(found.value.rules) == 902
    assert len(found.value.equations) == 931
    assert "half" not in found.value.rules


def test_planning_subsets_stops_at_a_set_that_may_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtering, "MOST_COMBINATIONS", 0)
    rules = tied_sums(4)
    with pytest.raises(InfeasibleError, match="cannot hold") as found:
        affinet.plan(rules)
    assert (found.value.minimal, len(found.value.rules)) == (True, 18)
    monkeypatch.setattr(explaining, "MOST_DECIDED", 0)
    monkeypatch.setattr(explaining, "FEWEST_DECISIONS", 5)
    with pytest.raises(InfeasibleError, match=r"\(Some of these rules or equations may not be needed") as found:
        affinet.plan(rules)
    assert len(found.value.rules) == 18
    assert np.count_nonzero(found.value.multipliers) == len(found.value.equations)
