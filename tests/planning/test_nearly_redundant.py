"""Equations that almost follow from others, and ones that do, are told apart: no false alarm, and the exact rank.

The truth is exact: the rank is counted modulo a prime.
"""

from __future__ import annotations

import numpy as np
import pytest

from affinet.blocks.kinds import AnyBlock
from affinet.planning.compilation import compile_blocks
from affinet.planning.contradiction import Contradiction
from affinet.system.system import System
from tests.limits import blocks_within
from tests.planning.nearly_redundant import FORMS, SYSTEMS, Rules, nearly_redundant

PRIME = 2_147_483_629
SMALL = 200
"""Weights up to which the exact rank is counted."""


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


def blocks_of(system: System, one_by_one: int | None) -> tuple[AnyBlock, ...]:
    return compile_blocks(system) if one_by_one is None else blocks_within(system, one_by_one=one_by_one)


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
