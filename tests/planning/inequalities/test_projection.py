"""Projections of planned inequalities against an independent solver over all rules at once."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.plans.plan import compiled
from affinet.system.limits import Limits
from affinet.system.system import System
from tests.planning.inequalities.dense_program import DenseProgram
from tests.planning.inequalities.random_sets import RandomRules

SEEDS = range(250)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_nearest_point_is_the_solvers(seed: int) -> None:
    generator = RandomRules(seed)
    rules = generator.rules()
    plan = compiled(System.of(rules))
    program = DenseProgram.of(plan.system)
    start = {name: 2.0 * generator.random.normal(size=value.shape) for name, value in generator.point.items()}
    start = {p.name: start[p.name] for p in plan.parameters}
    projected = plan.projector(start).project(start)
    w, expected = program.flat(projected), program.project(program.flat(start))
    # The solver's own point is feasible to about 1e-10; a nearer one at that violation differs by its square root times
    # the distance at most. Both are polished on their active sets, and agree to rounding where these agree.
    assert program.violation(w) <= 1e-12 * (1.0 + np.abs(w).max())
    np.testing.assert_allclose(w, expected, atol=1e-8)
    again = plan.projector(start).project(projected)
    np.testing.assert_allclose(program.flat(again), w, atol=1e-13)


@pytest.mark.parametrize("seed", range(100))
def test_every_entry_is_in_one_block(seed: int) -> None:
    generator = RandomRules(seed)
    plan = compiled(System.of(generator.rules()))
    columns = [block.entries.columns(np.arange(block.entries.count), plan.system.layout) for block in plan.blocks]
    every = np.concatenate(columns)
    assert len(np.unique(every)) == len(every)


@pytest.mark.parametrize("seed", range(200))
def test_rules_without_a_point_are_refused_and_no_others(seed: int) -> None:
    generator = RandomRules(seed)
    rules = generator.rules()
    # Move the hidden point for half of the rules, so that some systems have no point.
    generator.point = {
        name: value + generator.random.choice([0.0, 1.0], p=[0.8, 0.2]) for name, value in generator.point.items()
    }
    rules += generator.rules()
    program = DenseProgram.of(System.of(rules))
    if program.has_point():
        compiled(System.of(rules))
    else:
        with pytest.raises(affinet.InfeasibleError):
            compiled(System.of(rules))


@pytest.mark.parametrize("seed", range(150))
def test_both_roads_lead_to_the_same_point(seed: int) -> None:
    generator = RandomRules(seed)
    rules = generator.rules()
    start = {name: 2.0 * generator.random.normal(size=value.shape) for name, value in generator.point.items()}
    one_by_one, from_terms = (
        compiled(System.of(rules, limits=limits)) for limits in (Limits(), Limits(one_by_one=0, fixed_from=0))
    )
    start = {p.name: start[p.name] for p in one_by_one.parameters}
    first, second = (plan.projector(start).project(start) for plan in (one_by_one, from_terms))
    for name in start:
        np.testing.assert_allclose(first[name], second[name], atol=1e-12)
