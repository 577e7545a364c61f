"""Findings against the dense oracle: what is said to be pinned, redundant or free is, and nothing else is."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings

import affinet
from affinet.analysis.determined import free_numbers
from affinet.analysis.findings import looking
from affinet.analysis.findings.equal_entries import Equal
from affinet.analysis.findings.nothing_left import NothingLeft
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.findings.pinned import Pinned
from affinet.analysis.findings.redundant import Redundant
from affinet.analysis.lookup import incidence
from affinet.blocks.interval import Interval
from affinet.plans.plan import Plan
from tests.contract.building import PATHS, oracle_of, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.oracle import Oracle, oracle
from tests.planning.random_rules import Drawn, systems

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")

ZERO = 1e-9


def tangent(truth: Oracle) -> np.ndarray:
    return np.eye(truth.layout.size) - truth.inverse @ truth.matrix


def pinned_columns(truth: Oracle) -> np.ndarray:
    """Entries that are determined, and neither spoken of alone nor tied to one that is."""
    numbers = np.abs(truth.matrix) > 1e-12
    alone = numbers[numbers.sum(axis=1) == 1].any(axis=0)
    ties = numbers[numbers.sum(axis=1) == 2]
    for _ in range(len(ties)):
        alone |= ties[(ties & alone).any(axis=1)].any(axis=0)
    return np.flatnonzero((np.diagonal(tangent(truth)) < ZERO) & ~alone)


def check_pins(plan: Plan, truth: Oracle) -> None:
    gone = {finding.weight for finding in plan.findings if isinstance(finding, NothingLeft)}
    columns = pinned_columns(truth)
    for parameter, start in zip(truth.layout.parameters, truth.layout.starts, strict=True):
        said = [one for one in plan.findings if isinstance(one, Pinned) and one.weight == parameter.name]
        mine = int(((columns >= start) & (columns < start + parameter.size)).sum())
        assert parameter.name in gone or sum(one.entries for one in said) == mine


def check_free_numbers(plan: Plan, truth: Oracle) -> None:
    free = free_numbers(plan.system, plan.blocks)
    for parameter, start in zip(truth.layout.parameters, truth.layout.starts, strict=True):
        own = np.linalg.svd(tangent(truth)[start : start + parameter.size], compute_uv=False)
        assert free[parameter].low <= int((own > 1e-7).sum()) <= free[parameter].high


def check_redundancy(plan: Plan, truth: Oracle) -> None:
    """What is told follows from the rules that are named; without all that is told nothing is redundant."""
    names = [rule.name for rule in plan.system.rules]
    bounds = np.cumsum([0, *(rule.equations for rule in plan.system.rules)])
    rows = {name: truth.matrix[bounds[k] : bounds[k + 1]] for k, name in enumerate(names)}
    told = {one.rule: one.others for one in plan.findings if isinstance(one, Redundant)}
    for rule, others in told.items():
        assert rank(rows, [*others, rule]) == rank(rows, others)
    left = [name for name in names if name not in told and rows[name].any()]
    assert rank(rows, left) == truth.rank
    assert all(rank(rows, [one for one in left if one != name]) < truth.rank for name in left)


def rank(rows: dict[str, np.ndarray], names: list[str] | tuple[str, ...]) -> int:
    return int(np.linalg.matrix_rank(np.concatenate([rows[name] for name in names]))) if names else 0


@settings(max_examples=60)
@given(systems(contradictions=False))
def test_random_rules(drawn: Drawn) -> None:
    plan = affinet.plan(drawn.rules)
    truth = oracle(plan.system)
    if truth.layout.size:
        check_pins(plan, truth)
        check_free_numbers(plan, truth)
        check_redundancy(plan, truth)
        assert not any(isinstance(finding, Overlooked) for finding in plan.findings)


SMALL = [case for case in CASES if case.rank and sum(map(prod, case.shapes.values())) <= 200]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_the_cases_of_the_contract(case: Case) -> None:
    plan, truth = plan_of(case.name, "equations"), oracle_of(case.name)
    check_free_numbers(plan, truth)
    if "scaled" not in case.name:
        check_redundancy(plan, truth)
    look = looking.Look(plan.system, plan.blocks)
    if "scaled" not in case.name and not any(look.defines_weights([rule]) for rule in range(len(plan.system.rules))):
        check_pins(plan, truth)


@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_what_is_said_to_be_equal_is(case: Case, path: str) -> None:
    truth, plan = oracle_of(case.name), plan_of(case.name, path)
    along = tangent(truth)
    for finding in plan.findings:
        if isinstance(finding, Equal) and finding.classes == 1 and "," not in finding.where:
            parameter = next(p for p in truth.layout.parameters if finding.where.startswith(f"{p.name}["))
            places = np.arange(parameter.size).reshape(parameter.shape)
            at = (
                truth.layout.start(parameter) + places[eval(f"np.s_{finding.where[len(parameter.name) :]}", {"np": np})]
            )
            assert np.linalg.matrix_rank(along[at.ravel()], tol=1e-7) == 1


def test_findings_are_the_same_for_a_plan_that_was_saved(tmp_path: object) -> None:
    w = affinet.weights({"a": (4, 6), "c": (5,)})
    rules = [affinet.families.linear([w.a, w.c], np.eye(24, 29), 1), w.c[0] == w.c[1], w.c[1] == w.c[0]]
    plan = affinet.plan(rules)
    plan.save(f"{tmp_path}/plan.safetensors")
    assert Plan.load(f"{tmp_path}/plan.safetensors").findings == plan.findings
    assert len(plan.findings) == 3
    assert isinstance(plan.rank, int)
    assert isinstance(free_numbers(plan.system, plan.blocks)[plan.parameters[0]], Interval)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_nothing_false_is_said_of_rules_that_are_not_written_out(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SMALL", 0)
    monkeypatch.setattr(incidence, "SMALL", 0)
    read = plan_of(case.name, "terms")
    plan, truth = Plan(read.system, read.blocks), oracle_of(case.name)
    said = sum(finding.entries for finding in plan.findings if isinstance(finding, Pinned))
    assert said <= len(pinned_columns(truth))
    told = {finding.rule for finding in plan.findings if isinstance(finding, Redundant)}
    bounds = np.cumsum([0, *(rule.equations for rule in plan.system.rules)])
    rows = {rule.name: truth.matrix[bounds[k] : bounds[k + 1]] for k, rule in enumerate(plan.system.rules)}
    assert rank(rows, [name for name in rows if name not in told]) == truth.rank
