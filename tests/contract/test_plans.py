"""What a plan says of every case: rank, free numbers, redundancy, and the same plan however the rules were said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import affinet
from affinet import families
from affinet.system.system import System
from tests.contract.building import PATHS, model_of, oracle_of, plan_along, plan_of, rules_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.comparing import equal_plans

MOST_DENSE = 65_536
"""Numbers up to which a rule is read one equation at a time; a larger dense A is read from its terms."""

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_path = pytest.mark.parametrize("path", PATHS)


def test_the_table_names_every_case_once() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 30


@each_case
def test_the_table_agrees_with_the_oracle(case: Case) -> None:
    oracle = oracle_of(case.name)
    touched = int((oracle.matrix != 0).any(axis=0).sum())
    assert (oracle.rank, touched - oracle.rank) == (case.rank, case.free)


@each_case
@each_path
def test_rank_and_free_numbers(case: Case, path: str) -> None:
    plan = plan_of(case.name, path)
    assert (plan.rank, plan.free, plan.size) == (case.rank, case.free, case.rank + case.free)
    assert plan.rows == len(oracle_of(case.name).rhs)
    assert plan.redundant == plan.rows - case.rank


@each_case
@each_path
def test_no_two_blocks_share_an_entry_and_their_ranks_add_up(case: Case, path: str) -> None:
    blocks = plan_of(case.name, path).blocks
    assert sum(block.size for block in blocks) == case.rank + case.free
    assert sum(block.rank for block in blocks) == case.rank
    assert all(block.rules for block in blocks)


@each_case
@each_path
def test_the_printed_plan_names_every_rule(case: Case, path: str) -> None:
    plan = plan_of(case.name, path)
    shown = str(plan)
    if not plan.system.rules:
        assert shown == "There are no rules: all weights are free."
        return
    for rule in plan.system.rules:
        assert " ".join(rule.name.split())[:40] in shown
    assert f"rank {case.rank:,} " in shown
    assert f"{case.free:,} of these stay free" in shown


@each_case
def test_plans_are_made_on_the_meta_device_too(case: Case) -> None:
    real = plan_of(case.name, "equations")
    weights = affinet.weights(model_of(case, device="meta"))
    assert equal_plans(affinet.plan(case.rules(weights)), real) == ""


@pytest.mark.parametrize("case", [case for case in CASES if case.texts], ids=str)
@each_path
def test_text_gives_the_same_plan(case: Case, path: str) -> None:
    weights = affinet.weights(model_of(case))
    said = plan_along(path, [affinet.parse(text, weights) for text in case.texts])
    assert equal_plans(said, plan_of(case.name, path)) == ""


@pytest.mark.parametrize("case", [case for case in CASES if case.texts], ids=str)
def test_a_rule_prints_as_text_that_says_it(case: Case) -> None:
    weights = affinet.weights(model_of(case))
    said = affinet.plan([affinet.parse(rule.text, weights) for rule in rules_of(case)])
    assert equal_plans(said, plan_of(case.name, "equations")) == ""


def linear_rules(case: Case, *, dense: bool) -> list[affinet.Constraint]:
    """Every rule as its raw matrix over all the weights of the plan."""
    system = plan_of(case.name, "equations").system
    weights = affinet.weights(model_of(case))
    listed = [weights[parameter.name] for parameter in system.layout.parameters]
    rules = []
    for number in range(len(system.rules)):
        rows = system.rows([number])
        matrix = rows.matrix(system.layout.size)
        rules.append(families.linear(listed, matrix.toarray() if dense else sparse.coo_array(matrix), rows.rhs))
    return rules


def _fits(case: Case) -> bool:
    system = System.of(rules_of(case))
    return all(rule.equations * system.layout.size <= MOST_DENSE for rule in system.rules)


@pytest.mark.parametrize("case", [case for case in CASES if _fits(case)], ids=str)
def test_a_dense_matrix_gives_the_same_plan(case: Case) -> None:
    if not plan_of(case.name, "equations").system.layout.parameters:
        assert case.rank == 0
        return
    assert equal_plans(affinet.plan(linear_rules(case, dense=True)), plan_of(case.name, "equations")) == ""


@each_case
def test_a_sparse_matrix_gives_the_same_plan(case: Case) -> None:
    if not plan_of(case.name, "equations").system.layout.parameters:
        assert case.rank == 0
        return
    assert equal_plans(affinet.plan(linear_rules(case, dense=False)), plan_of(case.name, "equations")) == ""


def test_different_plans_are_told_apart() -> None:
    weights = affinet.weights({"a": (3, 4)})
    one, other = (affinet.plan(weights.a.sum(dim=1) == total) for total in (1, np.array([1, 1, 2])))
    assert equal_plans(one, one) == ""
    assert "target" in equal_plans(one, other)
    assert "blocks" in equal_plans(one, affinet.plan(weights.a[0] == weights.a[1]))
