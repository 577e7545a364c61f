"""A step that a GradScaler skipped changes no bit; the number that says so is not looked at on the way."""

from __future__ import annotations

import pytest
import torch

import affinet
from affinet import families


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_weights_keep_their_bits_where_a_step_was_skipped(large: bool) -> None:
    n = 300 if large else 6
    w = affinet.weights({"a": (n, n), "b": (5,)})
    plan = affinet.plan([families.symmetric(w.a), w.b.sum() == 1])
    before = {"a": torch.randn(n, n), "b": torch.randn(5)}
    projector, found = plan.projector(before), {name: x.clone() for name, x in before.items()}
    projector.project_(found, skipped=torch.tensor(1.0))
    assert all(torch.equal(found[name], before[name]) for name in before)
    projector.project_(found, skipped=torch.tensor(0.0))
    wanted = projector.project(before)
    assert all(torch.allclose(found[name], wanted[name], rtol=0, atol=1e-6) for name in before)
    assert torch.equal(found["a"], found["a"].T)
