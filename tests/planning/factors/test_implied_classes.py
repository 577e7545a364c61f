"""Equal entries that dense equations hide, where some of them are classes of several entries already."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.blocks.dense import Dense
from affinet.system.system import System
from tests.oracle import oracle

W: Any = affinet.weights({"a": (40,)})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_class_and_a_single_entry_that_must_be_equal_are_equal_to_the_bit(dtype: torch.dtype) -> None:
    draw = np.random.default_rng(0)
    hidden = np.zeros((1, 40))
    hidden[0, 3], hidden[0, 20] = 1.0, -1.0
    matrix = np.linalg.qr(draw.standard_normal((9, 9)))[0] @ np.vstack([draw.standard_normal((8, 40)), hidden])
    rules = [families.linear([W.a], matrix, 0), families.tie(W.a[3], W.a[4], W.a[5])]
    plan = affinet.plan(rules)
    assert any(isinstance(block, Dense) for block in plan.blocks)
    given = {"a": torch.from_numpy(draw.standard_normal(40)).to(dtype)}
    found = plan.projector(given).project(given)["a"]
    assert found[3] == found[4] == found[5] == found[20]
    wanted = oracle(System.of(rules)).project({"a": given["a"].double().numpy()})["a"]
    np.testing.assert_allclose(found.double().numpy(), wanted, rtol=0, atol=64 * torch.finfo(dtype).eps)
