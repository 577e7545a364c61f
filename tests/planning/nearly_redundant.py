"""Systems of integers whose equations almost follow from one another, said in several forms.

All numbers are integers that float64 holds, so that the truth is exact: the right-hand sides are those of integer
weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

import affinet
from affinet import families
from affinet.language.calculus.terms import Integers

SYSTEMS = int(os.environ.get("AFFINET_NEARLY_REDUNDANT", "25"))
"""How many of them a test tries."""

Rules = Callable[[Integers, Integers, int], Sequence[affinet.Constraint]]
"""From equations, a point that they hold at, and by how much the last right-hand side is off."""


def weights(n: int) -> affinet.Weights:
    return affinet.weights({"v": (n,), "s": (n, n)})


def off(rhs: Integers, by: int) -> Integers:
    changed = rhs.copy()
    changed[(-1,) * rhs.ndim] += by
    return changed


def one_rule(matrix: Integers, point: Integers, by: int) -> Sequence[affinet.Constraint]:
    w = weights(len(point))
    return [families.linear([w.v], matrix * 1.0, off(matrix @ point[0], by) * 1.0)]


def a_rule_an_equation(matrix: Integers, point: Integers, by: int) -> Sequence[affinet.Constraint]:
    w, rhs = weights(len(point)), off(matrix @ point[0], by)
    return [families.linear([w.v], row[None] * 1.0, [float(b)]) for row, b in zip(matrix, rhs, strict=True)]


def every_column(matrix: Integers, point: Integers, by: int) -> Sequence[affinet.Constraint]:
    return [matrix * 1.0 @ weights(len(point)).s == off(matrix @ point, by) * 1.0]


def columns_and_rows(matrix: Integers, point: Integers, by: int) -> Sequence[affinet.Constraint]:
    s, half = weights(len(point)).s, len(matrix) // 2
    left, right = matrix[:half], matrix[half:].T
    return [left * 1.0 @ s == left @ point * 1.0, s @ (right * 1.0) == off(point @ right, by) * 1.0]


def of_a_symmetric_matrix(matrix: Integers, point: Integers, by: int) -> Sequence[affinet.Constraint]:
    return [*columns_and_rows(matrix, point + point.T, by), families.symmetric(weights(len(point)).s)]


FORMS = (one_rule, a_rule_an_equation, every_column, columns_and_rows, of_a_symmetric_matrix)


def nearly_redundant(seed: int) -> tuple[Integers, Integers]:
    """Equations (r, n) that differ in a few units from multiples of one another, of which up to 1e6 a coefficient.

    And combinations of them; and a point (n, n), of which one row is enough for the forms that need one.
    """
    dice = np.random.default_rng(seed)
    n, r = int(dice.integers(3, 24)), int(dice.integers(2, 10))
    common = np.full(n, 10 ** int(dice.integers(0, 7))) * dice.integers(1, 3, n if seed % 2 else 1)
    apart = (dice.random((r, n)) < dice.choice([0.1, 0.4, 1.0])) * dice.integers(-2, 3, (r, n))
    rows = common * dice.integers(1, 3, (r, 1)) + apart
    following = dice.integers(-2, 3, (int(dice.integers(1, 6)), r)) @ rows
    return dice.permutation(np.concatenate([rows, following])), dice.integers(-3, 4, (n, n))
