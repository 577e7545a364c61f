"""Dense factors: ranks are NumPy's on equilibrated rows, however they are scaled, and sets are the same sets."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.planning.factors.factor import SVD_NUMBERS, Factor, factor, factor_shared
from affinet.system.tolerance import Tolerance

TOLERANCE = Tolerance()
SHAPES = [(1, 5), (3, 5), (5, 5), (7, 4), (40, 120), (120, 40)]


def low_rank(draw: np.random.Generator, r: int, n: int, rank: int) -> np.ndarray:
    return draw.standard_normal((r, rank)) @ draw.standard_normal((rank, n))


def factored(matrix: np.ndarray, rhs: np.ndarray) -> Factor:
    return factor(matrix, rhs, np.abs(rhs), TOLERANCE)


def equilibrated_rank(matrix: np.ndarray) -> int:
    norms = np.linalg.norm(matrix, axis=1)
    return int(np.linalg.matrix_rank(matrix / np.where(norms > 0, norms, 1)[:, None]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_factor_is_the_same_set(shape: tuple[int, int], lost: int) -> None:
    draw = np.random.default_rng(0)
    rank = max(1, min(shape) - lost)
    matrix = np.stack([low_rank(draw, *shape, rank) for _ in range(3)])
    y = draw.standard_normal((3, shape[1]))
    found = factored(matrix, np.einsum("krn,kn->kr", matrix, y))
    assert found.consistent.all()
    assert found.ambiguous == 0
    assert found.ranks.tolist() == [equilibrated_rank(m) for m in matrix] == [rank] * 3
    for k in range(3):
        basis = found.basis[k, :rank]
        np.testing.assert_allclose(basis @ basis.T, np.eye(rank), atol=1e-12)
        np.testing.assert_allclose(basis @ y[k], found.target[k, :rank], atol=1e-9)
        np.testing.assert_allclose(basis.T @ basis, np.linalg.pinv(matrix[k]) @ matrix[k], atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 5), (3, 5), (120, 140)], ids=str)
def test_ranks_of_one_batch_may_differ(shape: tuple[int, int]) -> None:
    draw, most = np.random.default_rng(1), min(shape)
    matrix = np.stack([low_rank(draw, *shape, rank) for rank in (most, most - 1, 1)])
    found = factored(matrix, np.zeros((3, shape[0])))
    assert found.ranks.tolist() == [most, most - 1, 1]
    assert not found.basis[2, 1:].any()
    assert not found.target[2, 1:].any()


@pytest.mark.parametrize("shape", [(4, 7), (70, 90)], ids=str)
def test_near_duplicate_rows_count(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(2)
    matrix = draw.standard_normal(shape)
    matrix[-1] = matrix[0] + 1e-9 * draw.standard_normal(shape[1])
    assert factored(matrix[None], np.zeros((1, shape[0]))).ranks.tolist() == [shape[0]]
    assert len(factor_shared(matrix, np.zeros((1, shape[0])), TOLERANCE).basis[0]) == shape[0]
    matrix[-1] = 3 * matrix[0]
    assert factored(matrix[None], np.zeros((1, shape[0]))).ranks.tolist() == [shape[0] - 1]


@pytest.mark.parametrize("shape", [(4, 7), (70, 90)], ids=str)
def test_the_size_of_a_row_says_nothing_about_its_rank(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(3)
    matrix = low_rank(draw, *shape, shape[0] - 1)
    scales = np.logspace(-8, 8, shape[0])[:, None]
    y = draw.standard_normal(shape[1])
    found = factored((scales * matrix)[None], (scales[:, 0] * (matrix @ y))[None])
    plain = factored(matrix[None], (matrix @ y)[None])
    assert found.ranks.tolist() == plain.ranks.tolist() == [shape[0] - 1]
    assert found.consistent.all()
    projections = [f.basis[0].T @ f.basis[0] for f in (found, plain)]
    np.testing.assert_allclose(*projections, atol=1e-8)


@pytest.mark.parametrize("shape", [(1, 4), (4, 7), (70, 90)], ids=str)
def test_what_cannot_hold_is_told_apart_by_component(shape: tuple[int, int]) -> None:
    draw, r = np.random.default_rng(4), shape[0]
    matrix = np.stack([low_rank(draw, *shape, max(1, r - 1)) for _ in range(3)])
    if r == 1:
        matrix[1] = 0.0
    rhs = np.einsum("krn,n->kr", matrix, draw.standard_normal(shape[1]))
    rhs[1, 0] += 1.0
    assert factored(matrix, rhs).consistent.tolist() == [True, False, True]


def test_ranks_close_to_the_tolerance_are_counted() -> None:
    matrix = np.stack([np.eye(2, 3)] * 3)
    matrix[1, 1] = matrix[1, 0] + [0, 1e-13, 0]
    assert factored(matrix, np.zeros((3, 2))).ambiguous == 1


@pytest.mark.parametrize("shape", [(2, 6), (3, 3), (5, 3), (40, 200)], ids=str)
def test_one_matrix_for_many_right_hand_sides(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(5)
    matrix = low_rank(draw, *shape, min(shape) - 1) if min(shape) > 2 else draw.standard_normal(shape)
    y = draw.standard_normal((4, shape[1]))
    rhs = y @ matrix.T
    rhs[2, 0] += 1.0 if equilibrated_rank(matrix) < shape[0] else 0.0
    found = factor_shared(matrix, rhs, TOLERANCE)
    rank = equilibrated_rank(matrix)
    assert found.ranks.tolist() == [rank]
    assert found.consistent.tolist() == [True, True, rank == shape[0], True]
    np.testing.assert_allclose(found.basis[0] @ found.basis[0].T, np.eye(rank), atol=1e-12)
    np.testing.assert_allclose((y @ found.basis[0].T)[[0, 1, 3]], found.target[[0, 1, 3]], atol=1e-9)


def test_both_ways_of_factoring_are_tested() -> None:
    sizes = [r * n for r, n in SHAPES]
    assert min(sizes) < SVD_NUMBERS < max(sizes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_entries_do_not_make_rows_said_in_float32_dependent(dtype: type) -> None:
    """Rows of numbers between 0 and 1 have one singular value far above the others; none of these is noise."""
    matrix = np.random.default_rng(0).random((40, 60_000)).astype(dtype)
    w = affinet.weights({"a": (60_000,)})
    rules = affinet.families.linear([w.a], np.vstack([matrix] * 4)[:100], np.full(100, 0.5))
    assert affinet.plan(rules).rank == 40
