"""The factor of a large matrix by its Gram matrix says the same of it as the factor of a small one."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.blocks.slices import Slices
from affinet.planning.factors import factor as module


def test_a_well_conditioned_matrix_has_no_ambiguous_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    w = affinet.weights({"a": (60, 80)})
    rule = families.linear([w.a], draw.standard_normal((30, 4800)), 1.0)
    monkeypatch.setattr(module, "GRAM_NUMBERS", 2**10)
    plan = affinet.plan(rule)
    (block,) = plan.blocks
    assert isinstance(block, Slices)
    assert block.ambiguous == 0
    assert plan.rank == 30
    assert "ambiguous" not in str(plan)
