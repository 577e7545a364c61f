"""No false alarm: rules that hold by construction are planned, whatever they are scaled by."""

from __future__ import annotations

import pytest

from tests.properties.consistent import BEYOND, PROMISED, Family, consistent, refused

COUNT = 40


@pytest.mark.parametrize("family", PROMISED, ids=str)
def test_rules_that_hold_together_are_never_refused(family: Family) -> None:
    made = [consistent(seed, family) for seed in range(COUNT)]
    assert {seed: why for seed, system in enumerate(made) if (why := refused(system))} == {}
    assert sum(system.rank < sum(rule.rows for rule in system.rules) for system in made) > COUNT / 3, "redundant ones"


@pytest.mark.parametrize("family", BEYOND, ids=str)
def test_where_ranks_cannot_be_told_few_are_refused_and_nothing_else_happens(family: Family) -> None:
    assert sum(bool(refused(consistent(seed, family))) for seed in range(COUNT)) <= COUNT / 5
