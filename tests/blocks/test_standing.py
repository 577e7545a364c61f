"""How an entry stands in its block, against the dense oracle: freedom, value, class, place; and its equations."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.analysis.lookup import incidence as incidence_module
from affinet.analysis.lookup.incidence import Incidence
from affinet.blocks import commuting, sparse
from affinet.blocks.dense import Dense
from affinet.blocks.standing import standing
from affinet.system.system import System
from tests.contract.building import PATHS, oracle_of, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES

WITH_WEIGHTS = [case for case in CASES if case.rank + case.free]
SOME = 12

each_case = pytest.mark.parametrize("case", WITH_WEIGHTS, ids=str)
each_path = pytest.mark.parametrize("path", PATHS)


def some_columns(case: Case) -> list[int]:
    size = oracle_of(case.name).layout.size
    return np.random.default_rng(0).permutation(size)[:SOME].tolist()


@each_case
@each_path
def test_freedom_value_and_class(case: Case, path: str) -> None:
    truth, plan = oracle_of(case.name), plan_of(case.name, path)
    tangent = np.eye(truth.layout.size) - truth.inverse @ truth.matrix
    point = truth.inverse @ truth.rhs
    for column in some_columns(case):
        found = standing(plan.blocks, column, truth.layout)
        if found is None:
            assert tangent[column, column] > 1 - 1e-9
            continue
        assert found.block.entries.columns(np.array([found.place]), truth.layout) == [column]
        assert found.block.freedom(found.place) == pytest.approx(tangent[column, column], abs=1e-7)
        value = found.block.value(found.place)
        if value is not None:
            assert tangent[column, column] < 1e-9
            assert value == pytest.approx(point[column], abs=1e-7)
        members, root = found.mates(truth.layout)
        assert column in members
        assert root is None or root in members
        own = tangent[column]
        for member in members[:10]:
            other = tangent[member]
            assert (own @ own) * (other @ other) - (own @ other) ** 2 < 1e-8


@each_case
@each_path
def test_equations_of_an_entry(case: Case, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if path == "terms":
        monkeypatch.setattr(incidence_module, "SMALL", 0)
    truth, system = oracle_of(case.name), plan_of(case.name, path).system
    incidence = Incidence(system)
    bounds = np.cumsum([0, *(rule.equations for rule in system.rules)])
    for column in some_columns(case):
        keys = incidence.of(column)
        assert [int(bounds[rule] + index) for rule, index in keys] == np.flatnonzero(truth.matrix[:, column]).tolist()
        for rule, index in keys[:2]:
            equation, number = incidence.equation(rule, index), bounds[rule] + index
            row = np.zeros(truth.layout.size)
            row[equation.columns] = equation.values
            np.testing.assert_allclose(row / truth.scale[number], truth.matrix[number], atol=1e-12)
            assert equation.rhs / truth.scale[number] == pytest.approx(truth.rhs[number], abs=1e-12)


@pytest.mark.parametrize(
    "rule",
    [
        lambda w: w.a.cumsum(1) == 1,
        lambda w: w.a[[3, 0, 3], ::2] == w.b[None, :3],
        lambda w: w.a.flip(0).roll(2, 1) == w.a[1],
        lambda w: families.toeplitz(w.a),
        lambda w: w.a.reshape(3, 8)[:, np.array([True, False] * 4)].sum(1) == w.b.sum(),
        lambda w: np.arange(12.0).reshape(3, 4) @ w.a @ np.ones((6, 2)) == 1,
    ],
)
def test_equations_are_found_through_every_kind_of_loop(rule: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incidence_module, "SMALL", 0)
    system = System.of(rule(affinet.weights({"a": (4, 6), "b": (6,)})))  # type: ignore[operator]
    rows = system.rows([0])
    matrix = rows.matrix(system.layout.size).toarray()
    incidence = Incidence(system)
    for column in range(system.layout.size):
        assert [index for _, index in incidence.of(column)] == np.flatnonzero(matrix[:, column]).tolist()


def test_what_would_take_long_is_not_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commuting, "MOST_IN_FULL", 0)
    monkeypatch.setattr(sparse, "MOST_SOLVED", 0)
    kinds = set()
    for case in WITH_WEIGHTS:
        plan = plan_of(case.name, "terms")
        for block in plan.blocks:
            if block.freedom(0) is None:
                kinds.add(type(block).__name__)
                entry = plan.system.layout.describe(
                    int(block.entries.columns(np.zeros(1, np.int64), plan.system.layout)[0])
                )
                assert "free:" not in str(affinet.explain(plan, entry))
    assert "Sparse" in kinds


def test_entries_behind_a_weight_of_eight_billion_are_named() -> None:
    """Places within a weight fit 32 bits, columns of the whole system do not."""
    w, draw = affinet.weights({"a": (90_000, 90_000), "b": (300, 300), "c": (50,)}), np.random.default_rng(0)
    entries = draw.permutation(90_000)[:20_000]
    A = draw.standard_normal((100, 20_050))
    plan = affinet.plan([families.linear([w.b.flatten()[entries], w.c], A, 1), w.a.sum(1) == 1, w.b[0, :3].sum() == 0])
    irregular = next(block for block in plan.blocks if isinstance(block, Dense))
    found = irregular.entries.columns(np.arange(irregular.size), plan.system.layout)
    assert set(found) >= set(8_100_000_000 + entries) | set(range(8_100_090_000, 8_100_090_050))
    assert "in 100 equations" in str(affinet.explain(plan, "c[7]"))
    assert isinstance(plan.findings, tuple)
