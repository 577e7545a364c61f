"""Equations that almost follow from others, and ones that do, are told apart: no false alarm, and the exact rank.

All numbers are integers that float64 holds, so that the truth is exact: the right-hand sides are those of integer
weights, and the rank is counted modulo a prime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.language.terms import Integers
from affinet.structure.blocks import Block
from affinet.structure.compilation import compile_blocks
from affinet.structure.contradiction import Contradiction
from affinet.system.system import System

SYSTEMS = 25
PRIME = 2_147_483_629

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
SMALL = 200


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


def exact_ranks(system: System) -> tuple[int, int]:
    """Of the equations, and of these beside their right-hand sides: larger where they contradict each other."""
    rows = system.rows(range(len(system.rules)))
    beside = np.concatenate([rows.matrix(system.layout.size).toarray(), rows.rhs[:, None]], axis=1)
    left = [[int(x) % PRIME for x in row] for row in beside.tolist()]
    rank = of_equations = 0
    for column in range(beside.shape[1]):
        of_equations = rank
        pivot = next((k for k in range(rank, len(left)) if left[k][column]), None)
        if pivot is None:
            continue
        left[rank], left[pivot] = left[pivot], left[rank]
        inverse = pow(left[rank][column], -1, PRIME)
        for k in range(rank + 1, len(left)):
            if share := left[k][column] * inverse % PRIME:
                left[k] = [(x - share * y) % PRIME for x, y in zip(left[k], left[rank], strict=True)]
        rank += 1
    return of_equations, rank


def blocks_of(system: System, one_by_one: int | None) -> tuple[Block, ...]:
    return compile_blocks(system) if one_by_one is None else compile_blocks(system, one_by_one=one_by_one)


each_way = pytest.mark.parametrize("one_by_one", [0, None], ids=["by their form", "by default"])
each_form = pytest.mark.parametrize("form", FORMS)


@each_way
@each_form
def test_they_hold_and_have_their_rank(form: Rules, one_by_one: int | None) -> None:
    for seed in range(SYSTEMS):
        system = System.of(form(*nearly_redundant(seed), 0))
        blocks = blocks_of(system, one_by_one)
        if system.layout.size <= SMALL:
            assert exact_ranks(system) == (sum(block.rank for block in blocks),) * 2, seed


@each_way
@each_form
def test_a_unit_off_in_one_right_hand_side_is_found(form: Rules, one_by_one: int | None) -> None:
    told = 0
    for seed in range(SYSTEMS):
        system = System.of(form(*nearly_redundant(seed), 1))
        if system.layout.size > SMALL:
            continue
        of_equations, beside = exact_ranks(system)
        if of_equations == beside:
            blocks_of(system, one_by_one)
            continue
        told += 1
        with pytest.raises(Contradiction):
            blocks_of(system, one_by_one)
    assert told >= 3
