"""Zeros that rules set beside nonlinear equations of the same weights: reached, trained, and exact."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import affinet
from affinet import families


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("seed", range(8))
def test_an_entry_of_a_unit_vector_may_be_zero(seed: int, dtype: torch.dtype) -> None:
    """The point of the circle nearest to (5, 1, 2) is (0, 1, 2) / √5."""
    torch.manual_seed(seed)
    model = nn.Module()
    model.w = nn.Parameter(torch.randn(3, dtype=dtype))
    optimizer = torch.optim.SGD([model.w], lr=0.1)
    w = affinet.weights(model).w
    handle = affinet.project(model, optimizer, [w @ w == 1, w[0] == 0])
    target = torch.tensor([5.0, 1.0, 2.0], dtype=dtype)
    for _ in range(100):
        optimizer.zero_grad()
        (model.w - target).square().sum().backward()
        optimizer.step()
    # Each step leaves 0.55 of the distance; gradients within 32 roundoffs of their size are taken for zero.
    spacing = torch.finfo(dtype).eps
    np.testing.assert_allclose(model.w.detach().numpy(), np.array([0, 1, 2]) / 5**0.5, rtol=0, atol=64 * spacing)
    assert handle.violation()["w[0] == 0"] == 0


@pytest.mark.parametrize("size", [3, 4, 5])
@pytest.mark.parametrize("seed", range(4))
def test_orthogonal_matrices_with_a_zero_diagonal_are_reached(size: int, seed: int) -> None:
    """They exist for three rows and more (cyclic permutations), and Newton's method finds them from random starts."""
    torch.manual_seed(seed)
    model = nn.Linear(size, size, bias=False, dtype=torch.float64)
    w = affinet.weights(model).weight
    affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), [families.orthogonal(w), w.diagonal() == 0])
    matrix = model.weight.detach()
    # Each entry of the product has `size` terms of at most one; 24 spacings of their sum are allowed.
    spacing = torch.finfo(torch.float64).eps
    torch.testing.assert_close(
        matrix @ matrix.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=24 * size * spacing
    )
    assert matrix.diagonal().abs().max() == 0


def test_training_from_a_start_with_zeros_moves() -> None:
    """From a conference matrix: every step was refused while no return could end."""
    start = torch.tensor([[0, 1, 1, 1], [-1, 0, -1, 1], [-1, 1, 0, -1], [-1, -1, 1, 0]], dtype=torch.float64) / 3**0.5
    model = nn.Linear(4, 4, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(start)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    w = affinet.weights(model).weight
    handle = affinet.project(model, optimizer, [families.orthogonal(w), w.diagonal() == 0])
    target = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (model.weight - target).square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert handle.stationarity() < 1e-4


def test_large_components_keep_zeros() -> None:
    """A chain of 1,000 vectors of length one, neighbours at a given angle, a zero in every seventh."""
    count = 1000
    model = nn.Module()
    start = torch.zeros(count, 3, dtype=torch.float64)
    start[0::2, 1], start[1::2, 2] = 1.0, 1.0
    generator = torch.Generator().manual_seed(0)
    start = start + 0.05 * torch.randn(count, 3, dtype=torch.float64, generator=generator)
    model.w = nn.Parameter(start)
    optimizer = torch.optim.SGD([model.w], lr=0.1)
    w = affinet.weights(model).w
    rules = [(w**2).sum(dim=1) == 1, (w[1:] * w[:-1]).sum(dim=1) == 0.1, w[:, 0][::7] == 0]
    handle = affinet.project(model, optimizer, rules)
    target = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = (model.w - target).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(after < before for before, after in pairwise(losses))
    assert handle.violation()["w[:, 0][::7] == 0"] == 0
