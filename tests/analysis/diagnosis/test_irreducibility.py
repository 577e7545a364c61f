"""Contradictions by the dense oracle: the rules named cannot hold, any fewer can, and the sentence is exact."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.errors import InfeasibleError
from affinet.language.evaluation import evaluate
from affinet.system.system import System
from tests.oracle import oracle

W = affinet.weights({"a": (3, 4), "b": (4,)})
LARGE = affinet.weights({"W": (4096, 11008), "b": (3,)})
POINT = {"a": np.full((3, 4), 3.0), "b": np.full(4, 3.0)}


def holds(rules: list[affinet.Constraint]) -> bool:
    """By the oracle: the point of least squares satisfies all equations."""
    if not rules:
        return True
    dense = oracle(System.of(rules))
    gap = dense.matrix @ (dense.inverse @ dense.rhs) - dense.rhs
    return float(np.abs(gap).max(initial=0.0)) < 1e-8


def scattered(draw: np.random.Generator) -> affinet.Constraint:
    """One random rule; half of them hold where every weight is 3."""
    entries = [W.a[i, j] for i in range(3) for j in range(4)] + [W.b[i] for i in range(4)]
    x, y, z = draw.choice(16, 3, replace=False)
    left = (
        entries[x] - entries[y],
        entries[x] + 0.0,
        W.a.sum(dim=int(draw.integers(2))),
        W.a[int(draw.integers(3))] - W.b,
        int(draw.integers(1, 4)) * entries[x] + 2 * entries[y] - entries[z],
    )[draw.integers(5)]
    return left == evaluate(left, POINT) + float(draw.choice([0, 0, 1, 2]))


def system(seed: int) -> list[affinet.Constraint]:
    draw = np.random.default_rng(seed)
    return [scattered(draw).named(f"rule {k}") for k in range(int(draw.integers(6, 13)))]


SEEDS = [seed for seed in range(60) if not holds(system(seed))]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rules_named_are_an_irreducible_set(seed: int) -> None:
    rules = system(seed)
    with pytest.raises(InfeasibleError, match="cannot hold") as found:
        affinet.plan(rules)
    named = [rule for rule in rules if rule.name in found.value.rules]
    assert len(named) == len(found.value.rules) > 0
    assert found.value.minimal
    assert not holds(named), f"these hold: {found.value}"
    for k, rule in enumerate(named):
        assert holds(named[:k] + named[k + 1 :]), f"{rule.name} is not needed: {found.value}"


def test_many_of_the_random_systems_contradict_themselves() -> None:
    assert 20 <= len(SEEDS) < 60


def said(*rules: affinet.Constraint) -> str:
    with pytest.raises(InfeasibleError, match="cannot hold") as found:
        affinet.plan(rules)
    return str(found.value)


def test_one_rule_alone() -> None:
    assert said(W.b[1] == 3, W.a[0, 0] - W.a[0, 0] == 1) == (
        "this rule cannot hold:\n  a[0, 0] - a[0, 0] == 1\n"
        "it says 0 == 1, and no weight is left in it. Change it or drop it."
    )


def test_one_rule_of_many_equations() -> None:
    assert said((W.b - W.b.roll(1) == 1).named("a staircase")) == (
        'this rule cannot hold:\n  "a staircase"  b - b.roll(1) == 1\n'
        "its 4 equations (counted from 0) contradict each other; without any one of these the others can hold:\n"
        "  [2]  -b[1] + b[2] == 1\n"
        "  [1]  -b[0] + b[1] == 1\n"
        "  [0]  b[0] - b[3] == 1\n"
        "  [3]  -b[2] + b[3] == 1\n"
        "it says 0 == 4 for b[0], b[1], b[2], b[3]. Change it or drop it."
    )


def test_ties_name_the_path_between_them() -> None:
    assert said(W.b[3] == 0, W.b[0] == W.b[1], W.b[1] == W.b[2], W.b[2] == W.b[0] + 1) == (
        "these rules cannot hold together:\n  b[0] == b[1]\n  b[1] == b[2]\n  b[2] == b[0] + 1\n"
        "together they say 0 == 1 for b[0], b[1], b[2]. Drop one of them or change its right-hand side."
    )


def test_ties_across_weights_name_both() -> None:
    assert "\ntogether they say 0 == 0.5 for a[0, 1], b[2]. " in said(W.a[0, 1] == W.b[2], W.a[0, 1] == W.b[2] + 0.5)


def test_row_sums_against_a_fixed_row() -> None:
    assert said((W.a.sum(dim=1) == 1).named("rows sum to one"), (W.a[0] == 0).named("first row is zero")) == (
        "these rules cannot hold together:\n"
        '  "rows sum to one"    a.sum(dim=1) == 1\n'
        '  "first row is zero"  a[0] == 0\n'
        "5 of their 7 equations (counted from 0) contradict each other; without any one of these the others can hold:\n"
        '  [0] of "rows sum to one"    a[0, 0] + a[0, 1] + a[0, 2] + a[0, 3] == 1\n'
        '  [0] of "first row is zero"  a[0, 0] == 0\n'
        '  [1] of "first row is zero"  a[0, 1] == 0\n'
        '  [2] of "first row is zero"  a[0, 2] == 0\n'
        '  [3] of "first row is zero"  a[0, 3] == 0\n'
        "together they say 0 == 1 for a[0, :]. Drop one of them or change its right-hand side."
    )


def test_many_entries_of_several_weights_are_cut_short() -> None:
    text = said(W.a[0] == W.b, W.a[1] == W.b, W.a[0].sum() == W.a[1].sum() + 1)
    assert "\ntogether they say 0 == 1 for a[0, 0], a[0, 1], a[0, 2], a[0, 3], a[1, 0], a[1, 1], … (12 entr" in text


def test_rows_against_columns_of_a_large_matrix() -> None:
    assert said(LARGE.W.sum(1) == 1, LARGE.W.sum(0) == 1, LARGE.b == 0) == (
        "these rules cannot hold together:\n  W.sum(dim=1) == 1\n  W.sum(dim=0) == 1\n"
        "their equations come to 90,177,536 numbers, too many to say which of them contradict each other.\n"
        "the first makes all entries of W add up to 4096, the second to 11008. "
        "Drop one of them or change its right-hand side."
    )


def test_a_large_contradiction_leaves_other_rules_out() -> None:
    assert said((LARGE.W.sum(1) == 1).named("rows"), LARGE.b.sum() == 1, (LARGE.W[5] == 0).named("row five")) == (
        "these rules cannot hold together:\n"
        '  "rows"      W.sum(dim=1) == 1\n'
        '  "row five"  W[5] == 0\n'
        "their equations come to 45,099,776 numbers, too many to say which of them contradict each other.\n"
        "Drop one of them or change its right-hand side."
    )
