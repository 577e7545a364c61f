"""Orthonormal rows and columns: how near the set weights end, in which dtype, and how many products a step takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.blocks.namespace import NumPy
from affinet.blocks.stiefel_cells import StiefelCells
from affinet.kernels.torch.torch_namespace import Torch


def excess(w: Tensor, *, of: str) -> tuple[Tensor, Tensor]:
    """`|W Wᵀ − I|`, and `8 u (Σ|terms| + Σ|∂c/∂w||w|)` for each equation."""
    u = torch.finfo(w.dtype).eps / 2
    rows = (w if of == "rows" else w.T).detach().double()
    identity = torch.eye(len(rows), dtype=torch.float64)
    sizes = rows.abs() @ rows.abs().T
    return (rows @ rows.T - identity).abs(), 8 * u * (3 * sizes + identity)


def made(shape: tuple[int, int], dtype: torch.dtype, of: str) -> tuple[torch.nn.Module, Any]:
    model = torch.nn.Module()
    random = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    q = torch.linalg.qr(random if of == "columns" else random.T)[0]
    near = (q if of == "columns" else q.T) + 1e-5 * random
    model.w = torch.nn.Parameter(near.to(dtype))
    return model, families.orthogonal(affinet.weights(model).w, of=of)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("shape", "of"), [((40, 60), "rows"), ((200, 30), "columns"), ((64, 64), "rows")])
def test_weights_hold_to_their_rounding_from_the_start(shape: tuple[int, int], of: str, dtype: torch.dtype) -> None:
    """A start near the set is not on it: long sums are no excuse for more than the roundings of their terms."""
    model, rule = made(shape, dtype, of)
    stepper = optim.SGD(model.parameters(), lr=0.02)
    affinet.project(model, stepper, rule)
    random = torch.Generator().manual_seed(2)
    for _ in range(4):
        missed, allowed = excess(model.w, of=of)
        assert bool((missed <= allowed).all())
        model.w.grad = torch.randn(shape, generator=random).to(dtype)
        stepper.step()


@pytest.fixture
def coarse_products() -> Iterator[None]:
    former = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(former)


@pytest.mark.usefixtures("coarse_products")
def test_products_are_exact_where_the_user_allows_coarse_ones() -> None:
    model, rule = made((64, 64), torch.float32, "rows")
    stepper = optim.SGD(model.parameters(), lr=0.02)
    affinet.project(model, stepper, rule)
    model.w.grad = torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
    stepper.step()
    missed, allowed = excess(model.w, of="rows")
    assert bool((missed <= allowed).all())


@pytest.mark.parametrize(("length", "products"), [(1e-5, 6), (3e-2, 7), (0.1, 9)])
def test_products_of_a_step(length: float, products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two for the gradient and two for the step; the return takes two for a short step, three, or five for a long one.

    An excess E, of the order of the square of the length, falls to the order of E² by the first term of the series and
    to that of E³ by two.
    """
    model, rule = made((64, 64), torch.float32, "rows")
    stepper = optim.SGD(model.parameters(), lr=1.0)
    affinet.project(model, stepper, rule)
    calls, original = [], Torch.matmul

    def counted(self: Torch, x: Tensor, y: Tensor) -> Tensor:
        calls.append(x.shape)
        return original(self, x, y)

    monkeypatch.setattr(Torch, "matmul", counted)
    gradient = torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
    for _ in range(2):
        calls.clear()
        model.w.grad = gradient * (length / torch.linalg.matrix_norm(gradient, ord=2))
        stepper.step()
    assert len(calls) == products


@pytest.mark.parametrize("size", [0.0, 0.3, 0.89, 0.95, 30.0])
@pytest.mark.parametrize("of_columns", [False, True])
def test_the_nearest_point_is_the_polar_factor(size: float, of_columns: bool) -> None:
    """From inside and outside the radius of convergence, and from the radius where Newton and Schulz take over."""
    random = np.random.default_rng(5)
    u, _, vt = np.linalg.svd(random.standard_normal((4, 7)), full_matrices=False)
    x = u @ np.diag(np.sqrt(1.0 + size * np.array([1.0, 0.5, 0.1, 0.0]))) @ vt
    given, expected = (x.T, (u @ vt).T) if of_columns else (x, u @ vt)
    cells = StiefelCells((1, *given.shape), of_columns)
    assert cells.nearest(NumPy(), given[None])[0] == pytest.approx(expected, abs=1e-14)
