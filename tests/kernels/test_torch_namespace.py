"""torch as a namespace of laws: constants become tensors once, in memory of their own."""

from __future__ import annotations

import numpy as np
import torch

from affinet.kernels.torch.torch_namespace import Torch


def test_a_constant_becomes_a_tensor_once_per_dtype() -> None:
    xp, values = Torch(), np.arange(3.0)
    like = torch.zeros(1, dtype=torch.float64)
    first = xp.array(values, like)
    assert xp.array(values, like) is first
    assert xp.array(values, like.float()).dtype == torch.float32
    values[0] = 9.0  # the tensor has memory of its own
    assert first.tolist() == [0.0, 1.0, 2.0]


def test_the_tensor_of_a_constant_goes_with_the_constant() -> None:
    """Otherwise every array that a verb computes would stay, and a new array at its address would read its numbers."""
    xp, like = Torch(), torch.zeros(1, dtype=torch.float64)
    for k in range(100):
        assert xp.array(np.full(3, float(k)), like).tolist() == [k, k, k]
    assert not xp._constants
