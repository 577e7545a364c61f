"""What a basis promises beyond its span: equal entries equal to the bit, and errors that say what to use instead."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import affinet
from affinet import families
from affinet.blocks.commuting import Commuting
from affinet.errors import AttachError
from affinet.kernels.bases.basis import Kind
from affinet.kernels.bases.tied_bases import scaled
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.kernels.test_bases import expanded, weights
from tests.limits import plan_within


def planned(rules: list[Any]) -> Plan:
    """Planned by structure, however small the rules are."""
    system = System.of(rules)
    return plan_within(system, one_by_one=0)


@pytest.mark.parametrize("kind", ["orthonormal", "free"])
def test_opposites_among_overlapping_sums_are_opposite_to_the_bit(kind: Kind) -> None:
    w = affinet.weights({"p": (5, 2, 3, 7)})
    plan = planned([w.p.sum(1) == 0, w.p.sum((2, 3)) == 0, w.p.sum((0, 2)) == 0])
    assert [type(block) for block in plan.blocks] == [Commuting]
    expansion, _, _ = expanded(plan, kind)
    found = weights(expansion, torch.randn(expansion.free), {"p": torch.zeros(5, 2, 3, 7)})["p"]
    assert torch.equal(found[:, 0], -found[:, 1])


def test_a_large_mirrored_product_names_the_basis_that_is_cheap() -> None:
    w = affinet.weights({"a": (40, 40)})
    plan = planned([families.symmetric(w.a).named("even"), (w.a.sum(1) == 1).named("rows")])
    assert [type(block) for block in plan.blocks] == [Commuting]
    with pytest.raises(
        AttachError, match=r'a \(even, rows\) have no basis="free".*Use basis="orthonormal", or affinet'
    ):
        expanded(plan, "free")
    expanded(plan, "orthonormal")


def test_a_factor_of_one_costs_nothing() -> None:
    x = torch.randn(3)
    assert scaled(x, 1.0) is x
    assert torch.equal(scaled(x, -2.0), -2.0 * x)
