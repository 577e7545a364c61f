"""The generic rank of sets with branches of different dimensions is told within bounds."""

from __future__ import annotations

from typing import Any

import pytest

import affinet
from affinet.blocks.interval import Interval


@pytest.mark.parametrize("rules", [lambda w: [w[2] * w[:2] == 0], lambda w: [w[2] * w[0] == 0, w[2] * w[1] == 0]])
def test_a_plane_and_a_line(rules: Any) -> None:
    """`z x == z y == 0`: of rank 1 on the plane z == 0, and of rank 2 on the line x == y == 0."""
    plan = affinet.plan(rules(affinet.weights({"w": (3,)}).w))
    assert plan.rank == Interval(1, 2)
    assert plan.free == Interval(1, 2)
    assert affinet.plan(rules(affinet.weights({"w": (3,)}).w)).rank == plan.rank  # the same at each call


def test_branches_of_one_dimension_have_one_rank() -> None:
    w = affinet.weights({"w": (40, 2)}).w
    plan = affinet.plan([w[:, 0] * w[:, 1] == 0])
    assert (plan.rank, plan.free) == (40, 40)
