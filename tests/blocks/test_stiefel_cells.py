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


@pytest.mark.parametrize(
    ("shape", "length", "products"),
    [
        ((64, 64), 1e-5, 6),
        ((64, 64), 0.1, 7),
        ((64, 64), 0.3, 8),
        ((64, 80), 1e-5, 6),
        ((64, 80), 3e-2, 7),
        ((64, 80), 0.3, 9),
    ],
)
def test_products_of_a_step(
    shape: tuple[int, int], length: float, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two for the gradient; for a short step two to follow it, and two for the return.

    Square matrices take one more for each power of the step until what they miss, of the order of its fourth, sixth and
    eighth power, is rounding. For others, an excess E, of the order of the square of the length, falls to the order of
    E² by the first term of the series, and to that of E³ by two, with one product more; the next one takes two.
    """
    model, rule = made(shape, torch.float32, "rows")
    stepper = optim.SGD(model.parameters(), lr=1.0)
    affinet.project(model, stepper, rule)
    calls, original = [], Torch.matmul

    def counted(self: Torch, x: Tensor, y: Tensor) -> Tensor:
        calls.append(x.shape)
        return original(self, x, y)

    monkeypatch.setattr(Torch, "matmul", counted)
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    for _ in range(2):
        calls.clear()
        model.w.grad = gradient * (length / torch.linalg.matrix_norm(gradient, ord=2))
        stepper.step()
    assert len(calls) == products


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("angle", [1e-3, 0.05, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("of_columns", [False, True])
def test_a_square_matrix_turns_along_the_step(angle: float, of_columns: bool, library: str) -> None:
    """The step ends on the set, near the polar factor of its end.

    Of a plane that turns by θ, the polar factor has turned by atan θ and the rotation by asin(θ − θ³/8) or
    asin(θ − 0.146 θ³), and these differ by less than ½ θ³.
    """
    random = np.random.default_rng(7)
    w = np.linalg.qr(random.standard_normal((6, 6)))[0]
    skew = random.standard_normal((6, 6))
    skew = skew - skew.T
    skew *= angle / np.linalg.norm(skew, ord=2)
    moved = w + (w @ skew if of_columns else skew @ w)
    normal = random.standard_normal((6, 6))
    stepped = moved + (w @ (normal + normal.T) if of_columns else (normal + normal.T) @ w)
    cells = StiefelCells((1, 6, 6), of_columns)
    if library == "numpy":
        landed = cells.followed(NumPy(), stepped[None], cells.face(NumPy(), w[None]))[0][0]
    else:
        xp, point = Torch(), torch.from_numpy(w[None])
        landed = cells.followed(xp, torch.from_numpy(stepped[None]), cells.face(xp, point))[0][0].numpy()
    u, _, vt = np.linalg.svd(moved)
    assert np.linalg.norm(landed - u @ vt, ord=2) <= 0.5 * angle**3 + 1e-13
    # Sums of six products, each rounded a few times.
    assert abs(landed @ landed.T - np.eye(6)).max() <= 50 * np.finfo(float).eps


@pytest.mark.parametrize("angle", [1.5, 3.0, 1e3, 1e30])
def test_a_square_matrix_lands_on_the_set_after_a_step_beyond_any_series(angle: float) -> None:
    """Where the terms of the rotation alternate, the end of the step has a nearest point all the same."""
    random = np.random.default_rng(7)
    w = np.linalg.qr(random.standard_normal((6, 6)))[0]
    skew = random.standard_normal((6, 6))
    skew = skew - skew.T
    skew *= angle / np.linalg.norm(skew, ord=2)
    cells = StiefelCells((1, 6, 6), of_columns=False)
    landed = cells.followed(NumPy(), (w + skew @ w)[None], cells.face(NumPy(), w[None]))[0][0]
    u, _, vt = np.linalg.svd(w + skew @ w)
    assert landed == pytest.approx(u @ vt, abs=1e-12 * max(1.0, angle))


@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-4, 1e-2, 0.5])
def test_a_square_matrix_returns_from_a_start_off_the_set(distance: float) -> None:
    """Weights that were written to are off the set by more than a step can correct on its way."""
    random = np.random.default_rng(8)
    w = np.linalg.qr(random.standard_normal((6, 6)))[0] + distance * random.standard_normal((6, 6))
    cells = StiefelCells((1, 6, 6), of_columns=False)
    landed = cells.followed(NumPy(), (w + 0.1 * random.standard_normal((6, 6)))[None], cells.face(NumPy(), w[None]))
    assert abs(landed[0][0] @ landed[0][0].T - np.eye(6)).max() <= 50 * np.finfo(float).eps


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("shape", [(1, 700, 90), (2, 700, 90), (515, 515)])
def test_mirrored_products_are_products(shape: tuple[int, ...], sign: float) -> None:
    """Products are divided into blocks from a size on, and half of those are copied."""
    random = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=random, dtype=torch.float64)
    middle = torch.randn(shape[-1], shape[-1], generator=random, dtype=torch.float64)
    y = x @ (middle + sign * middle.T)
    expected = y @ x.mT
    computed = Torch().mirrored_product(y, x, sign)
    assert torch.allclose(computed, expected, rtol=0.0, atol=1e-11 * float(expected.abs().max()))
    assert torch.allclose(
        Torch().mirrored_part(expected, sign), expected, rtol=0.0, atol=1e-11 * float(expected.abs().max())
    )


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
