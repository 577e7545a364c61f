"""The compiled loops of spheres against the law over array operations: to rounding, in every dtype and memory order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.kernels.torch.convex_kernel import ConvexKernel
from affinet.kernels.torch.looped import available
from affinet.kernels.torch.row_loops import row_loops
from affinet.kernels.torch.sphere_loops import SphereLoops

pytestmark = pytest.mark.skipif(not available(), reason="needs numba")

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
Rule = Callable[[Any], Any]
RULES: dict[str, tuple[tuple[int, ...], Rule]] = {
    "rows": ((37, 19), lambda w: families.unit_norm(w, dim=1)),
    "columns": ((37, 19), lambda w: families.unit_norm(w, dim=0)),
    "some rows": ((37, 19), lambda w: (w**2)[3:20].sum(dim=1) == 9.0),
    "filters": ((8, 3, 5, 5), lambda w: (w**2).sum(dim=(1, 2, 3)) == [0.1 * k + 0.1 for k in range(8)]),
    "middle axis": ((4, 6, 5), lambda w: families.unit_norm(w, dim=1)),
    "every second": ((12, 16), lambda w: (w**2)[:, ::2].sum(dim=1) == 1.0),
    "single entries": ((9, 1), lambda w: families.unit_norm(w, dim=1)),
}


def kernels(name: str, dtype: torch.dtype) -> tuple[ConvexKernel, ConvexKernel, Tensor]:
    """The kernel with loops, the one without, and weights on the set."""
    shape, rule = RULES[name]
    plan = affinet.plan(rule(affinet.weights({"w": shape}).w))
    (block,) = plan.blocks
    w = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    tensors = {"w": plan.projector({"w": w}).project({"w": w})["w"]}
    law: Any = block.law()
    loops = row_loops(law, tensors)
    assert isinstance(loops, SphereLoops)
    return ConvexKernel(law, block.entries, tensors, loops), ConvexKernel(law, block.entries, tensors), tensors["w"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_a_step_is_that_of_the_law(name: str, dtype: torch.dtype) -> None:
    looped, plain, w = kernels(name, dtype)
    random = torch.Generator().manual_seed(2)
    g = torch.randn(w.shape, generator=random, dtype=torch.float64).to(dtype)
    step = 0.1 * torch.randn(w.shape, generator=random, dtype=torch.float64).to(dtype)
    u = torch.finfo(dtype).eps / 2
    moved, fed = [], []
    for kernel in (looped, plain):
        weights, gradient = {"w": w.clone()}, {"w": g.clone()}
        start = kernel.read(weights, copy=not kernel.in_place)
        under_way, projected = kernel.learn_(kernel.read(gradient), start, kernel.start(kernel.read(gradient), start))
        kernel.write(gradient, projected)
        weights["w"].add_(step)
        landed, _ = kernel.land_(kernel.read(weights), under_way, None)
        kernel.write(weights, landed)
        fed.append(gradient["w"].double())
        moved.append(weights["w"].double())
    # A gradient is rounded as it is stored; before that its product with the point, times the point, in float32 too. A
    # part at the floor of noise may be zero on one side only.
    differs = (fed[0] - fed[1]).abs() > 4 * u * g.double().abs().max()
    assert bool((fed[0] * fed[1])[differs].eq(0.0).all())
    assert (fed[0] - fed[1]).abs().max() <= 2 * 32 * u * g.double().abs().max()
    assert (moved[0] - moved[1]).abs().max() <= 4 * u * w.double().abs().max() + 4 * u * step.double().abs().max()


@pytest.mark.parametrize("name", RULES)
def test_rows_of_zeros_and_of_numbers_that_are_not_finite(name: str) -> None:
    looped, plain, w = kernels(name, torch.float32)
    entries = plain.read({"w": w}, copy=True)
    entries[0] = 0.0
    entries[1] = torch.nan
    entries[2] = torch.inf
    found, expected = looped.project(entries.to(looped.dtype)), plain.project(entries)
    assert bool(found[1:3].isfinite().logical_not().all())
    assert torch.allclose(found[:1].double(), expected[:1].double(), rtol=1e-6)
    assert torch.allclose(found[3:].double(), expected[3:].double(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [1e-300, 1e-180, 1e180, 1e300])
@pytest.mark.parametrize("dim", [0, 1])
def test_squares_beyond_the_range_are_added_up(size: float, dim: int) -> None:
    shape = (3, 5)
    plan = affinet.plan(families.unit_norm(affinet.weights({"w": shape}).w, dim=dim))
    w = torch.ones(shape, dtype=torch.float64) * size
    landed = plan.projector({"w": w}).project({"w": w})["w"]
    assert torch.allclose(landed, torch.full(shape, shape[dim] ** -0.5, dtype=torch.float64), rtol=1e-15)


@pytest.mark.parametrize(
    ("size", "length"),
    [(1e-30, 1.0), (1e-22, 1.0), (1.0, 1.0), (1e22, 1.0), (1e30, 1.0), (1.0, 1e-25), (1e-25, 1e-25), (1e25, 1e25)],
)
def test_squares_beyond_the_range_of_float32(size: float, length: float) -> None:
    """Sums in the dtype of the weights would lose these; gradients are tangent and lengths hold all the same."""
    model = torch.nn.Module()
    random = torch.randn(5, 1500, generator=torch.Generator().manual_seed(1))
    model.w = torch.nn.Parameter(random * (length / 1500**0.5))
    stepper = optim.SGD(model.parameters(), lr=0.01 * length / size)
    affinet.project(model, stepper, families.unit_norm(affinet.weights(model).w, dim=1, value=length))
    gradient = torch.randn(5, 1500, generator=torch.Generator().manual_seed(2)) + 100.0 * random
    for _ in range(2):
        before = model.w.detach().double() / length
        model.w.grad = gradient * size
        stepper.step()
        g, exact = model.w.grad.double() / size, gradient.double()
        tangent = exact - (exact * before).sum(1, keepdim=True) * before
        # Entries of the sizes of 100 and their roots, summed in float32 by vectors: a share of a few roundoffs of the
        # gradient is left along the row, and each entry is rounded twice; noise below 32 roundoffs becomes zero.
        assert (g - tangent).abs().max() <= 40 * 2**-24 * (exact.abs().max() + exact.square().mean().sqrt())
        assert abs((model.w.detach().double() / length).norm(dim=1) - 1.0).max() <= 8 * 2**-24


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_projecting_twice_changes_no_bit(name: str, dtype: torch.dtype) -> None:
    looped, _, w = kernels(name, dtype)
    x = looped.read({"w": w})
    weights = {"w": w.clone()}
    looped.write(weights, looped.project(x))
    assert torch.equal(weights["w"], w)


@pytest.mark.parametrize("name", ["rows", "columns"])
def test_threads_change_no_bit(name: str) -> None:
    """Each cell is the work of one thread, in one order."""
    shape = (512, 640)
    ends = []
    former = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            model = torch.nn.Module()
            model.w = torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
            stepper = optim.SGD(model.parameters(), lr=0.1)
            affinet.project(
                model, stepper, families.unit_norm(affinet.weights(model).w, dim=1 if name == "rows" else 0)
            )
            model.w.grad = torch.randn(shape, generator=torch.Generator().manual_seed(2))
            stepper.step()
            ends.append(model.w.detach().clone())
    finally:
        torch.set_num_threads(former)
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_weights_that_are_not_row_major_are_followed() -> None:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).T)
    stepper = optim.Adam(model.parameters(), lr=0.01)
    handle = affinet.project(model, stepper, families.unit_norm(affinet.weights(model).w, dim=1))
    for _ in range(5):
        stepper.zero_grad()
        model.w.sum().backward()
        before = model.w.detach().clone()
        stepper.step()
        assert not torch.equal(model.w.detach(), before)
        assert max(handle.violation().values()) <= 4e-7


def test_only_round_spheres_have_loops() -> None:
    w = affinet.weights({"w": (3, 2)}).w
    (block,) = affinet.plan([(torch.tensor([1.0, 2.0]).numpy() * w**2).sum(dim=1) == 1.0]).blocks
    law: Any = block.law()
    assert row_loops(law, {"w": torch.zeros(3, 2)}) is None
