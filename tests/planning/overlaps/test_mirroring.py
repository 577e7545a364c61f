"""Sums that a mirror takes to themselves, against the dense oracle; those that it does not are read one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.blocks.commuting import Commuting
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within, planned
from tests.planning.random_rules import oracle_of, uses

W: Any = affinet.weights({"s": (6, 6), "t": (2, 5, 5), "k": (3, 4, 3, 3), "q": (4, 4, 2)})
DRAW = np.random.default_rng(0)
MATRIX = DRAW.standard_normal((2, 6))
EVEN = MATRIX + MATRIX[:, ::-1]
TARGET = MATRIX @ np.add.outer(np.arange(6.0), np.arange(6.0))
CLOSED: dict[str, list[Any]] = {
    "rows": [families.symmetric(W.s), W.s.sum(1) == 1],
    "columns": [families.symmetric(W.s), W.s.sum(0) == np.arange(6.0)],
    "rows and columns": [W.s.sum(1) == 2, families.symmetric(W.s), W.s.sum(0) == 2],
    "skew": [families.skew(W.s), W.s.sum(1) == np.arange(6.0) - 2.5],
    "a matrix": [families.symmetric(W.s), MATRIX @ W.s == TARGET],
    "several matrices": [families.symmetric(W.t), W.t.sum(2) == 1],
    "flipped rows": [W.s == W.s.flip(1), W.s.sum(1) == 1],
    "flipped rows of columns": [W.s == W.s.flip(1), W.s.sum(0) == 3],
    "opposite to the flip": [W.s == -W.s.flip(0), W.s.sum(1) == 0],
    "even matrix": [W.s == W.s.flip(1), W.s @ EVEN.T == 1],
    "any matrix": [W.s == W.s.flip(1), W.s @ MATRIX.T == 1],
    "kernels": [W.k == W.k.flip((2, 3)), families.zero_mean(W.k)],
    "kernels and channels": [W.k == W.k.flip((2, 3)), families.zero_mean(W.k), W.k.sum(1) == 0],
    "turned": [W.s == W.s.flip((0, 1)), W.s.sum(0) == 1],
    "along both diagonals": [W.s == W.s.flip((0, 1)).T, W.s.sum(1) == 4],
    "symmetric slabs": [W.q == W.q.transpose(0, 1), W.q.sum(1) == 1, W.q.sum(2) == 0.5],
}
OPEN: dict[str, list[Any]] = {
    "some columns": [families.symmetric(W.s), W.s[:, :3].sum(0) == 1],
    "all of it": [families.symmetric(W.s), W.s.sum() == 1],
    "a shift": [W.s == 1 - W.s.T, W.s.sum(1) == 3],
    "a fixed entry beside": [families.symmetric(W.s), W.s.sum(1) == 1, W.s[0, 0] == 3],
    "an equation said as a matrix": [families.symmetric(W.s), np.eye(6)[:2] @ W.s == 0],
}


def compiled(rules: list[Any]) -> Plan:
    system = System.of(rules)
    return plan_within(system, one_by_one=0)


@pytest.mark.parametrize("case", [*CLOSED, *OPEN])
def test_every_case_is_the_oracle(case: str) -> None:
    rules = CLOSED.get(case) or OPEN[case]
    plan, truth = compiled(rules), oracle_of(rules)
    if case in CLOSED:
        (block,) = plan.blocks
        assert isinstance(block, Commuting)
        assert block.mirror is not None
    assert (plan.rank, plan.size) == (truth.rank, int((truth.matrix != 0).any(axis=0).sum()))
    assert all((count <= 1).all() for count in uses(plan).values())
    draw = torch.Generator().manual_seed(0)
    given = {p.name: torch.randn(p.shape, generator=draw, dtype=torch.float64) for p in plan.parameters}
    arrays = {name: x.numpy() for name, x in given.items()}
    projector = plan.projector(given)
    for found, wanted in (
        (projector.project(given), truth.project(arrays)),
        (projector.tangent(given), truth.tangent(arrays)),
    ):
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name].numpy(), values, atol=1e-12)


def test_images_are_equal_to_the_bit_although_sums_were_projected() -> None:
    given = {"s": torch.randn(6, 6, generator=torch.Generator().manual_seed(3))}
    found = compiled(CLOSED["rows"]).projector(given).project(given)["s"]
    assert torch.equal(found, found.T)
    assert torch.allclose(found.sum(1), torch.ones(6), atol=1e-6)


def test_opposite_images_cannot_sum_to_one() -> None:
    with pytest.raises(affinet.InfeasibleError) as wrong:
        planned([W.t.sum(2) == 0, families.skew(W.s), W.s.sum(1) == 1], one_by_one=0)
    assert len(wrong.value.rules) == 2


def test_the_plan_of_a_large_one_is_small() -> None:
    w = affinet.weights({"s": (2048, 2048)})
    plan = affinet.plan([families.symmetric(w.s), w.s.sum(1) == 1])
    (block,) = plan.blocks
    assert isinstance(block, Commuting)
    assert plan.rank == 2048 * 2047 // 2 + 2048
    assert sum(part.target.nbytes for part in block.slices) < 100_000
    assert "2,096,128 pairs mirrored within s; equations along 2 axes" in str(plan)
