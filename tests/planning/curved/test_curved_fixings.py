"""Entries that linear rules fix under nonlinear equations: exact constants, which leave cells of one form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.blocks.curved import Curved
from affinet.blocks.fixed import Fixed
from affinet.errors import InfeasibleError

MASKS = {
    "diagonal": np.eye(4, 6, dtype=bool),
    "checkerboard": np.indices((4, 6)).sum(axis=0) % 2 == 0,
    "random": np.random.default_rng(0).random((4, 6)) < 0.5,
}


def trained(weight: torch.nn.Parameter, rules: Any, steps: int = 30) -> affinet.Handle:
    model = torch.nn.Module()
    model.weight = weight
    optimizer = torch.optim.SGD([weight], lr=0.01)
    handle = affinet.project(model, optimizer, rules(affinet.weights(model).weight))
    for _ in range(steps):
        optimizer.zero_grad()
        (weight - torch.arange(weight.numel(), dtype=weight.dtype).view(weight.shape)).square().sum().backward()
        optimizer.step()
    return handle


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_rows_of_length_one_with_a_mask_of_exact_zeros(mask: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    where = MASKS[mask]
    weight = torch.nn.Parameter(torch.randn(4, 6, dtype=dtype))
    trained(weight, lambda w: [families.unit_norm(w, dim=1), families.fix(w, where=where, value=0.0)])
    assert (weight.detach()[torch.from_numpy(where)] == 0.0).all()
    # Squares of six numbers below one, each rounded once; the return stops at 8 roundoffs of them and of twice them.
    lengths = weight.detach().double().square().sum(dim=1)
    torch.testing.assert_close(lengths, torch.ones(4, dtype=torch.float64), rtol=0, atol=16 * torch.finfo(dtype).eps)


def test_entries_that_are_fixed_in_turn_are_exact_too() -> None:
    """`w[0] == 0` and `w[0] == w[1]` and `w[1] + w[2] == 0.6` fix three entries of the vector."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    handle = trained(weight, lambda w: [w @ w == 1, w[0] == 0, w[0] == w[1], w[1] + w[2] == 0.6], steps=300)
    assert weight[:3].tolist() == [0.0, 0.0, 0.6]
    assert handle.plan.rank == 4
    # The nearest point of the circle of radius 0.8 to (3, 4): each step leaves 1 − 0.01 · 2 · 5 / 0.8 of the distance.
    np.testing.assert_allclose(weight[3:].detach(), 0.8 * np.array([3, 4]) / 5, rtol=0, atol=1e-12)


def test_cells_with_different_fixed_places_are_one_block() -> None:
    w = affinet.weights({"w": (8, 8)}).w
    plan = affinet.plan([families.unit_norm(w, dim=1), w.diagonal() == 0, w[2, 3] == 0, w[3, 2] == 0.5])
    kinds = [type(block) for block in plan.blocks]
    assert kinds.count(Curved) == 2  # seven free entries per row, and six
    assert kinds.count(Fixed) <= 3
    assert plan.rank == 18


def test_a_fixed_factor_leaves_a_linear_equation() -> None:
    weights = affinet.weights({"a": (2,), "b": (2,)})
    plan = affinet.plan([weights.a * weights.b == 3, weights.a[0] == 2])
    values = {"a": np.array([1.0, 1.0]), "b": np.array([1.0, 2.0])}
    projected = plan.projector(values).project(values)
    assert projected["a"][0] == 2.0
    assert projected["b"][0] == pytest.approx(1.5, abs=1e-15)
    assert projected["a"][1] * projected["b"][1] == pytest.approx(3.0, abs=1e-14)


def test_fixed_values_that_leave_no_point_are_contradictory() -> None:
    w = affinet.weights({"w": (3,)}).w
    with pytest.raises(InfeasibleError, match="these rules cannot hold together"):
        affinet.plan([w @ w == 1, w == np.array([1.0, 1.0, 0.0])])
    with pytest.raises(InfeasibleError, match="these rules cannot hold together"):
        affinet.plan([w @ w == 1, w[0] == 0.5, 2 * w[0] == 0.5])
