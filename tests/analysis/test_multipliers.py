"""Multipliers of random equations, many redundant: they make up the gradient, and are the smallest that do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from affinet.analysis import multipliers as module
from affinet.analysis.multipliers import multipliers
from affinet.system.limits import Limits
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance


def rows_of(matrix: np.ndarray) -> Rows:
    count = len(matrix)
    row, columns = np.nonzero(matrix)
    bounds = np.searchsorted(row, np.arange(count + 1))
    rules = np.zeros(count, np.int64)
    return Rows(bounds, columns, matrix[row, columns], np.zeros(count), rules, np.arange(count))


def rank(matrix: np.ndarray) -> int:
    """NumPy 1.26 knows none of an empty matrix."""
    return int(np.linalg.matrix_rank(matrix)) if matrix.size else 0


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Equations of low rank, each of a size of its own, and a gradient."""
    random = np.random.default_rng(seed)
    m, n = random.integers(2, 8), random.integers(2, 9)
    rank = random.integers(1, min(m, n) + 1)
    matrix = random.integers(-2, 3, (m, rank)) @ random.integers(-2, 3, (rank, n)).astype(float)
    matrix = matrix[np.abs(matrix).sum(axis=1) > 0] * 1.0
    return matrix * 10.0 ** random.uniform(-2, 2, (len(matrix), 1)), random.standard_normal(n)


def with_fixed_entries(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, and some entries are fixed by equations of their own, a few of them twice."""
    matrix, gradient = drawn(seed)
    random = np.random.default_rng(seed)
    fixed = random.integers(0, len(gradient), random.integers(1, 4))
    units = np.eye(len(gradient))[fixed] * random.uniform(0.1, 10.0, (len(fixed), 1))
    return random.permutation(np.concatenate([matrix, units])), gradient


@pytest.mark.parametrize("draw", [drawn, with_fixed_entries])
@pytest.mark.parametrize("large", [False, True])
def test_they_are_the_smallest_of_least_squares(
    large: bool, draw: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> None:
    limits = Limits(dense_numbers=0) if large else Limits()
    for seed in range(60):
        matrix, gradient = draw(seed)
        if not len(matrix):
            continue
        found = multipliers(rows_of(matrix), gradient, Tolerance(), limits)
        wanted = np.linalg.lstsq(matrix.T, gradient, rcond=1e-11)[0]
        np.testing.assert_allclose(found.values, wanted, atol=1e-7 * max(1.0, np.abs(wanted).max()))
        independent = [rank(np.delete(matrix, k, 0)) < rank(matrix) for k in range(len(matrix))]
        assert found.shared.tolist() == [not alone for alone in independent]


def test_equations_of_any_size_make_up_the_gradient_as_those_of_size_one_do() -> None:
    """A rule of 1e-100 beside one of 1e100 is an equation like any other; which ν is smallest nobody asks then."""
    for seed in range(60):
        matrix, gradient = drawn(seed)
        if not len(matrix):
            continue
        scale = 10.0 ** np.random.default_rng(seed).uniform(-120, 120, len(matrix))
        found = multipliers(rows_of(matrix * scale[:, None]), gradient, Tolerance(), Limits()).values
        wanted = matrix.T @ np.linalg.lstsq(matrix.T, gradient, rcond=1e-11)[0]
        np.testing.assert_allclose(matrix.T @ (found * scale), wanted, atol=1e-9)


def test_a_large_component_of_any_sizes_is_solved_too() -> None:
    matrix = np.array([[1.0, 1, 0], [0, 1, 1], [1, 2, 1]]) * np.array([[1e-9], [1.0], [1e6]])
    found = multipliers(rows_of(matrix), np.array([1.0, 3, 2]), Tolerance(), Limits(dense_numbers=0))
    assert matrix[2, 0] / matrix[0, 0] > module.MOST_SPREAD
    assert found.shared.all()
    np.testing.assert_allclose(matrix.T @ found.values, [1.0, 3, 2], atol=1e-9)
