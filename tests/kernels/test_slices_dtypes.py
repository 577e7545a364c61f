"""Slices answer in the dtype that they read in: a result in a wider one would cost memory at every step."""

from __future__ import annotations

import pytest
import torch

import affinet
from affinet.blocks.slices import Slices
from affinet.kernels.torch.slices_kernels import SlicesKernel
from affinet.system.system import System
from tests.limits import blocks_within


@pytest.mark.parametrize("total", [0, 1, range(6)], ids=["zero", "one", "one of each row"])
@pytest.mark.parametrize(
    ("dtype", "working"), [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)], ids=str
)
def test_sums_stay_in_the_working_dtype(total: object, dtype: torch.dtype, working: torch.dtype) -> None:
    w = affinet.weights({"a": (6, 7)})
    (block,) = blocks_within(
        System.of(w.a.sum(1) == (list(total) if isinstance(total, range) else total)), one_by_one=0
    )
    assert isinstance(block, Slices)
    tensors = {"a": torch.ones(6, 7, dtype=dtype)}
    kernel = SlicesKernel(block, tensors["a"])
    x = kernel.read(tensors)
    for found in (
        kernel.land(x.clone(), None)[0],
        kernel.land_in_metric(x, torch.ones_like(x)),
        kernel.tangent(x.clone(), None)[0],
    ):
        assert found.dtype == working
