"""Circuits among rows given as numbers, by the stage that finds them; by their certificate none has a row too many."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from affinet.analysis.diagnosis import searching
from affinet.analysis.diagnosis.circuit import Circuit, certified
from affinet.analysis.diagnosis.searching import find_circuit
from affinet.planning.elimination import combinations, markowitz
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

TOLERANCE = Tolerance()


def rows_of(matrix: object, rhs: object) -> Rows:
    held = sparse.csr_array(matrix).astype(float)
    held.sort_indices()
    count = held.shape[0]
    return Rows(
        held.indptr.astype(np.int64),
        held.indices.astype(np.int64),
        held.data,
        np.asarray(rhs, float),
        np.zeros(count, np.int64),
        np.arange(count),
    )


def assert_circuit(rows: Rows, found: Circuit | None) -> Circuit:
    """The multipliers cancel and have no zero; without one of its rows the others are independent."""
    assert found is not None
    assert found.minimal
    width = int(rows.columns.max(initial=0)) + 1
    taken = rows.select(found.rows)
    dense = taken.matrix(width).toarray()
    assert np.abs(found.multipliers).min() > 0
    assert np.abs(found.multipliers).max() == 1.0
    assert np.abs(found.multipliers @ dense).max() <= 1e-12 * np.abs(dense).max()
    assert found.multipliers @ taken.rhs == pytest.approx(found.gap)
    assert found.gap > 0
    assert np.linalg.matrix_rank(dense) == len(found.rows) - 1
    return found


def test_rows_that_hold_have_no_circuit() -> None:
    draw = np.random.default_rng(0)
    matrix = draw.integers(-2, 3, (30, 12)).astype(float)
    assert find_circuit(rows_of(matrix, matrix @ np.arange(12.0)), TOLERANCE) is None
    assert find_circuit(rows_of(np.zeros((3, 0)), np.zeros(3)), TOLERANCE) is None


def test_a_row_without_entries_is_its_own() -> None:
    found = assert_circuit(rows := rows_of([[1, 1], [0, 0], [0, 0]], [1, 0, 2]), find_circuit(rows, TOLERANCE))
    assert (found.rows.tolist(), found.gap) == ([2], 2.0)


TIES = {
    "fixed twice": ([[0, 2, 0], [0, -1, 0]], [2, 3], [0, 1], False),
    "a tie between fixed entries": ([[1, 0, 0], [1, -1, 0], [0, 1, 0]], [1, 0, 2], [0, 1, 2], False),
    "parallel ties": ([[1, -1, 0], [2, -2, 0]], [0, 1], [0, 1], False),
    "a triangle": ([[1, -1, 0], [0, 1, -1], [1, 0, -1]], [1, 1, 3], None, False),
    "ratios around": ([[1, -2, 0], [0, 1, -3], [1, 0, -6]], [0, 0, 1], None, False),
    # A second ratio on a cycle gives its entries a value, which the fixed entry is against.
    "two ratios and a value": ([[1, -2, 0], [1, -3, 0], [1, 0, 0]], [0, 0, 1], None, True),
    "two ratios, a stem and a value": ([[1, -2, 0], [1, -3, 0], [0, 1, -1], [0, 0, 1]], [0, 0, 0, 1], None, True),
}


@pytest.mark.parametrize(("matrix", "rhs", "rows", "peeled"), TIES.values(), ids=TIES)
@pytest.mark.parametrize("factor", [1.0, 1e8, 1e-8])
def test_ties(matrix: list[list[int]], rhs: list[int], rows: list[int] | None, peeled: bool, factor: float) -> None:
    given = rows_of(factor * np.array(matrix), factor * np.array(rhs))
    found = assert_circuit(given, find_circuit(given, TOLERANCE))
    assert found.path is not peeled
    assert sorted(found.rows.tolist()) == (list(range(len(rhs))) if rows is None else rows)


def test_chains_of_ratios_beyond_float64_are_no_crash() -> None:
    n = 2000
    matrix = sparse.diags_array([np.ones(n), -3.0 * np.ones(n)], offsets=[0, 1], shape=(n, n + 1)).tolil()
    ends = sparse.lil_array((2, n + 1))
    ends[0, 0], ends[1, n] = 1, 1
    rows = rows_of(sparse.vstack([matrix, ends]), [*np.zeros(n), 0, 1])
    # Multipliers of 3 to the two thousandth: the far ends count for nothing, and no certificate is left.
    assert find_circuit(rows, TOLERANCE) is None


@pytest.mark.parametrize("stage", ["dense", "sparse", "sparse to the end"])
@pytest.mark.parametrize("seed", range(8))
def test_every_stage_finds_a_circuit(stage: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if stage != "dense":
        monkeypatch.setattr(searching, "SMALL_CORE", 0)
        monkeypatch.setattr(searching, "DENSE", 0)
    if stage == "sparse to the end":
        monkeypatch.setattr(markowitz, "SMALL_ENOUGH", 0)
        monkeypatch.setattr(markowitz, "FILLING", 10**9)
    draw = np.random.default_rng(seed)
    matrix = np.where(draw.random((80, 50)) < 0.06, draw.integers(1, 4, (80, 50)), 0).astype(float)
    rhs = matrix @ draw.integers(-3, 4, 50)
    chosen = draw.choice(80, 7, replace=False)
    rows = rows_of(np.concatenate([matrix, matrix[chosen].sum(axis=0)[None]]), [*rhs, rhs[chosen].sum() + 1])
    assert_circuit(rows, find_circuit(rows, TOLERANCE))


def dense(count: int, entries: int) -> Rows:
    draw = np.random.default_rng(0)
    matrix = draw.standard_normal((count, entries))
    rhs = matrix @ draw.standard_normal(entries)
    rhs[0] += 1
    return rows_of(matrix, rhs)


def test_a_core_that_is_too_large_to_factor_says_that_its_circuit_is_not_minimal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(searching, "SMALL_CORE", 0)
    monkeypatch.setattr(combinations, "MOST_WORK", 0)
    found = find_circuit(rows := dense(60, 20), TOLERANCE)
    assert found is not None
    assert not found.minimal
    assert len(found.rows) > 21
    assert np.abs(found.multipliers @ rows.select(found.rows).matrix(20)).max() < 1e-9


def test_least_squares_that_does_not_end_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "SMALL_CORE", 0)
    monkeypatch.setattr(combinations, "MOST_WORK", 0)
    monkeypatch.setattr(searching, "MOST_SWEEPS", 1)
    assert find_circuit(dense(60, 20), TOLERANCE) is None


def test_certificates_are_checked() -> None:
    rows = rows_of([[1, 1], [1, 1], [1, 2]], [1, 2, 0])
    assert certified(rows, np.array([0, 1]), np.array([1.0, -1.0]), TOLERANCE) is not None
    assert certified(rows, np.array([0, 2]), np.array([1.0, -1.0]), TOLERANCE) is None
    assert certified(rows, np.array([0, 1]), np.array([2.0, -1.0]), TOLERANCE) is None
    assert certified(rows, np.array([0, 1]), np.zeros(2), TOLERANCE) is None
    assert certified(rows, np.array([0, 1]), np.array([np.inf, 1.0]), TOLERANCE) is None
    near = rows_of([[1, 1], [1, 1]], [1, 1 + 1e-9])
    assert certified(near, np.array([0, 1]), np.array([1.0, -1.0]), Tolerance(1e-7)) is None


def test_multipliers_become_the_fractions_that_they_are() -> None:
    rows = rows_of([[3, 0], [0, 7], [1, 1]], [0, 0, 1])
    found = certified(rows, np.arange(3), np.array([1 / 3, 1 / 7, -1]) * (1 + 1e-12), TOLERANCE)
    assert found is not None
    assert found.multipliers.tolist() == [-1 / 3, -1 / 7, 1.0]
    assert found.gap == 1.0
