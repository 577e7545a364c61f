"""Equations that follow from others hold where what they leave may be rounding of their coefficients, and not else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from affinet.language.calculus.terms import Floats
from affinet.planning.factors import agreement
from affinet.planning.factors.agreement import hold, mismatch, within_rounding
from affinet.system.tolerance import Tolerance

SINGLE = float(np.finfo(np.float32).eps)


def nearly_redundant(apart: float) -> tuple[Floats, Floats]:
    """Rows of norm one in float32, of which the last two follow from the first two; and a point."""
    dice = np.random.default_rng(0)
    rows = np.ones((2, 12)) + apart * dice.standard_normal((2, 12))
    rows = np.concatenate([rows, [[2.0, -1.0], [-3.0, 5.0]] @ rows])
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    return rows, dice.standard_normal(12)


def held(matrix: Floats, rhs: Floats, tolerance: Tolerance) -> list[bool]:
    basis = np.linalg.svd(matrix, full_matrices=False)[2][:2]
    target = np.linalg.lstsq(matrix @ basis.T, rhs.T, rcond=None)[0].T
    return hold(matrix, basis, target, rhs, np.abs(rhs), tolerance).tolist()


def test_coefficients_known_to_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, point = nearly_redundant(1e-3)
    rhs = (matrix @ point)[None]
    assert held(matrix, rhs, Tolerance(epsilon=SINGLE)) == [True]
    assert held(matrix, rhs, Tolerance(epsilon=1e-12)) == [False], "the third and fourth row were rounded"
    off = rhs + np.array([0, 0, 0.1, 0])
    assert held(matrix, off, Tolerance(epsilon=SINGLE)) == [False]
    both = np.concatenate([rhs, off, rhs])
    assert held(matrix, both, Tolerance(epsilon=SINGLE)) == [True, False, True]
    monkeypatch.setattr(agreement, "AT_A_TIME", 1)
    assert held(matrix, both, Tolerance(epsilon=SINGLE)) == [True, False, False], "none is looked at behind one"


def test_a_gap_is_measured_by_its_right_hand_sides_and_by_the_solution() -> None:
    gap, terms = np.array([[0.0, 1e-13], [0.0, 1e-13], [0.0, 1e-10]]), np.ones((3, 2))
    near, far = np.array([1.0, 0.0]), np.array([1.0, 1e3])
    assert within_rounding(gap, terms, np.stack([near, near, near]), Tolerance()).tolist() == [True, True, False]
    assert within_rounding(gap, terms, np.stack([near, near, far]), Tolerance()).tolist() == [True, True, True]


def test_what_rows_leave_that_are_combinations_of_others() -> None:
    matrix, point = nearly_redundant(0.3)
    upper, order = scipy.linalg.qr(matrix.T, mode="r", pivoting=True)
    first, rest = order[:2], order[2:]
    combination = scipy.linalg.solve_triangular(upper[:2, :2], upper[:2, 2:])
    rhs = matrix @ point
    rhs[rest[1]] += 0.25
    gap, size, length = mismatch(matrix, rhs, np.abs(rhs), upper[:2, :2], combination, first, rest)
    shortest = np.linalg.lstsq(matrix[first], rhs[first], rcond=None)[0]
    terms = np.abs(rhs) + np.abs(matrix) @ np.abs(shortest)
    np.testing.assert_allclose(gap, [0.0, 0.25], atol=1e-6)
    np.testing.assert_allclose(size, terms[rest] + np.abs(combination).T @ terms[first], rtol=1e-9)
    assert abs(length - np.linalg.norm(shortest)) < 1e-9 * length
