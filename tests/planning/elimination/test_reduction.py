"""Elimination: fixed entries, ties, triangular systems, and what is left when rounds run out."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination import reduction as module
from affinet.planning.elimination.reduction import Reduction, reduce
from affinet.system.system import System
from affinet.system.tolerance import Tolerance

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")  # some of these determine all


def reduced(*rules: object) -> Reduction:
    system = System.of(rules)
    return reduce(system.rows(range(len(system.rules))), system.tolerance)


def triangular(n: int) -> tuple[affinet.Constraint, np.ndarray]:
    """Every equation has one unknown more than the one before; the solution is 1, 2, 3, …"""
    lower = np.tril(np.ones((n, n)))
    solution = np.arange(1.0, n + 1)
    return lower @ affinet.weights({"a": (n,)}).a == lower @ solution, solution


def test_fixed_entries_know_their_values() -> None:
    w = affinet.weights({"a": (4,)})
    found = reduced(2 * w.a[1] == 6, w.a[3] == -1)
    assert found.columns.tolist() == [1, 3]
    assert found.value[np.argsort(found.fixed)].tolist() == [3, -1]
    assert found.core.count == 0


@pytest.mark.parametrize("n", [3, 20, 60])
def test_triangular_systems_are_solved_by_substitution(n: int) -> None:
    rule, solution = triangular(n)
    found = reduced(rule)
    assert found.core.count == 0
    value = np.zeros(n)
    value[found.fixed] = found.value
    np.testing.assert_allclose(found.scale * value[found.node] + found.shift, solution, rtol=1e-12)


@pytest.mark.parametrize("rounds", [1, 2, 3, 7])
def test_what_rounds_do_not_reach_the_core_takes(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROUNDS", rounds)
    rule, solution = triangular(12)
    found = reduced(rule)
    assert found.core.count > 0
    plan = affinet.plan([rule])
    assert (plan.rank, plan.free) == (12, 0)
    projected = plan.projector({"a": solution}).project({"a": np.zeros(12)})
    np.testing.assert_allclose(projected["a"], solution, rtol=1e-9)


@pytest.mark.parametrize("rounds", [1, 2, 64])
def test_contradictions_are_found_whatever_the_rounds(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROUNDS", rounds)
    rule, _ = triangular(6)
    w = affinet.weights({"a": (6,)})
    with pytest.raises(affinet.InfeasibleError, match="cannot hold together"):
        affinet.plan([rule, w.a[5] == 7])


def test_ties_and_values_chase_each_other() -> None:
    w = affinet.weights({"a": (6,)})
    found = reduced(w.a[0] == 1, w.a[0] + w.a[1] + w.a[2] == 4, w.a[1] == 2 * w.a[2], w.a[3] - w.a[4] == w.a[2])
    value = np.zeros(len(found.columns))
    value[found.fixed] = found.value
    entries = found.scale * value[found.node] + found.shift
    np.testing.assert_allclose(entries[:3], [1, 2, 1])
    assert found.node[3] == found.node[4]
    assert found.core.count == 0


def test_the_core_speaks_of_three_unknowns_or_more() -> None:
    w = affinet.weights({"a": (5, 5)})
    found = reduced(w.a.sum(1) == 1, w.a.sum(0) == 1, w.a[0, 0] == 0.5, w.a[1, 1] == w.a[2, 2])
    assert found.core.lengths.min() >= 3
    assert set(found.core.columns) <= set(found.node) - set(found.fixed)
    assert (found.terms >= np.abs(found.core.rhs)).all()


def test_the_same_value_twice_agrees_to_rounding_only() -> None:
    w = affinet.weights({"a": (2,)})
    assert reduced(3 * w.a[0] == 0.3, w.a[0] == 0.1).core.count == 0
    with pytest.raises(Contradiction):
        reduced(w.a[0] == 0.1, w.a[0] == 0.1 + 1e-9)


def test_equations_without_unknowns() -> None:
    w = affinet.weights({"a": (2,)})
    assert reduced(0 * w.a == 0).core.count == 0
    with pytest.raises(Contradiction):
        reduced(0 * w.a == 1)
    rows = System.of([w.a[0] + w.a[1] == 1, 2 * w.a[0] + 2 * w.a[1] == 2]).rows([0, 1])
    assert reduce(rows, Tolerance()).core.count == 0
