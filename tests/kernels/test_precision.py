"""In which dtype a projection computes: never shortened, and noise told from gradient."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from affinet.kernels.torch.precision import exact_matmul, irregular_dtype, noise_floor, regular_dtype, undisturbed

CPU = torch.device("cpu")


@pytest.fixture(params=["highest", "high", "medium"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision("highest")


def test_products_leave_float32_where_torch_may_shorten_them(precision: str) -> None:
    x = torch.ones(3)
    wanted = torch.float32 if precision == "highest" else torch.float64
    assert exact_matmul(x).dtype == wanted
    assert exact_matmul(x.double()).dtype == torch.float64


def test_coarse_weights_are_computed_in_float32_or_better() -> None:
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    assert [regular_dtype(kind) for kind in kinds] == [torch.float32, torch.float32, torch.float32, torch.float64]
    assert irregular_dtype(CPU) == torch.float64
    assert noise_floor(torch.float32) == noise_floor(torch.bfloat16) == 32 * 2.0**-24
    assert noise_floor(torch.float64) == 32 * 2.0**-53


@pytest.mark.parametrize("cast", [False, True])
def test_inside_there_is_neither_autocast_nor_autograd(cast: bool) -> None:
    a = torch.ones(4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        with undisturbed(CPU):
            inside = a @ a
        outside = a @ a
    assert inside.dtype == torch.float32
    assert not inside.requires_grad
    assert outside.requires_grad
    assert outside.dtype == (torch.bfloat16 if cast else torch.float32)
