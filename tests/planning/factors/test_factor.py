"""Dense factors: exact ranks, near-duplicate and badly scaled rows, contradictions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from affinet.planning.elimination.peeling import independent_rows
from affinet.planning.factors.factor import factor, factor_shared
from affinet.system import lapack
from affinet.system.limits import Limits
from affinet.system.tolerance import Tolerance
from tests.kernels.bounds import of_equations

TOLERANCE = Tolerance()
DRAW = np.random.default_rng(11)


def one(matrix: np.ndarray, rhs: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, bool]:
    found = factor(matrix[None], rhs[None], np.abs(rhs)[None], TOLERANCE)
    rank = int(found.ranks[0])
    return found.basis[0, :rank], found.target[0, :rank], rank, bool(found.consistent[0])


@pytest.mark.parametrize("shape", [(1, 7), (3, 7), (20, 30), (80, 120)])
def test_a_factor_says_the_same_equations(shape: tuple[int, int]) -> None:
    matrix, point = DRAW.standard_normal(shape), DRAW.standard_normal(shape[1])
    basis, target, rank, consistent = one(matrix, matrix @ point)
    assert (rank, consistent) == (shape[0], True)
    assert np.allclose(basis @ basis.T, np.eye(rank), atol=1e-13)
    assert np.allclose(basis @ point, target, atol=1e-12)
    assert np.allclose(matrix - matrix @ basis.T @ basis, 0, atol=1e-12)


def test_independent_equations_are_met_better_than_by_singular_vectors() -> None:
    """Of 200 systems: singular vectors spread their errors over all equations, and miss by some times as much."""
    misses: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(200):
        matrix = np.hstack([np.eye(8), DRAW.standard_normal((8, 4))])
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        rhs, start = DRAW.standard_normal(8), DRAW.standard_normal(12)
        u, s, vt = lapack.svd(matrix, full_matrices=False)
        for name, (basis, target) in {"ours": one(matrix, rhs)[:2], "theirs": (vt, u.T @ rhs / s)}.items():
            near = start
            for _ in range(3):
                near = near - basis.T @ (basis @ near - target)
            gap = np.abs(matrix.astype(np.longdouble) @ near - rhs)
            misses[name].append((gap / (np.abs(matrix) @ np.abs(near) + np.abs(rhs))).max())
            assert name == "theirs" or (gap <= of_equations(matrix, near, rhs)).all()
    assert np.median(misses["ours"]) < np.median(misses["theirs"]) / 2
    assert np.percentile(misses["ours"], 90) < np.percentile(misses["theirs"], 90) / 2


@pytest.mark.parametrize("width", [8, 400])
@pytest.mark.parametrize(("gap", "rank"), [(0.0, 3), (1e-9, 4), (1e-16, 3)])
def test_near_duplicate_rows(width: int, gap: float, rank: int) -> None:
    matrix = DRAW.standard_normal((3, width))
    matrix = np.vstack([matrix, matrix[0] + gap * DRAW.standard_normal(width)])
    assert one(matrix, np.zeros(4))[2] == rank
    assert one(matrix[[3, 1, 0, 2]], np.zeros(4))[2] == rank


def test_badly_scaled_rows_count_as_much_as_others() -> None:
    matrix = 10.0 ** np.array([[-12], [0], [12], [-9]]) * DRAW.standard_normal((4, 9))
    assert one(matrix, np.zeros(4))[2] == 4
    doubled = np.vstack([matrix, 1e9 * matrix[0]])
    assert one(doubled, np.zeros(5))[2] == 4


@pytest.mark.parametrize("width", [8, 2000])
def test_contradictions_are_told_from_rounding(width: int) -> None:
    matrix, point = DRAW.standard_normal((3, width)), DRAW.standard_normal(width)
    rhs = matrix @ point
    mixed, total = np.vstack([matrix, matrix.sum(axis=0)]), rhs.sum()
    assert one(mixed, np.append(rhs, total * (1 + 1e-15)))[3]
    assert not one(mixed, np.append(rhs, total + 1e-6))[3]


def test_a_batch_holds_components_of_several_ranks() -> None:
    matrix = DRAW.standard_normal((5, 3, 6))
    matrix[1, 2] = 2 * matrix[1, 0]
    matrix[3] = matrix[3, :1]
    rhs = np.einsum("krn,n->kr", matrix, np.ones(6))
    rhs[4, 0] += 1
    found = factor(matrix, rhs, np.abs(rhs), TOLERANCE)
    assert found.ranks.tolist() == [3, 2, 3, 1, 3]
    assert found.consistent.all()
    assert (found.basis[3, 1:] == 0).all()
    rhs[3, 0] += 1
    assert factor(matrix, rhs, np.abs(rhs), TOLERANCE).consistent.tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("width", [6, 5000])
def test_one_matrix_for_many_cells(width: int) -> None:
    matrix = DRAW.standard_normal((2, width))
    matrix = np.vstack([matrix, matrix.sum(axis=0)])
    points = DRAW.standard_normal((4, width))
    rhs = points @ matrix.T
    found = factor_shared(matrix, rhs, TOLERANCE)
    assert found.ranks.tolist() == [2]
    assert found.consistent.all()
    assert np.allclose(points @ found.basis[0].T, found.target, atol=1e-11)
    rhs[2, 1] += 1e-3
    assert factor_shared(matrix, rhs, TOLERANCE).consistent.tolist() == [True, True, False, True]


def test_peeling_leaves_rows_without_a_private_unknown() -> None:
    matrix = sparse.csr_array(np.array([[1.0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0]]))
    found = independent_rows(matrix, np.zeros(4), np.zeros(4), TOLERANCE, Limits())
    assert (found.rank.low, found.rank.high, found.exact, found.consistent) == (3, 3, True, True)
    assert set(found.rows.tolist()) in ({0, 1, 2}, {0, 1, 3})
    wrong = independent_rows(matrix, np.array([0, 0, 0, 1.0]), np.array([0, 0, 0, 1.0]), TOLERANCE, Limits())
    assert not wrong.consistent


def test_a_core_too_large_to_factor_has_bounds() -> None:
    cycle = sparse.csr_array(np.eye(9) + np.roll(np.eye(9), 1, axis=1))
    bounded = independent_rows(cycle, np.zeros(9), np.zeros(9), TOLERANCE, Limits(largest_core=5, most_eliminated=0))
    assert (bounded.rank.low, bounded.rank.high, bounded.exact) == (8, 9, False)
    assert bounded.rows.tolist() == list(range(9))


@pytest.mark.parametrize("last", [1.0, 1e-6, 0.0])
def test_homogeneous_equations_of_every_entry_make_all_zero(last: float) -> None:
    """As many as 120 over 40 entries, the last of which is told by a small coefficient, or by none."""
    matrix = DRAW.standard_normal((120, 40))
    matrix[:, 39] *= last
    matrix[:, 38] = matrix[:, 37] if not last else matrix[:, 38]
    basis, target, rank, consistent = one(matrix, np.zeros(120))
    assert (rank, consistent) == (40 if last else 38, True)
    assert not target.any()
    assert np.allclose(matrix - matrix @ basis.T @ basis, 0, atol=1e-12)
    if last:
        assert np.array_equal(basis, np.eye(40))
