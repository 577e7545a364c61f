"""Kernels of rows with inequalities: with their compiled loops they do what they do without, step by step."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from affinet.blocks.chain import Chain
from affinet.blocks.cone import Cone
from affinet.blocks.entry_sets import View
from affinet.blocks.normal_map import Learned
from affinet.blocks.places import box
from affinet.kernels.torch.convex_kernel import ConvexKernel
from affinet.kernels.torch.row_loops import row_loops
from affinet.language.calculus.terms import Parameter

CELLS, WIDTH = 9, 23
ENTRIES = box(View(Parameter("w", (CELLS, WIDTH)), 0, ((CELLS, WIDTH), (WIDTH, 1))))
ONE = np.ones((1, 1))
ROWS = np.random.default_rng(0).normal(size=(CELLS, WIDTH))
BLOCKS: dict[str, Any] = {
    "simplex": Cone(ENTRIES, CELLS, WIDTH, ONE, ONE, True, 0.0 * ONE, inf * ONE, (0,)),
    "sum at most": Cone(ENTRIES, CELLS, WIDTH, ONE, ONE, False, 0.0 * ONE, inf * ONE, (0,)),
    "between": Cone(ENTRIES, CELLS, WIDTH, ROWS, 0.1 * np.ones((CELLS, 1)), True, -0.2 * ONE, 0.3 * ONE, (0,)),
    "chain": Chain(ENTRIES, CELLS, WIDTH, 0.0 * ONE, -0.5 * ONE, 0.5 * ONE, (0,)),
    "gaps": Chain(ENTRIES, CELLS, WIDTH, 0.01 * ONE, -inf * ONE, 0.5 * np.ones((CELLS, 1)), (0,)),
}


def kernels(name: str, dtype: torch.dtype) -> tuple[ConvexKernel, ConvexKernel]:
    block, tensors = BLOCKS[name], {"w": torch.zeros(CELLS, WIDTH, dtype=dtype)}
    loops = row_loops(block.law(), tensors)
    assert loops is not None
    plain = ConvexKernel(block.law(), block.entries, tensors)
    return ConvexKernel(block.law(), block.entries, tensors, loops), plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BLOCKS)
def test_steps_are_those_without_loops(name: str, dtype: torch.dtype) -> None:
    """Ten steps; one row stands still in some of them, one becomes infinite, and one step is skipped."""
    draw, eps = torch.Generator().manual_seed(0), torch.finfo(dtype).eps
    looped, plain = kernels(name, dtype)
    w = looped.nearest(torch.randn(CELLS, WIDTH, generator=draw, dtype=dtype)).to(dtype)
    g = torch.randn(CELLS, WIDTH, generator=draw, dtype=dtype)
    # Gradients of a linear layer may be column-major, and with them all that is made from them.
    start = looped.start(g.T.contiguous().T, w)
    states = start, plain.start(g.double(), w.double())
    for number in range(10):
        g = torch.randn(CELLS, WIDTH, generator=draw, dtype=dtype)
        steps = looped.learn_(g.T.contiguous().T, w, states[0]), plain.learn_(g.double(), w.double(), states[1])
        close(steps[0][1], steps[1][1], 64 * eps)
        stepped = w - 0.05 * steps[0][1]
        if number % 3 == 1:
            stepped[2] = w[2]
        if number == 5:
            stepped[4, 3] = inf
        condition = None if number != 7 else torch.tensor(False)
        before = w
        found = looped.land_(stepped, steps[0][0], condition), plain.land_(stepped.double(), steps[1][0], condition)
        w, states = found[0][0], (found[0][1], found[1][1])
        assert w.dtype == states[0].y.dtype == dtype
        close(w, found[1][0], 64 * eps)
        # What rounds in the weights is divided by tau, ten times the step by the gradient.
        close(states[0].y, states[1].y, 1024 * eps)
        if number % 3 == 1:
            assert torch.equal(w[2], before[2])
        if number == 7:
            assert torch.equal(w, stepped)
        known = torch.isfinite(w).all(1)
        for marks, others in zip(states[0].face, states[1].face, strict=True):
            assert torch.equal(marks[known], others[known])
        if number == 5:
            assert torch.equal(w[4], stepped[4])
            w = torch.where(known[:, None], w, before)
        states = states[0], Learned(states[0].y.double(), states[0].face)  # both go on from the same


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BLOCKS)
def test_landing_in_the_memory_of_the_step_has_the_same_bits(name: str, dtype: torch.dtype) -> None:
    """Steps with rows that stand still and with one that becomes infinite; the other landing leaves its step alone."""
    draw, (kernel, _) = torch.Generator().manual_seed(1), kernels(name, dtype)
    w = kernel.nearest(torch.randn(CELLS, WIDTH, generator=draw, dtype=dtype))
    state = kernel.start(torch.randn(CELLS, WIDTH, generator=draw, dtype=dtype), w)
    known, place, spare = copied(state), w.clone(), None
    for number in range(6):
        g = torch.randn(CELLS, WIDTH, generator=draw, dtype=dtype)
        step, projected = kernel.learn_(g.clone(), w, state)
        former, average = known.y, spare
        other, same = kernel.learn_(g.clone(), place, known, spare)
        assert torch.equal(projected, same)
        assert average is None or other.y.data_ptr() == average.data_ptr()
        stepped = w - 0.05 * projected
        stepped[2 + number] = w[2 + number]
        if number == 3:
            stepped[0, 3] = inf
        parts = step.y.clone(), step.before.clone(), *(part.clone() for part in step.face)
        landed, state = kernel.land_(stepped, step, None)
        for part, unchanged in zip((step.y, step.before, *step.face), parts, strict=True):
            assert torch.equal(part, unchanged)
        again, known = kernel.land_(stepped, other, None, reuse=True)
        assert again.data_ptr() == place.data_ptr()
        assert known.y.data_ptr() == other.y.data_ptr()
        for part, twin in zip((landed, state.y, *state.face), (again, known.y, *known.face), strict=True):
            assert torch.equal(part, twin)
        if number == 3:
            landed[0] = again[0] = 1.0 / WIDTH
        w, place, spare = landed, again, former


def copied(state: Learned[Any]) -> Learned[Any]:
    return Learned(state.y.clone(), type(state.face)(*(part.clone() for part in state.face)))


def close(found: Tensor, wanted: Tensor, within: float) -> None:
    finite = torch.isfinite(wanted).all(1)
    size = 1.0 + float(wanted[finite].abs().max())
    torch.testing.assert_close(found[finite].double(), wanted[finite].double(), rtol=0, atol=within * size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BLOCKS)
def test_nearest_points_are_those_without_loops(name: str, dtype: torch.dtype) -> None:
    looped, plain = kernels(name, dtype)
    x = torch.randn(WIDTH, CELLS, generator=torch.Generator().manual_seed(0), dtype=dtype).T
    before = x.clone()
    metric = 0.5 + torch.rand(CELLS, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(1))
    for each in (None, metric):
        point = looped.nearest(x, each)
        assert point.dtype == dtype
        close(point, plain.nearest(x.double(), None if each is None else each.double()), 64 * torch.finfo(dtype).eps)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["simplex", "sum at most", "between"])
def test_projections_keep_rows_that_hold_as_they_do_without_loops(name: str, dtype: torch.dtype) -> None:
    """Rows that hold to rounding keep their bits, rows off by a hundred roundings and rows beyond a bound do not."""
    looped, plain = kernels(name, dtype)
    draw, eps = torch.Generator().manual_seed(2), torch.finfo(dtype).eps
    x = looped.nearest(torch.randn(CELLS, WIDTH, generator=draw, dtype=dtype))
    x[1] += 0.1
    x[2, 3] -= 0.7
    x[3] += 100 * eps
    x[5] = torch.where(x[5] == 0.0, -0.1 * eps, x[5])
    point = looped.project(x)
    close(point, plain.project(x.double()), 64 * eps)
    for row in (0, 4, 6, 7, 8):
        assert torch.equal(point[row], x[row])
    for row in (1, 2):
        assert not torch.equal(point[row], x[row])
    assert torch.equal(looped.project(point), point)


def test_tensors_of_other_kinds_have_no_loops() -> None:
    law = BLOCKS["simplex"].law()
    for other in ({"w": torch.zeros(1).bfloat16()}, {"w": torch.zeros(1), "v": torch.zeros(1).double()}):
        assert row_loops(law, other) is None
    bounds = Cone(ENTRIES, CELLS, WIDTH, None, ONE, True, 0.0 * ONE, inf * ONE, (0,))
    assert row_loops(bounds.law(), {"w": torch.zeros(1)}) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bounds_alone_are_a_clamp_in_place(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    for lower, upper in ((0.1, inf), (-inf, 0.3), (-0.1, 0.3)):
        bounds = Cone(ENTRIES, CELLS, WIDTH, None, ONE, True, lower * ONE, upper * ONE, (0,))
        w = torch.randn(CELLS, WIDTH, generator=draw).to(dtype)
        wanted = w.double().clamp(lower, upper).to(dtype)
        kernel = ConvexKernel(bounds.law(), ENTRIES, {"w": w})
        place = w.data_ptr()
        kernel.project_({"w": w})
        assert torch.equal(w, wanted)
        assert w.data_ptr() == place
        kernel.project_({"w": w})
        assert torch.equal(w, wanted)
