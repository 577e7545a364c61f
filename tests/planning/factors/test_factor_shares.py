"""Systems of which some have rows that other equations have eaten up: what is left is judged at the size it had."""

from __future__ import annotations

import numpy as np

from affinet.planning.factors.factor import factor
from affinet.system.tolerance import Tolerance
from tests.kernels.bounds import of_equations


def test_every_system_keeps_its_own_right_hand_sides() -> None:
    draw = np.random.default_rng(0)
    matrix = draw.standard_normal((4, 2, 3))
    rhs = draw.standard_normal((4, 2))
    said = np.linalg.norm(matrix, axis=2)
    said[1, 0] *= 1e4  # a ten thousandth of this row is left
    found = factor(matrix, rhs, np.abs(rhs), Tolerance(), said)
    assert found.ranks.tolist() == [2, 2, 2, 2]
    assert found.consistent.all()
    nearest = np.zeros((4, 3))
    for _ in range(2):  # as projections are: what rows that are not quite orthonormal leave, the second pass finds
        nearest -= np.einsum("krn,kr->kn", found.basis, np.einsum("krn,kn->kr", found.basis, nearest) - found.target)
    gap = np.abs(np.einsum("krn,kn->kr", matrix, nearest) - rhs)
    assert (gap <= of_equations(matrix, nearest, rhs)).all()


def test_a_contradiction_in_what_is_left_of_a_row_is_one() -> None:
    matrix, said = np.array([[[1.0, 0.0], [1e-8, 0.0]]]), np.ones((1, 2))
    terms = np.ones((1, 2))
    assert factor(matrix, np.array([[1.0, 1e-8]]), terms, Tolerance(), said).consistent.all()
    assert not factor(matrix, np.array([[1.0, 2e-8]]), terms, Tolerance(), said).consistent.any()
    assert factor(matrix, np.array([[1.0, 1e-8 + 1e-16]]), terms, Tolerance(), said).consistent.all()
