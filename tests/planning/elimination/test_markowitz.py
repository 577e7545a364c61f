"""Elimination by the sparsest pivot: the rank and the contradictions of dense arithmetic, and where it stops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from affinet.planning.elimination import combinations, markowitz
from affinet.planning.elimination.markowitz import sparse_basis, sparse_circuits, sparse_dependencies
from affinet.system.tolerance import Tolerance
from tests.planning.elimination.test_peeling import scattered

TOLERANCE = Tolerance()


@pytest.mark.parametrize("small_enough", [0, 400, 1_000_000])
def test_a_large_core_is_eliminated_as_qr_would(small_enough: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markowitz, "SMALL_ENOUGH", small_enough)
    monkeypatch.setattr(markowitz, "CHECKED", 4)
    for seed in range(12):
        matrix = scattered(seed, 60, 40, repeated=15)
        rhs = matrix @ np.ones(40)
        kept, consistent = sparse_basis(matrix, rhs, np.abs(rhs), TOLERANCE, 1_000_000)
        assert consistent
        assert len(kept) == np.linalg.matrix_rank(matrix.toarray()) == np.linalg.matrix_rank(matrix.toarray()[kept])
        rhs[7] += 0.5
        if np.linalg.matrix_rank(np.delete(matrix.toarray(), 7, axis=0)) == len(kept):
            assert sparse_basis(matrix, rhs, np.abs(rhs), TOLERANCE, 1_000_000)[1] is False


@pytest.mark.parametrize("small_enough", [0, 1_000_000])
def test_what_cancels_is_spanned(small_enough: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markowitz, "SMALL_ENOUGH", small_enough)
    matrix = scattered(3, 60, 40, repeated=15)
    dense = matrix.toarray()
    found = sparse_dependencies(matrix, TOLERANCE, 60)
    assert found is not None
    multipliers = np.zeros((60, len(found)))
    for k, (rows, weights) in enumerate(found):
        multipliers[rows, k] = weights / np.abs(weights).max()
        assert np.linalg.matrix_rank(dense[rows]) == len(rows) - 1, "one of the rows is not needed"
    assert np.abs(dense.T @ multipliers).max() < 1e-12
    assert np.linalg.matrix_rank(multipliers) == len(found) == 60 - np.linalg.matrix_rank(dense)
    assert sparse_dependencies(matrix, TOLERANCE, len(found)) is not None
    assert sparse_dependencies(matrix, TOLERANCE, len(found) - 1) is None


def test_rows_that_fill_in_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markowitz, "SMALL_ENOUGH", 0)
    monkeypatch.setattr(combinations, "MOST_WORK", 10**4)
    matrix = scattered(0, 300, 250)
    rhs = np.ones(300)
    assert sparse_basis(matrix, rhs, rhs, TOLERANCE, 1_000_000) is None
    assert list(sparse_circuits(matrix, rhs, rhs, TOLERANCE)) == []
    assert sparse_dependencies(matrix, TOLERANCE, 300) is None
    work = markowitz._Elimination(matrix, rhs, rhs, TOLERANCE)
    assert list(work.run(10**9)) == []
    assert sum(map(bool, work.rows)) > 60, "it stopped where the rows began to fill in"


def test_small_pivots_are_passed_over() -> None:
    matrix = sparse.csr_array(np.array([[1e-9, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 2.0, 1.0], [0.0, 1.0, 0.0]]))
    work = markowitz._Elimination(matrix, np.zeros(4), np.zeros(4), TOLERANCE)
    assert work._choose_pivot(0) == 1
    assert work._choose_pivot(1) == 3
