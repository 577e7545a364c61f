"""Sets of equations that almost follow from one another, along two and three axes: their targets agree."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet.blocks.commuting import Commuting
from affinet.system.system import System
from tests.kernels.bounds import of_cell
from tests.kernels.judging import miss
from tests.limits import blocks_within

NEAR = np.array([[1e6, 1e6, 1e6], [1e6, 1e6 + 1, 1e6]])
"""Two rows that differ by a millionth: what they say apart is known to 1e-10."""
FAR = np.array([[1.0, -1.0, 2.0], [0.0, 1.0, 1.0]])
LESS = np.array([[1e3, 1e3, 1e3], [1e3, 1e3 + 1, 1e3]])


@pytest.mark.parametrize("matrices", list(permutations([NEAR, FAR, LESS])))
def test_three_sets_hold_to_rounding(matrices: tuple[np.ndarray, ...]) -> None:
    """Integers, so that right-hand sides are exact; each equation misses by what three sets leave of it."""
    w: Any = affinet.weights({"w": (3, 3, 3)})["w"]
    point = np.random.default_rng(3).integers(-9, 10, (3, 3, 3)).astype(float)
    orders = [(1, 2, 0), (0, 2, 1), (0, 1, 2)]
    rules = [
        w.transpose(*order) @ matrix.T == point.transpose(*order) @ matrix.T
        for order, matrix in zip(orders, matrices, strict=True)
    ]
    system = System.of(rules)
    blocks = blocks_within(system, one_by_one=0)
    assert [type(block) for block in blocks] == [Commuting]
    plan = affinet.Plan(system, blocks)
    given = {"w": torch.randn(3, 3, 3, dtype=torch.float64)}
    found = plan.projector(given).project(given)
    assert miss(plan, found, torch.float64, component=True) <= 3 * of_cell(2, 3)
