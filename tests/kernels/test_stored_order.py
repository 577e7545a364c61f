"""Traced laws of sums read arrays in the order in which they are stored, and project as those of NumPy do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import affinet
from affinet.blocks.offsets import Nest
from affinet.blocks.slices import Slices
from affinet.kernels.arrays.array_projector import ArrayProjector
from affinet.kernels.torch.torch_library import TorchLibrary
from affinet.kernels.traced.block_law import EquationsLaw, laws_of
from affinet.language.calculus.terms import Parameter
from affinet.language.expression import Expression

SHAPE = (3, 4, 5)
ROUNDING = 2.0**-53 * 64.0
"""A sum of at most 20 numbers below 4, in two orders, and the step from it."""

RULES: dict[str, Callable[[Expression], affinet.Constraint]] = {
    "first axis": lambda w: w.sum(dim=0) == 1.0,
    "middle axis": lambda w: w.sum(dim=1) == 1.0,
    "last axis": lambda w: w.sum(dim=2) == 1.0,
    "two outer axes": lambda w: w.sum(dim=(0, 2)) == drawn((4,)),
    "a target each": lambda w: w.sum(dim=0) == drawn((4, 5)),
    "permuted targets": lambda w: w.permute(2, 1, 0).sum(dim=1) == drawn((5, 3)),
    "flipped": lambda w: w.flip(0).sum(dim=1) == drawn((3, 5)),
    "a part": lambda w: w[:, 1:3].sum(dim=0) == drawn((2, 5)),
}


@pytest.mark.parametrize("name", RULES)
def test_sums_are_read_without_permuting(name: str) -> None:
    plan = affinet.plan([RULES[name](affinet.weights({"w": SHAPE}).w)])
    array = drawn(SHAPE)
    law, entries = read(plan.blocks[0], array)
    assert entries.is_contiguous()
    landed = law.write({"w": torch.tensor(array)}, law.nearest(entries))["w"].numpy()
    wanted = ArrayProjector(plan, {"w": array}).project({"w": array})["w"]
    np.testing.assert_allclose(landed, wanted, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("outer", [((5, 1), (3, 20)), ((3, 20), (5, 1))], ids=["last axis first", "as stored"])
def test_each_cell_keeps_its_target(outer: tuple[tuple[int, int], ...]) -> None:
    """Cells that are numbered along the last axis first cannot be read in the order of the array."""
    share, targets = 4**-0.5, drawn((15, 1))
    none = np.zeros(0, np.int64)
    block = Slices(
        Parameter("w", SHAPE),
        0,
        Nest(outer),
        Nest(((4, 5),)),
        np.broadcast_to(np.array(share), (1, 4)),
        targets * share,
        none,
        np.zeros((1, 0)),
        np.zeros((0, 3)),
        (0,),
    )
    array = drawn(SHAPE)
    law, entries = read(block, array)
    landed = law.write({"w": torch.tensor(array)}, law.nearest(entries))["w"].numpy()
    sums = landed.sum(axis=1)
    wanted = targets.reshape(5, 3).T if outer[0] == (5, 1) else targets.reshape(3, 5)
    np.testing.assert_allclose(sums, wanted, rtol=0, atol=ROUNDING)


def read(block: object, array: np.ndarray) -> tuple[EquationsLaw, torch.Tensor]:
    """The law of a block of sums, and the entries as it reads them."""
    assert isinstance(block, Slices)
    assert block.even
    (law,) = laws_of(TorchLibrary(), block)
    assert isinstance(law, EquationsLaw)
    return law, law.read({"w": torch.tensor(array)})


def drawn(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)
