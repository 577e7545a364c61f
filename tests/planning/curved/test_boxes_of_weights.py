"""Lengths and orthonormal rows of a part of a weight: recognised as those of a whole one, over the right entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.blocks.curved import Curved
from affinet.blocks.sphere_cells import SphereCells
from affinet.blocks.stiefel_cells import StiefelCells
from affinet.kernels.torch.place_access import access_to
from affinet.language.calculus.terms import Integers

Part = Callable[[Any], Any]
LENGTHS: dict[str, tuple[tuple[int, ...], Part, tuple[int, ...]]] = {
    "rows of some rows": ((24, 7), lambda w: w[3:20], (1,)),
    "columns of some rows": ((24, 7), lambda w: w[3:20], (0,)),
    "all of some rows": ((24, 7), lambda w: w[3:20], (0, 1)),
    "rows of some columns": ((9, 12), lambda w: w[:, 2:7], (1,)),
    "columns of some columns": ((9, 12), lambda w: w[:, 2:7], (0,)),
    "all of some columns": ((9, 12), lambda w: w[:, 2:7], (0, 1)),
    "every second row": ((9, 5), lambda w: w[::2], (1,)),
    "every third column": ((5, 9), lambda w: w[:, 1::3], (1,)),
    "one row": ((5, 6), lambda w: w[2], (0,)),
    "a row with its axis": ((5, 6), lambda w: w[2:3], (1,)),
    "one column": ((5, 6), lambda w: w[:, 4], (0,)),
    "the last axis of a corner": ((4, 5, 6), lambda w: w[1:3, 2:, ::2], (2,)),
    "the first axis of a corner": ((4, 5, 6), lambda w: w[1:3, 2:, ::2], (0,)),
    "the middle of a corner": ((4, 5, 6), lambda w: w[1:3, 2:, ::2], (1,)),
    "outer axes of a corner": ((4, 5, 6), lambda w: w[1:3, 2:, ::2], (0, 2)),
    "inner axes of a corner": ((4, 5, 6), lambda w: w[1:3, 2:, ::2], (1, 2)),
    "filters of some channels": ((8, 3, 2, 2), lambda w: w[2:6], (1, 2, 3)),
}


ORTHONORMAL: dict[str, tuple[tuple[int, ...], Part, str]] = {
    "some rows": ((9, 6), lambda w: w[2:6], "rows"),
    "some columns": ((9, 6), lambda w: w[:, 1:4], "columns"),
    "rows of a corner": ((9, 8), lambda w: w[1:5, 2:8], "rows"),
    "columns of a corner": ((9, 8), lambda w: w[1:8, 2:6:2], "columns"),
    "rows of the transpose": ((9, 4), lambda w: w[:, 1:].T, "rows"),
    "one filter": ((3, 4, 5), lambda w: w[1], "rows"),
}


def planned(shape: tuple[int, ...], rule: Callable[[Any], Any]) -> tuple[torch.nn.Module, Curved]:
    """A model with a weight of this shape, and the only block of a rule about it."""
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    (block,) = affinet.plan([rule(affinet.weights(model).w)]).blocks
    assert isinstance(block, Curved)
    return model, block


def entries_of(block: Curved, shape: tuple[int, ...]) -> Integers:
    """The positions of the entries in the weight, cell after cell."""
    numbers = torch.arange(int(np.prod(shape)), dtype=torch.float64).view(shape)
    return access_to(block.entries, torch.device("cpu")).read({"w": numbers}).reshape(block.set.shape).long().numpy()


@pytest.mark.parametrize("case", LENGTHS)
def test_lengths_in_a_part_of_a_weight_are_spheres_over_its_entries(case: str) -> None:
    shape, part, dims = LENGTHS[case]
    _, block = planned(shape, lambda w: families.unit_norm(part(w), dim=dims))
    assert isinstance(block.set, SphereCells)
    numbers = part(np.arange(np.prod(shape)).reshape(shape))
    others = [axis for axis in range(numbers.ndim) if axis not in dims]
    expected = numbers.transpose(*others, *dims).reshape(block.set.shape)
    assert (entries_of(block, shape) == expected).all()
    assert block.rank == len(expected)


@pytest.mark.parametrize("case", LENGTHS)
def test_a_training_with_lengths_in_a_part_of_a_weight(case: str) -> None:
    """Vectors of the part have their length after each step, and other entries move as without rules."""
    shape, part, dims = LENGTHS[case]
    model, _ = planned(shape, lambda w: families.unit_norm(part(w), dim=dims))
    inside = np.zeros(shape, bool)
    part(inside)[...] = True
    before = model.w.detach().clone()
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, stepper, families.unit_norm(part(affinet.weights(model).w), dim=dims, value=2.0))
    for step in range(1, 4):
        model.w.grad = torch.ones_like(model.w)
        stepper.step()
        lengths = part(model.w.detach().numpy() ** 2).sum(axis=dims) ** 0.5
        # At most 24 squares, each rounded once: the root halves that.
        np.testing.assert_allclose(lengths, 2.0, rtol=24 * 1.2e-16)
        moved = (before - model.w.detach()).numpy()[~inside]
        np.testing.assert_allclose(moved, 0.1 * step, rtol=0, atol=1e-15)
    assert handle.plan.rank == np.size(lengths)


@pytest.mark.parametrize("case", ORTHONORMAL)
def test_orthonormal_parts_of_a_weight(case: str) -> None:
    shape, part, of = ORTHONORMAL[case]
    model, block = planned(shape, lambda w: families.orthogonal(part(w), of=of))
    assert isinstance(block.set, StiefelCells)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, stepper, families.orthogonal(part(affinet.weights(model).w), of=of))
    for _ in range(3):
        model.w.grad = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        stepper.step()
    matrix = part(model.w.detach().numpy())
    rows = matrix if of == "rows" else matrix.T
    # Sums of at most 9 products below one, each rounded once, and the rounding of the weights.
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), rtol=0, atol=30 * 2.2e-16)
    assert handle.plan.rank == len(rows) * (len(rows) + 1) // 2


def test_a_part_in_another_order_is_not_recognised_as_lengths() -> None:
    """The equations hold all the same: the general law takes them."""
    model, block = planned((5, 6), lambda w: (w.flip(0) ** 2).sum(dim=1) == [1.0, 2.0, 3.0, 4.0, 5.0])
    assert not isinstance(block.set, SphereCells)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    affinet.project(model, stepper, (affinet.weights(model).w.flip(0) ** 2).sum(dim=1) == [1.0, 2.0, 3.0, 4.0, 5.0])
    # Six squares, each rounded once, and the return's eight roundoffs of twice their sum.
    np.testing.assert_allclose(model.w.detach().square().sum(dim=1), [5.0, 4.0, 3.0, 2.0, 1.0], rtol=24 * 2.2e-16)
