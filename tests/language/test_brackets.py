"""Elements that brackets of others make add no equations, and nothing else is left out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

import affinet
from affinet import families, groups
from affinet.language.calculus.terms import Floats
from affinet.language.groups.brackets import MOST, generating_subset
from affinet.language.groups.elements import Mixes
from tests.language.counting import dense, free


def turns(n: int) -> list[Floats]:
    """All turns of n axes, one for each plane."""
    found = []
    for i, j in combinations(range(n), 2):
        X = np.zeros((n, n))
        X[i, j], X[j, i] = -1.0, 1.0
        found.append(X)
    return found


def lie(matrices: list[Floats]) -> list[Mixes]:
    return [Mixes(matrix, len(matrix), lie=True) for matrix in matrices]


@pytest.mark.parametrize(("n", "kept"), [(3, [0, 1]), (4, [0, 1, 2]), (5, [0, 1, 2, 3])])
def test_turns_about_one_axis_make_all_turns(n: int, kept: list[int]) -> None:
    assert generating_subset([lie(turns(n))]) == kept
    assert generating_subset([lie([families.kronecker_sum(X, 2) for X in turns(n)])]) == kept


def test_combinations_and_repetitions_add_nothing() -> None:
    X, Y, Z = turns(3)
    assert generating_subset([lie([X, 2 * X, Y, X - 3 * Y + Z])]) == [0, 2]
    assert generating_subset([lie([X, np.zeros((3, 3)), Y])]) == [0, 2]


def test_of_zeros_one_is_left() -> None:
    assert generating_subset([lie([np.zeros((2, 2))] * 4)]) == [0]
    w = affinet.weights({"w": (1, 1)}).w
    assert free(families.equivariant(w, groups.SO(5).T(0), groups.SO(5).T(0)), w) == 1
    assert free(families.equivariant(w[0], outputs=groups.SO(5).T(0)), w) == 1


def test_what_brackets_do_not_make_is_kept() -> None:
    X, Y, Z = turns(3)
    squeeze = np.diag([1.0, -1.0, 0.0])
    assert generating_subset([lie([X, Y, squeeze])]) == [0, 1, 2]
    assert generating_subset([lie([X, squeeze, np.eye(3)])]) == [0, 1, 2]
    assert generating_subset([lie([X, Y, Z + 1e-9 * squeeze])]) == [0, 1, 2]
    assert generating_subset([lie([X, Y])]) == [0, 1]


def test_a_bracket_counts_where_it_is_one_on_both_sides() -> None:
    X, Y, Z = turns(3)
    assert generating_subset([lie([X, Y, Z]), lie([X, Y, Z])]) == [0, 1]
    assert generating_subset([lie([X, Y, Z]), lie([X, Y, -Z])]) == [0, 1, 2]
    assert generating_subset([lie([X, Y, Z]), lie([np.zeros((1, 1))] * 3)]) == [0, 1]


def test_matrices_of_rank_one_in_one_column_space_are_told_apart() -> None:
    """What one random vector is mapped to has one dimension for all of them."""
    rows = [np.outer(np.eye(6)[0], np.eye(6)[k]) for k in range(1, 6)]
    assert generating_subset([lie(rows)]) == [0, 1, 2, 3, 4]


def test_an_algebra_too_large_to_follow_is_kept() -> None:
    draw = np.random.default_rng(0)
    large = [draw.standard_normal((9, 9)) for _ in range(4)]  # two of them make all 81 dimensions
    kept = generating_subset([lie(large)])
    assert kept == [0, 1, 2, 3]
    many = [np.outer(np.eye(30)[0], np.eye(30)[k]) for k in range(1, 30)]  # they commute
    assert generating_subset([lie(many)]) == list(range(29))
    assert len(many) > MOST


def test_the_equations_that_are_left_say_the_same() -> None:
    for power, dimension in ((3, 1), (4, 3)):
        elements = [families.kronecker_sum(X, power) for X in turns(3)]
        w = affinet.weights({"w": (3**power,)}).w
        rule = families.equivariant(w, outputs=elements, lie_algebra=True)
        assert rule.rows == 2 * 3**power
        assert free(rule, w) == dimension
        assert np.linalg.matrix_rank(dense(rule, w.size)) == np.linalg.matrix_rank(np.concatenate(elements))
        start = {"w": torch.from_numpy(np.random.default_rng(0).standard_normal(w.size))}
        found = affinet.plan(rule).projector(start).project(start)["w"].numpy()
        # The third is a bracket of the first two, which grows their rounding by the norm of each, 2 · power.
        assert np.abs(elements[2] @ found).max() <= 64 * (2 * power) * w.size * 2.0**-52


def test_elements_that_commute_but_for_rounding_make_nothing() -> None:
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    diagonal = [Q @ np.diag(row) @ Q.T for row in np.eye(4)]
    assert generating_subset([lie(diagonal)]) == [0, 1, 2, 3]
    assert generating_subset([lie([*diagonal[:3], diagonal[0] - diagonal[2], diagonal[3]])]) == [0, 1, 2, 4]


def test_numbers_that_were_single_precision_are_compared_as_said() -> None:
    """In float32 a basis that is not orthonormal is closed under brackets to 1e-7 alone: all three stay."""
    M = np.eye(3) + 0.3 * np.random.default_rng(0).standard_normal((3, 3))
    moved = [M @ X @ np.linalg.inv(M) for X in turns(3)]
    assert generating_subset([lie(moved)]) == [0, 1]
    assert generating_subset([lie([X.astype(np.float32).astype(np.float64) for X in moved])]) == [0, 1, 2]
