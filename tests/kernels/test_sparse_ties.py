"""Sparse equations over entries that are tied with a difference: the nearest point, whichever way they are solved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.kernels.reference import oracle
from affinet.structure import blocks
from affinet.structure.blocks import Sparse
from affinet.structure.elimination import components
from affinet.system.system import System
from tests.kernels.test_sparse_kernel import system


@pytest.mark.parametrize("largest", [0, 2**25], ids=["conjugate gradients", "factor"])
def test_differences_between_tied_entries_are_kept(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "MOST_DENSE_ROWS", 10)
    monkeypatch.setattr(blocks, "LARGEST_FILL", largest)
    w = affinet.weights({"a": (9, 5), "b": (45,)})
    rules = [families.linear([w.a, w.b], *system()), w.b[1:20:2] - w.b[0:20:2] == 2, w.a[0] + w.a[1] == 0.5]
    plan = affinet.plan(rules)
    assert any(isinstance(block, Sparse) and np.any(block.classes.shift) for block in plan.blocks)
    given = {"a": torch.randn(9, 5, dtype=torch.float64), "b": torch.randn(45, dtype=torch.float64)}
    found = plan.projector(given).project(given)
    wanted = oracle(System.of(rules)).project({name: x.numpy() for name, x in given.items()})
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=0, atol=1e-9)
