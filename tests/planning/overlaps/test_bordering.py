"""A few equations on top of large regular rules: planned from the structure, in the memory of what they say."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import affinet
from affinet import families
from affinet.blocks import gram as grams
from affinet.blocks.bordered import Bordered
from affinet.blocks.commuting import Commuting
from affinet.blocks.dense import Dense
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.errors import InfeasibleError, TooLargeError
from affinet.planning.compilation import compile_blocks
from affinet.planning.overlaps.bordering import bordered
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import blocks_within, plan_within
from tests.planning.random_rules import oracle_of

SIZE = 2048
LARGE: Any = affinet.weights({"w": (SIZE, SIZE), "v": (SIZE, SIZE), "b": (SIZE,)})
ROWS, COLUMNS = LARGE.w.sum(1) == 1, LARGE.w.sum(0) == 1
W: Any = affinet.weights({"a": (4, 6), "s": (4, 4), "b": (4, 6), "t": (2, 3, 4)})
DRAW = np.random.default_rng(0)
TWO, FOUR = DRAW.standard_normal((2, 6)), DRAW.standard_normal((2, 4))
BASES: dict[str, list[Any]] = {
    "rows": [W.a.sum(1) == 1],
    "cells of a matrix": [W.a @ TWO.T == 1],
    "strided cells": [W.a[::2, ::-3].sum(1) == 1],
    "cells picked by hand": [W.a[[0, 3, 1]][:, [5, 2, 4]].sum(1) == [1, 2, 3]],
    "rows and columns": [W.a.sum(1) == 6, W.a.sum(0) == 4],
    "two matrices": [W.a @ TWO.T == 0, FOUR @ W.a == 0],
    "sums that overlap": [W.t.sum((0, 1)) == 6, W.t.sum((1, 2)) == 12],
    "a matrix that overlaps": [
        W.t.transpose(0, 1).reshape(3, 8) @ np.kron([1, -2], np.ones(4)) == 3,
        W.t.sum((1, 2)) == [19, 5],
    ],
    "symmetric": [families.symmetric(W.s)],
    "skew": [families.skew(W.s)],
    "shifted": [W.s == 1 - W.s.T],
    "flipped": [W.t == W.t.flip((0, 2))],
    "symmetric rows": [families.symmetric(W.s), W.s.sum(1) == np.arange(4.0)],
    "pairs": [W.a == -2 * W.b[:, ::-1] + 1],
    "dense": [DRAW.standard_normal((3, 48)) @ affinet.concat([W.a.flatten(), W.b.flatten()]) == 1],
}


def compiled(rules: list[Any]) -> Plan:
    system = System.of(rules)
    return plan_within(system, one_by_one=0)


@pytest.mark.parametrize("name", BASES)
def test_projections_and_inner_products_of_a_base_are_the_oracles(name: str) -> None:
    plan, truth = compiled(BASES[name]), oracle_of(BASES[name])
    (base,) = plan.blocks
    assert isinstance(base, Slices | Commuting | Mirror | Pairs | Dense)
    every = base.entries.find(np.arange(truth.layout.size), truth.layout)
    columns = np.flatnonzero(every >= 0)
    spoken = np.flatnonzero((truth.matrix != 0).any(axis=0))
    assert np.array_equal(columns, spoken)
    assert len(np.unique(every[columns])) == len(columns) <= base.entries.count
    x = np.zeros((3, truth.layout.size))
    x[:, columns] = DRAW.standard_normal((3, len(columns)))
    read = np.zeros((3, base.entries.count))
    read[:, every[columns]] = x[:, columns]
    for affine in (True, False):
        wanted = x - (x @ truth.matrix.T - (truth.rhs if affine else 0.0)) @ truth.inverse.T
        found = base.projected(read, affine=affine)
        np.testing.assert_allclose(found[:, every[columns]], wanted[:, columns], atol=1e-12)
    rows = read * (DRAW.random(read.shape) < 0.4)
    wanted = base.projected(rows, affine=False) @ rows.T
    np.testing.assert_allclose(base.gram(sparse.csr_array(rows)), wanted, atol=1e-12)


def test_inner_products_that_have_no_structure_are_taken_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    (base,) = compiled(BASES["a matrix that overlaps"]).blocks
    assert isinstance(base, Commuting)
    assert not base.separate
    assert not base.even
    monkeypatch.setattr(grams, "AT_A_TIME", 50)
    rows = DRAW.standard_normal((5, base.entries.count))
    found = base.gram(sparse.csr_array(rows))
    np.testing.assert_allclose(found, base.projected(rows, affine=False) @ rows.T, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-7, 3.0, 0.1, 1 / 3])
def test_the_rank_is_the_same_from_the_squares(scale: float) -> None:
    """Rows that follow from the base and from one another, and one that nearly does."""
    near = np.ones((4, 6)) + 1e-5 * np.eye(4, 6)
    rules = [
        *BASES["rows and columns"],
        scale * (np.arange(4.0)[:, None] * W.a).sum() == scale * 36,
        W.a[0, 0] == W.a[1, 1],
        scale * (W.a[0, 0] - W.a[1, 1] + W.a[2].sum()) == scale * 6,
        (near * W.a).sum() == 24,
    ]
    exact = compiled(rules)
    squared = plan_within(System.of(rules), one_by_one=0, few_numbers=0)
    assert exact.rank == squared.rank == oracle_of(rules).rank == 11
    one, other = exact.blocks[0], squared.blocks[0]
    assert isinstance(one, Bordered)
    assert isinstance(other, Bordered)
    wanted = one.factor @ one.factor.T
    np.testing.assert_allclose(other.factor @ other.factor.T, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_rows_that_nearly_follow_are_told_in_the_report() -> None:
    plan = compiled(
        [*BASES["rows"], (np.ones((4, 6)) + 1e-12 * np.eye(4, 6) * np.arange(6)).T.flatten() @ W.a.T.flatten() == 4]
    )
    assert "was decided close to the tolerance" in str(plan)


@pytest.mark.parametrize(
    ("rules", "wanted", "rank"),
    [
        ([ROWS, COLUMNS, LARGE.w[3, 5] == 0.5], {"Bordered": 1}, 2 * SIZE),
        ([ROWS, COLUMNS, LARGE.w[3, 5] == LARGE.w[7, 8]], {"Bordered": 1}, 2 * SIZE),
        ([ROWS, COLUMNS, LARGE.w[3, 5] == LARGE.b[7]], {"Bordered": 1}, 2 * SIZE),
        ([ROWS, COLUMNS, LARGE.w[0, :1000].sum() == 0.5], {"Bordered": 1}, 2 * SIZE),
        ([ROWS, COLUMNS, LARGE.w.sum() == SIZE], {"Commuting": 1}, 2 * SIZE - 1),
        ([ROWS, LARGE.w.sum() == SIZE], {"Slices": 1}, SIZE),
        ([ROWS, LARGE.w[:, :10].sum(0) == 1], {"Bordered": 1}, SIZE + 10),
        (
            [families.symmetric(LARGE.w), LARGE.w[:10].sum(1) == 1],
            {"Mirror": 1, "Dense": 1},
            SIZE * (SIZE - 1) // 2 + 10,
        ),
        ([families.symmetric(LARGE.w), LARGE.w[:100].sum(1) == 1], {"Bordered": 1}, SIZE * (SIZE - 1) // 2 + 100),
        (
            [families.symmetric(LARGE.w), ROWS, LARGE.w[3, 5] == 0.5],
            {"Bordered": 1},
            SIZE * (SIZE - 1) // 2 + SIZE + 1,
        ),
        ([LARGE.w == LARGE.v.T, LARGE.w[:100].sum(1) == 1], {"Bordered": 1}, SIZE * SIZE + 100),
        (
            [ROWS, COLUMNS, LARGE.v.sum(1) == 1, LARGE.v.sum(0) == 1, LARGE.w[0, 0] == LARGE.v[1, 1]],
            {"Bordered": 1},
            4 * SIZE - 1,
        ),
        (
            [ROWS, LARGE.w[3, 5] == 0.5, LARGE.w[4, 0] == LARGE.w[5, 1]],
            {"Slices": 1, "Dense": 2, "Bordered": 0},
            SIZE + 2,
        ),
    ],
    ids=lambda value: "" if isinstance(value, int) else None,
)
def test_large_rules_stay_regular_under_a_few_more(rules: list[Any], wanted: dict[str, int], rank: int) -> None:
    tracemalloc.start()
    plan = affinet.plan(rules)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kinds = [type(block).__name__ for block in plan.blocks]
    assert {kind: kinds.count(kind) for kind in wanted} == wanted
    assert plan.rank == rank
    # One float64 number an entry would be 34 MB.
    assert kept < 12e6
    if "Bordered" in kinds and rank <= 2 * SIZE:
        assert peak < 20e6


def test_the_printed_plan_says_what_is_on_top() -> None:
    shown = str(affinet.plan([ROWS, COLUMNS, LARGE.w[3, 5] == 0.5]))
    assert "1 equation on top of equations along 2 axes of" in shown


def test_what_contradicts_large_rules_is_named() -> None:
    with pytest.raises(InfeasibleError, match="cannot hold") as found:
        affinet.plan([ROWS, COLUMNS.named("columns"), LARGE.w[0, 1:] == 0, LARGE.w[0, 0] == 2])
    assert len(found.value.rules) == 3
    assert "columns" not in found.value.rules
    with pytest.raises(InfeasibleError, match="cannot hold") as total:
        affinet.plan([ROWS, COLUMNS, LARGE.w.sum() == 3])
    assert len(total.value.rules) == 2


def test_more_equations_than_a_border_takes_are_read_one_by_one() -> None:
    rules = [*BASES["rows and columns"], W.a[0, 0] == 1, W.a[1, 1] == 2]
    assert [type(block) for block in compiled(rules).blocks] == [Bordered]
    system = System.of(rules)
    many = plan_within(system, one_by_one=0, most_extra=1)
    assert Bordered not in [type(block) for block in many.blocks]
    assert many.rank == oracle_of(rules).rank


def test_small_rules_are_planned_one_by_one_as_ever() -> None:
    system = System.of([*BASES["rows and columns"], W.a[0, 0] == 1])
    assert Bordered not in [type(block) for block in compile_blocks(system)]


def test_too_many_terms_on_top_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [*BASES["rows and columns"], DRAW.standard_normal(24) @ W.a.flatten() == 1]
    system = System.of(rules)
    bases = blocks_within(System.of(BASES["rows and columns"]), one_by_one=0)
    assert isinstance(bases[0], Commuting)
    rows = system.rows([2])
    monkeypatch.setattr("affinet.language.forecast.LIMIT", 1_000)
    with pytest.raises(TooLargeError, match="1 equation with 24 terms on top of 1 block"):
        bordered([bases[0]], rows, system.layout, system.tolerance, system.limits)


def test_more_entries_than_memory_holds_are_told_before_they_are_reached_for() -> None:
    w = affinet.weights({"a": (100_000, 100_000)})
    rules = [w.a.sum(dim=1) == 1, w.a.sum(dim=0) == 1, w.a[0, 0] == w.a[1, 1]]
    with pytest.raises(affinet.TooLargeError, match="solving 1 more equation over 10,000,000,000 entries of regular"):
        affinet.plan(rules)
