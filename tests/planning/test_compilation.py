"""From rules to blocks that share no entry, in both ways of reading rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import affinet
from affinet import families
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.blocks.ties import Ties
from affinet.planning.contradiction import Contradiction
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within
from tests.planning.random_rules import Drawn, feasible, oracle_of, systems, uses

W = affinet.weights({"W": (300, 400), "S": (300, 300), "T": (300, 400), "b": (400,)})


def compiled(*rules: Any, one_by_one: int = 0) -> Plan:
    system = System.of(rules)
    return plan_within(system, one_by_one=one_by_one)


def kinds(plan: Plan) -> list[str]:
    return sorted(type(block).__name__ for block in plan.blocks)


def test_a_tie_inside_row_sums_lowers_only_the_cells_it_touches() -> None:
    plan = compiled(W.W.sum(1) == 1, W.W[7, 3] == W.W[9, 5])
    slices = next(block for block in plan.blocks if isinstance(block, Slices))
    rest = next(block for block in plan.blocks if isinstance(block, Dense))
    assert slices.outer.size == 298
    assert rest.size == 800
    assert kinds(plan) == ["Dense", "Slices"]
    assert (plan.rank, plan.size) == (301, 120_000)


def test_a_tie_inside_one_row_lowers_one_cell() -> None:
    plan = compiled(W.W.sum(1) == 1, W.W[7, 3] == W.W[7, 5])
    assert [block.outer.size for block in plan.blocks if isinstance(block, Slices)] == [299]
    assert plan.rank == 301


def test_a_row_that_is_fixed_leaves_the_other_rows() -> None:
    plan = compiled(W.W.sum(1) == 1, W.W[7, 1:] == 0)
    assert (plan.rank, plan.size, plan.free) == (300 + 399, 120_000, 120_000 - 699)
    assert sum(block.size for block in plan.blocks if isinstance(block, Fixed)) in (0, 400)


def test_touching_more_than_half_of_the_cells_leaves_them_to_a_border() -> None:
    plan = compiled(W.W.sum(1) == 1, *(W.W[k, 0] == W.W[k, 1] for k in range(200)))
    assert kinds(plan) == ["Bordered"]
    assert (plan.rank, plan.size) == (500, 120_000)
    assert {rule for block in plan.blocks for rule in block.rules} == set(range(201))


@pytest.mark.parametrize(
    ("rules", "wanted", "rank"),
    [
        ([families.symmetric(W.S)], ["Mirror"], 300 * 299 // 2),
        ([W.W == W.T], ["Pairs"], 120_000),
        ([W.W.sum(1) == 4, W.W.sum(0) == 3], ["Commuting"], 699),
        ([W.W.sum(1) == 1, W.T.sum(0) == 1], ["Slices", "Slices"], 700),
        ([W.W[:150].sum(1) == 1, W.W[150:].sum(0) == 1], ["Slices", "Slices"], 550),
        ([W.b[:100] == W.b[100:200], W.b[200:].sum() == 1], ["Pairs", "Slices"], 101),
        ([families.symmetric(W.S), W.W.sum(1) == 1], ["Mirror", "Slices"], 300 * 299 // 2 + 300),
        ([W.b == W.b[0]], ["Slices"], 399),
        ([W.b[0] == W.b[5], families.symmetric(W.S)], ["Mirror", "Pairs"], 300 * 299 // 2 + 1),
    ],
    ids=["mirror", "pairs", "product", "two weights", "two halves", "one weight in two", "apart", "ties", "beside"],
)
def test_what_large_rules_become(rules: list[affinet.Constraint], wanted: list[str], rank: int) -> None:
    plan = compiled(*rules)
    assert kinds(plan) == wanted
    assert plan.rank == rank
    assert all((count <= 1).all() for count in uses(plan).values())


def test_mirrors_that_meet_other_pairs_are_read_one_by_one() -> None:
    small = affinet.weights({"s": (6, 6), "t": (6, 6)})
    both = compiled(families.symmetric(small.s), small.s == small.t)
    assert not any(isinstance(block, Mirror | Pairs) for block in both.blocks)
    assert both.rank == 15 + 36


def test_products_that_something_touches_are_read_one_by_one_where_they_are_small() -> None:
    small = affinet.weights({"s": (6, 6)})
    rules = small.s.sum(1) == 1, small.s.sum(0) == 1, small.s[0, 0] == 0
    for one_by_one, wanted in ((0, ["Bordered"]), (72, ["Fixed", "Slices"])):
        plan = compiled(*rules, one_by_one=one_by_one)
        assert kinds(plan) == sorted(wanted)
        assert plan.rank == 12


def test_cells_that_interleave_without_a_radix_are_split_off() -> None:
    a = affinet.weights({"a": (15,)}).a
    plan = compiled(a[0:9:4] + a[3:12:4] + 2 * a[6:15:4] == 0, a[6] == a[1], one_by_one=65_536)
    assert all((count <= 1).all() for count in uses(plan).values())
    assert plan.rank == 4


def test_contradictions_carry_the_rules_they_were_found_in() -> None:
    with pytest.raises(Contradiction) as found:
        compiled(W.b[0] == 1, W.W.sum(1) == 1, W.W.sum(0) == 1)
    assert found.value.rules == (1, 2)
    with pytest.raises(Contradiction) as irregular:
        compiled(W.W.sum(1) == 1, W.b[0] == 1, W.b[0] == 2)
    assert set(irregular.value.rules) >= {1, 2}


@pytest.mark.parametrize("one_by_one", [0, 65_536])
@settings(max_examples=80)
@given(drawn=systems(contradictions=False))
def test_blocks_share_no_entry_and_add_up(one_by_one: int, drawn: Drawn) -> None:
    plan = compiled(*drawn.rules, one_by_one=one_by_one)
    dense = oracle_of(drawn.rules)
    assert feasible(dense)
    counts = uses(plan)
    written = np.concatenate([counts[p.name] for p in dense.layout.parameters])
    spoken_of = (dense.matrix != 0).any(axis=0)
    assert written.max(initial=0) <= 1
    assert (written[spoken_of] == 1).all()
    assert plan.size == spoken_of.sum() == sum(block.size for block in plan.blocks)
    assert plan.rank == dense.rank == sum(block.rank for block in plan.blocks)  # type: ignore[misc]
    assert {rule for block in plan.blocks for rule in block.rules} <= set(range(len(drawn.rules)))


def test_ties_become_classes_whichever_way_they_are_said() -> None:
    small = affinet.weights({"a": (4, 4)})
    together = compiled(small.a[0] == small.a[1], small.a[1] == small.a[2])
    apart = compiled(*(small.a[k, j] == small.a[k + 1, j] for k in range(2) for j in range(4)), one_by_one=65_536)
    for plan in (together, apart):
        assert (plan.rank, plan.size) == (8, 12)
    (ties,) = apart.blocks
    assert isinstance(ties, Ties)
    assert ties.classes.count == 4
