"""From what the user gave to named rules: names, what is not a rule, the tolerance, and frozen weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import affinet
from affinet import Constraint
from affinet.errors import ConstantError, RuleError, TooLargeError
from affinet.system.system import System
from affinet.system.tolerance import DOUBLE_EPSILON

SINGLE_EPSILON = float(np.finfo(np.float32).eps)


@pytest.fixture
def w() -> affinet.Weights:
    return affinet.weights({"a": (3, 4), "b": (4,), "c": ()})


def names(rules: object) -> list[str]:
    return [rule.name for rule in System.of(rules).rules]


def test_a_rule_without_a_name_goes_by_its_text(w: affinet.Weights) -> None:
    assert names([w.b[0] == w.b[1], (w.a.sum(dim=1) == 1).named("rows")]) == ["b[0] == b[1]", "rows"]


def test_repeated_names_are_numbered(w: affinet.Weights) -> None:
    same = (w.b[0] == 1).named("same")
    assert names([same, w.b[1] == 1, same, same]) == ["same", "b[1] == 1", "same (2)", "same (3)"]
    assert names([w.b[0] == 1, w.b[0] == 1]) == ["b[0] == 1", "b[0] == 1 (2)"]


def test_a_number_that_somebody_uses_as_a_name_is_passed_over(w: affinet.Weights) -> None:
    same, taken = (w.b[0] == 1).named("same"), (w.b[1] == 1).named("same (2)")
    assert names([same, taken, same]) == ["same", "same (2)", "same (3)"]
    assert names([same, same, taken]) == ["same", "same (3)", "same (2)"]
    assert len(set(names([same, taken, same, taken, same]))) == 5


def test_rules_may_be_one_or_nested_or_generated(w: affinet.Weights) -> None:
    rule = w.b[0] == 1
    nested = [rule, [w.b[1] == 2, (w.b[2] == 3,)], (w.b[k] == 0 for k in range(3, 4))]
    assert names(rule) == ["b[0] == 1"]
    assert names(nested) == ["b[0] == 1", "b[1] == 2", "b[2] == 3", "b[3] == 0"]
    assert System.of([]).equations == 0


@pytest.mark.parametrize("given", [True, np.True_, None, 1.0, "b[0] == 1", b"b", {"a": 1}], ids=repr)
@pytest.mark.parametrize("nested", [False, True])
def test_what_is_no_rule_is_refused(w: affinet.Weights, given: object, nested: bool) -> None:
    with pytest.raises(RuleError, match=rf"of type {type(given).__name__} is not a rule\. A rule is an equation"):
        System.of([w.b[0] == 1, [given]] if nested else given)


def test_an_expression_is_no_rule(w: affinet.Weights) -> None:
    with pytest.raises(
        RuleError, match=r"of type Expression is not a rule\. A rule is an equation or inequality between"
    ):
        System.of([w.b[0] - w.b[1]])


@pytest.mark.parametrize("tolerance", [0.0, -1e-9, 0.1, 1.0, float("nan"), float("inf")])
def test_a_tolerance_that_is_none_is_refused(w: affinet.Weights, tolerance: float) -> None:
    with pytest.raises(RuleError, match=r"tolerance is .*; give a number between 0 and 0\.1, such as 1e-12"):
        System.of([w.b[0] == 1], tolerance=tolerance)


def test_the_coarsest_constant_decides_the_tolerance(w: affinet.Weights) -> None:
    exact, coarse = w.b == np.arange(4.0), w.b == np.arange(4, dtype=np.float32)
    assert System.of([exact]).tolerance.epsilon == DOUBLE_EPSILON
    assert System.of([exact, coarse]).tolerance.epsilon == SINGLE_EPSILON
    assert System.of([exact, coarse], tolerance=1e-12).tolerance.epsilon == 1e-12


def test_pairs_count_broadcast_axes(w: affinet.Weights) -> None:
    (full, spread, total) = System.of([w.a == w.b, w.c == np.ones((3, 4)), w.a.sum() == 1]).rules
    assert [rule.pairs for rule in (full, spread, total)] == [24, 12, 12]
    assert [rule.equations for rule in (full, spread, total)] == [12, 12, 1]


def test_rows_follow_the_rules_asked_for(w: affinet.Weights) -> None:
    system = System.of([w.a.sum(dim=1) == 1, w.b[0] == 2, w.c == w.b[1:3]])
    rows = system.rows([2, 0])
    assert rows.rule.tolist() == [2, 2, 0, 0, 0]
    assert rows.index.tolist() == [0, 1, 0, 1, 2]
    assert rows.rhs.tolist() == [0, 0, 1, 1, 1]
    dense = rows.matrix(system.layout.size).toarray()
    assert dense[0, 16] == 1
    assert dense[0, 13] == -1
    assert dense[2:].sum() == 12


def test_only_some_rules_keep_the_layout_of_all(w: affinet.Weights) -> None:
    system = System.of([w.a.sum(dim=1) == 1, w.b[0] == 2])
    fewer = system.only([1])
    assert [rule.name for rule in fewer.rules] == ["b[0] == 2"]
    assert fewer.layout is system.layout


def test_rows_that_memory_cannot_hold_are_refused_before_they_are_written() -> None:
    w = affinet.weights({"big": (2**20, 2**20)})
    system = System.of([(w.big.sum(dim=1) == 1).named("huge")])
    with pytest.raises(TooLargeError, match=r'rule "huge", read one equation at a time, would take 65,536\.0 GiB'):
        system.rows([0])


def test_rows_that_memory_cannot_hold_together_are_refused_too() -> None:
    w = affinet.weights({"big": (2**13, 2**13)})
    half, other = (w.big.sum(dim=1) == 1).named("half"), (w.big.sum(dim=0) == 1).named("other half")
    with pytest.raises(TooLargeError, match=r'rule "half" with 1 other rules, read .* would take 8\.0 GiB'):
        System.of([half, other]).rows([0, 1])


def test_frozen_weights_become_constants(w: affinet.Weights) -> None:
    system = System.of([w.a[0] == w.b, w.c == 1])
    frozen = system.with_constants({"b": np.array([1.0, 2.0, 3.0, 4.0])}, 1e-7)
    assert [p.name for p in frozen.layout.parameters] == ["a", "c"]
    assert frozen.tolerance.frozen == 1e-7
    assert frozen.rows([0]).rhs.tolist() == [1, 2, 3, 4]
    assert [rule.name for rule in frozen.rules] == [rule.name for rule in system.rules]
    assert [p.name for p in system.layout.parameters] == ["a", "b", "c"]


def test_constants_that_no_rule_speaks_of_leave_the_tolerance(w: affinet.Weights) -> None:
    system = System.of([w.c == 1]).with_constants({"b": np.zeros(4)}, 1e-3)
    assert system.tolerance.epsilon == DOUBLE_EPSILON


def test_a_dense_matrix_is_as_large_as_it_is_full() -> None:
    """A thousand ties as a dense 999 × 1000 matrix become the same ties as in one line."""
    matrix = np.zeros((999, 1000))
    matrix[np.arange(999), np.arange(999)], matrix[np.arange(999), np.arange(1, 1000)] = 1.0, -1.0
    w = affinet.weights({"w": (1000,)})
    dense, line = affinet.plan(affinet.families.linear([w.w], matrix)), affinet.plan(w.w[:-1] == w.w[1:])
    rule = dense.system.rules[0]
    assert (rule.pairs, rule.nonzeros) == (999_000, 1_998)
    assert [type(block) for block in dense.blocks] == [type(block) for block in line.blocks]
    assert (dense.rank, dense.free) == (line.rank, line.free) == (999, 1)


BIG = 1e308
W = affinet.weights({"a": (2, 3), "b": (3,)})


@pytest.mark.parametrize(
    "make",
    [
        lambda: BIG * W.b[0] + BIG * W.b[1] == 1,
        lambda: W.b[0] == BIG,
        lambda: W.a @ [BIG, BIG, BIG] == 0,
        lambda: np.full((2, 2), BIG) @ W.a @ np.full((3, 3), BIG) == 0,
        lambda: (W.b * np.array([BIG, -BIG, BIG])).diff() == 0,
        lambda: affinet.families.linear([W.b], np.full((2, 3), BIG), 0),
        lambda: W.b * np.array([1e141, 1, 1]) == 0,
        lambda: (W.b * np.array([1, 1, 1e141])).flip(0).cumsum(0) == 0,
        lambda: W.b == np.array([0, 0, -1e141])[::-1],
        lambda: W.a * np.broadcast_to(np.array([[1.0], [-1e141]]), (2, 3)) == 0,
    ],
)
def test_numbers_whose_products_leave_float64_are_refused(make: Callable[[], Constraint]) -> None:
    with pytest.raises(ConstantError, match=r'rule ".*" has numbers beyond 1e\+140, .* Write it in other units'):
        affinet.plan(make())


def test_numbers_that_are_almost_too_large_are_planned() -> None:
    plan = affinet.plan([1e140 * W.b[0] + 1e140 * W.b[1] == 1e140, W.b[1] + 1e-140 * W.b[2] == 0])
    assert (plan.rows, plan.rank) == (2, 2)
