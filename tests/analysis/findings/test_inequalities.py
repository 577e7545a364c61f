"""Findings about inequalities: rows without room, rows that follow, and almost no room, against linear programs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

import affinet
from affinet.analysis.findings.all_pairs import AllPairs
from affinet.analysis.findings.inequalities import (
    FollowingInequalities,
    HoldAsEquations,
    InequalityWithoutEffect,
    NearlyEmpty,
    following_rows,
    inequalities,
)
from affinet.analysis.findings.large_searches import LargeSearch
from affinet.analysis.lookup.row_programs import RowProgram, hold_as_equations
from tests.planning.inequalities.random_sets import RandomRules

W, B = (affinet.weights({"W": (5, 4), "b": (6,)})[name] for name in ("W", "b"))


def found(*rules: affinet.Constraint) -> list[str]:
    plan = affinet.plan(rules)
    return [str(finding) for finding in inequalities(plan.system, plan.blocks)]


def largest(program: RowProgram, row: int, others: np.ndarray) -> float:
    """The largest value of a row over the other rows, by linear programming."""
    matrix = program.matrix.toarray()
    sides, exact = others & ~program.is_equation, others & program.is_equation
    result = linprog(
        -matrix[row], A_ub=matrix[sides] if sides.any() else None, b_ub=program.rhs[sides] if sides.any() else None,
        A_eq=matrix[exact] if exact.any() else None, b_eq=program.rhs[exact] if exact.any() else None,
        bounds=(None, None), method="highs",
    )  # fmt: skip
    return {0: -float(result.fun or 0.0), 2: np.nan}.get(result.status, np.inf)


@pytest.mark.parametrize("seed", range(60))
def test_rows_without_room_and_rows_that_follow_are_those_of_linear_programs(seed: int) -> None:
    plan = affinet.plan(RandomRules(seed).rules())
    system = plan.system
    program = RowProgram.of(system, range(len(system.rules)))
    random = np.random.default_rng(seed)
    for rows in program.components():
        part = program.select(rows)
        tight, room = hold_as_equations(part, system.tolerance)
        every = np.ones(part.rows.count, bool)
        for row in np.flatnonzero(~part.is_equation):
            # A row has no room where its least value is its bound. The solver is exact to 1e-7.
            assert (row in tight) == (part.rhs[row] - _least(part, row) <= 1e-6)
        if room is None:
            continue
        part = part.as_equations(tight)
        following = following_rows(part, room, system, random)
        remaining = every.copy()
        remaining[following] = False
        for row in np.flatnonzero(~part.is_equation):
            others = remaining.copy()
            others[row] = False
            most = largest(part, row, others)
            # Rows without room are equations here, which the solver may find contradictory by their rounding.
            assert np.isnan(most) or (most <= part.rhs[row] + 1e-7) == (row in following)


def _least(part: RowProgram, row: int) -> float:
    """The least value of a row over all rows."""
    matrix = part.matrix.toarray()
    sides, exact = ~part.is_equation, part.is_equation
    result = linprog(
        matrix[row], A_ub=matrix[sides], b_ub=part.rhs[sides], A_eq=matrix[exact] if exact.any() else None,
        b_eq=part.rhs[exact] if exact.any() else None, bounds=(None, None), method="highs",
    )  # fmt: skip
    return -np.inf if result.status in (3, 4) else float(result.fun)


def test_inequalities_that_meet_hold_as_equations() -> None:
    (text,) = found((B <= 1).named("a"), (B[:2].flip(0) >= 1).named("b"), B[0] == B[1])
    assert text.startswith('rows 0, 1 of "a" and all 2 rows of "b" leave no room and hold only as equations')
    plan = affinet.plan([(B[:1] + B[1:2] <= 2).named("a"), (B >= 1).named("b")])
    (finding,) = [f for f in plan.findings if isinstance(f, HoldAsEquations)]
    assert finding.rows == (("a", "the inequality"), ("b", "rows 0, 1"))
    assert finding.where == "b[:2]"
    assert (plan.rows, plan.rank, plan.redundant, plan.inequalities) == (0, 2, 0, 7)
    assert "2 more independent equations" in str(plan)


def test_rows_that_follow_are_named_and_whole_rules_can_be_dropped() -> None:
    plan = affinet.plan([(B >= 0).named("low"), (B[2:4] >= -1).named("lower"), (B[4:] >= [1.0, -1.0]).named("mixed")])
    following = {f.rule: f for f in plan.findings if isinstance(f, FollowingInequalities)}
    assert following["lower"].count == following["lower"].out_of == 2
    assert (following["mixed"].rows, following["low"].rows) == ("row 1", "row 4")
    assert "can be dropped" in str(following["lower"])


def test_almost_no_room_is_reported() -> None:
    plan = affinet.plan([(B[0] + B[1] <= 1).named("top"), (B[0] >= 0.5).named("a"), (B[1] >= 0.499999).named("b")])
    (finding,) = [f for f in plan.findings if isinstance(f, NearlyEmpty)]
    assert set(finding.rules) == {"top", "a", "b"}
    assert "hardly any room" in str(finding)


def test_rules_without_effect_are_told_with_the_reason() -> None:
    plan = affinet.plan([(B[:0] >= 0).named("none"), (B <= np.inf).named("infinite"), B[0] == 1])
    told = {f.rule: f.reason for f in plan.findings if isinstance(f, InequalityWithoutEffect)}
    assert told == {
        "none": "it has no inequalities, as one of its axes has length 0",
        "infinite": "it holds for every weight",
    }


def test_simplex_and_pure_bounds_have_no_finding() -> None:
    assert not found(W >= 0, W.sum(dim=1) == 1)
    assert not found(W >= 0, W <= 1)
    big = affinet.weights({"L": (300, 400)})["L"]
    assert not affinet.plan([big >= 0, big <= 1]).findings
    assert not affinet.plan([big >= 0, big.sum(dim=1) == 1]).findings


def test_bounds_of_entries_in_order_are_no_finding() -> None:
    """All but the first and the last bound follow, and nobody writes them one by one."""
    order = affinet.families.monotone
    assert not affinet.plan([order(W, dim=1), affinet.between(-1, W, 1)]).findings
    assert not affinet.plan([order(B, increasing=False, gap=0.1), B >= 0]).findings
    (whole,) = affinet.plan([order(B), (B[2] >= 0).named("first"), (B[3] >= 0).named("second")]).findings
    assert "second" in str(whole)
    (other,) = affinet.plan([(B >= 0).named("low"), B[4:] >= [1.0, 2.0]]).findings
    assert isinstance(other, FollowingInequalities)
    assert other.rule == "low"


def test_weights_that_are_compared_in_all_pairs_are_told() -> None:
    w = affinet.weights({"bias": (4,), "gain": (4, 1), "W": (4, 3)})
    (finding,) = [f for f in affinet.plan((w.bias <= w.gain).named("order")).findings if isinstance(f, AllPairs)]
    assert finding == AllPairs("order", ((1, 4), (4, 1)), 16)
    assert str(finding).startswith(
        'the rule "order" compares all pairs: weights of the shapes (1, 4) and (4, 1) make 16'
    )
    for rule in (w.W <= w.gain, w.bias <= w.gain[:, 0], w.bias <= w.gain[0], w.W.sum(0) >= w.bias[0], w.W.T <= w.bias):
        assert not any(isinstance(f, AllPairs) for f in affinet.plan(rule).findings)


def test_large_sets_whose_rows_share_weights_are_told() -> None:
    """600 + 500 sums meet in pairs: of 1,100² products of rows half are not zero, and one step factors them all."""
    w = affinet.weights({"plan": (600, 500), "heights": (1_500,), "few": (30, 20)})
    plan = affinet.plan(affinet.families.transport(w["plan"], 1 / 600, 1 / 500))
    (finding,) = [f for f in plan.findings if isinstance(f, LargeSearch)]
    assert (finding.rows, finding.entries, len(finding.rules)) == (1_100, 300_000, 3)
    assert "1 polyhedron of 1,100 equations and 300,000 bounds" in str(finding)
    for rules in (
        affinet.families.convex(w["heights"]),  # neighbours alone share weights
        affinet.families.transport(w["few"], 1 / 30, 1 / 20),
        affinet.families.simplex(w["plan"], dim=1),
    ):
        assert not any(isinstance(f, LargeSearch) for f in affinet.plan(rules).findings)
