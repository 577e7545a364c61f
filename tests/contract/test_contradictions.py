"""Law 10: contradictory rules never train, and the error names an irreducible set of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

import affinet
from affinet.system.system import System
from tests.contract.building import PATHS, model_of, plain, plan_along, rules_of
from tests.contract.case import Case
from tests.contract.cases import CASES

CONSTRAINED = [case for case in CASES if case.rank and "large" not in case.tags]


def assert_irreducible(
    rules: Sequence[affinet.Constraint], error: affinet.InfeasibleError, path: str = "equations"
) -> None:
    """All named rules together contradict; without any one of them the others hold. The equations prove it."""
    named = {rule.name: rule for rule in rules}
    assert error.minimal
    assert error.rules
    chosen = [named[name] for name in error.rules]
    with pytest.raises(affinet.InfeasibleError, match="cannot hold"):
        plan_along(path, chosen)
    for left_out in chosen:
        plan_along(path, [rule for rule in chosen if rule is not left_out])
    assert {name for name, _ in error.equations} == set(error.rules)
    system = System.of(chosen)
    rows = system.rows(range(len(chosen)))
    number = {rule.name: k for k, rule in enumerate(system.rules)}
    owners = zip(rows.rule.tolist(), rows.index.tolist(), strict=True)
    places = {owner: k for k, owner in enumerate(owners)}
    taken = rows.select(np.array([places[number[name], index] for name, index in error.equations]))
    matrix = taken.matrix(system.layout.size).toarray()
    matrix = matrix[:, matrix.any(axis=0)]
    rank = np.linalg.matrix_rank(matrix) if matrix.size else 0  # NumPy 1.26 knows no rank of an empty matrix
    assert rank == len(error.equations) - 1, "not every equation is needed"
    weights = np.array(error.multipliers)
    assert weights.all()
    assert (np.abs(weights @ matrix) <= 1e-6 * (np.abs(weights) @ np.abs(matrix))).all()
    assert weights @ taken.rhs > 0


def opposed(case: Case) -> list[affinet.Constraint]:
    """The rules of a case under names of their own, and a last one that no weights reconcile with them."""
    rules = [rule.named(f"rule {k}") for k, rule in enumerate(rules_of(case))]
    whole = max(rules, key=lambda rule: rule.rows).expression
    first = whole.flatten()
    coefficients = np.random.default_rng(0).integers(1, 4, whole.size)
    return [*rules, (coefficients @ first == 1).named("the opposite")]


@pytest.mark.parametrize("case", CONSTRAINED, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_a_rule_against_the_others_is_found_and_named(case: Case, path: str) -> None:
    rules = opposed(case)
    with pytest.raises(affinet.InfeasibleError, match="cannot hold") as found:
        plan_along(path, rules)
    assert "the opposite" in found.value.rules
    assert_irreducible(rules, found.value, path)


@pytest.mark.parametrize("case", CONSTRAINED, ids=str)
def test_contradictory_rules_change_no_weight(case: Case) -> None:
    model = model_of(case)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = plain(dict(model.named_parameters()))
    with pytest.raises(affinet.InfeasibleError, match="the opposite"):
        affinet.project(model, optimizer, opposed(case))
    after = plain(dict(model.named_parameters()))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    affinet.project(model, optimizer, rules_of(case))
