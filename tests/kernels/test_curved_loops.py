"""The compiled loops of nonlinear equations against the law over array operations, for every kind of node and dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet.blocks.curved import Curved
from affinet.kernels.torch.convex_kernel import ConvexKernel
from affinet.kernels.torch.looped import available
from affinet.kernels.torch.row_loops import row_loops

pytestmark = pytest.mark.skipif(not available(), reason="needs numba")

if available():
    from affinet.kernels.torch import curved_loops
    from affinet.kernels.torch.curved_loops import CurvedLoops

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CELLS = 64
Shapes = dict[str, tuple[int, ...]]
RULES: dict[str, tuple[Shapes, Callable[[Any], Any]]] = {
    "products": ({"w": (CELLS, 3)}, lambda w: w.w[:, 0] * w.w[:, 1] + w.w[:, 2] == 1.0),
    "two equations": (
        {"w": (CELLS, 5)},
        lambda w: [(w.w**2).sum(dim=1) == 5.0, w.w[:, 0] * w.w[:, 1] - w.w[:, 2] == 0.5],
    ),
    "coefficients of each cell": (
        {"w": (CELLS, 3)},
        lambda w: ((1.0 + np.arange(3 * CELLS).reshape(CELLS, 3) / CELLS) * w.w**2).sum(1) == 2.0 + np.arange(CELLS),
    ),
    "powers": ({"w": (CELLS, 3)}, lambda w: w.w[:, 0] ** 3 + w.w[:, 1] ** -2 + w.w[:, 2] ** 5 == 1.0),
    "sines": ({"w": (CELLS, 3)}, lambda w: w.w[:, 0].sin() + w.w[:, 1].cos() * w.w[:, 2].tanh() == 0.3),
    "exponentials": ({"w": (CELLS, 3)}, lambda w: w.w[:, 0].exp() + w.w[:, 1].log() + w.w[:, 2].sqrt() == 3.0),
    "quotients": ({"w": (CELLS, 3)}, lambda w: w.w[:, 0] / w.w[:, 1] + 1 / (w.w[:, 2] + 3) == 1.3),
    "2 × 2": ({"w": (CELLS, 2, 2)}, lambda w: w.w.det() == 1.0),
    "3 × 3": ({"w": (CELLS, 3, 3)}, lambda w: w.w.det() == 1.0),
    "inverses of 2 × 2": ({"w": (CELLS, 2, 2)}, lambda w: w.w.inverse()[:, 0, 1] == 0.3),
    "inverses of 3 × 3": ({"w": (CELLS, 3, 3)}, lambda w: w.w.inverse().sum(dim=(1, 2)) == 1.5),
    "several weights": (
        {"a": (CELLS, 2), "b": (2, CELLS)},
        lambda w: [w.a[:, 0] * w.b[1] + w.a[:, 1] == 1.0, w.b[0] * w.b[1] == 0.7],
    ),
    "functions of functions": ({"w": (CELLS, 2)}, lambda w: (w.w[:, 0] * w.w[:, 1]).exp().sin() + w.w[:, 0] == 1.4),
}


def weights_of(name: str, dtype: torch.dtype) -> tuple[affinet.Plan, dict[str, Tensor]]:
    """The plan of a rule, and weights on its set."""
    shapes, rules = RULES[name]
    plan = affinet.plan(rules(affinet.weights(shapes)))
    random = torch.Generator().manual_seed(1)
    w = {key: (1.0 + 0.2 * torch.randn(shape, generator=random, dtype=torch.float64)) for key, shape in shapes.items()}
    if name.startswith(("3", "inverses of 3")):
        w = {key: value + torch.eye(3, dtype=torch.float64) for key, value in w.items()}
    landed = plan.projector(w).project(w)
    return plan, {key: value.to(dtype) for key, value in landed.items()}


def kernels(block: Any, weights: dict[str, Tensor]) -> tuple[ConvexKernel, ConvexKernel]:
    loops = row_loops(block.law(), weights)
    assert isinstance(loops, CurvedLoops)
    return ConvexKernel(block.law(), block.entries, weights, loops), ConvexKernel(block.law(), block.entries, weights)


def stepped(
    kernel: ConvexKernel, weights: dict[str, Tensor], g: dict[str, Tensor], step: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Any]:
    """Gradients as they are fed, weights after a step, and what happened on the way."""
    weights, gradients = ({key: value.clone() for key, value in tensors.items()} for tensors in (weights, g))
    start = kernel.read(weights, copy=True)
    under_way, projected = kernel.learn_(kernel.read(gradients), start, kernel.start(kernel.read(gradients), start))
    kernel.write(gradients, projected)
    for key, value in weights.items():
        value.add_(step[key])
    landed, known = kernel.land_(kernel.read(weights), under_way, None)
    kernel.write(weights, landed)
    return gradients, weights, known.outcome


def drawn(weights: dict[str, Tensor], seed: int, size: float) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {key: (size * torch.randn(w.shape, generator=random, dtype=w.dtype)) for key, w in weights.items()}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_a_step_is_that_of_the_law(name: str, dtype: torch.dtype) -> None:
    """To the rounding of the weights, times what the equations make of it: their condition is below 100 here."""
    plan, weights = weights_of(name, dtype)
    g, step = drawn(weights, 2, 1.0), drawn(weights, 3, 0.01)
    u = torch.finfo(dtype).eps / 2
    found = []
    for block in plan.blocks:
        assert isinstance(block, Curved)
        found.append([stepped(kernel, weights, g, step) for kernel in kernels(block, weights)])
    for looped, plain in found:
        for key, w in weights.items():
            fed = (looped[0][key].double() - plain[0][key].double()).abs()
            differs = fed > 100 * u * g[key].double().abs().max()
            assert bool((looped[0][key] * plain[0][key])[differs].eq(0.0).all())
            assert float(fed.max()) <= 100 * u * g[key].double().abs().max()
            moved = (looped[1][key].double() - plain[1][key].double()).abs().max()
            assert float(moved) <= 100 * u * w.double().abs().max()
        assert looped[2] is None


@pytest.mark.parametrize("name", RULES)
def test_weights_hold_to_rounding_after_every_step(name: str) -> None:
    plan, start = weights_of(name, torch.float64)
    model = torch.nn.Module()
    for key, value in start.items():
        setattr(model, key, torch.nn.Parameter(value))
    rules = RULES[name][1]
    stepper = optim.Adam(model.parameters(), lr=0.003)
    handle = affinet.project(model, stepper, rules(affinet.weights(model)))
    for seed in range(5):
        for key, value in drawn(start, seed, 1.0).items():
            getattr(model, key).grad = value
        stepper.step()
        # 8 u times the terms and the derivatives times the weights, which are below 100 here.
        assert max(handle.violation().values()) <= 8 * 2.0**-53 * 100 * CELLS**0.5
    assert plan.blocks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_cells_that_rest_or_are_not_finite_or_depend_on_each_other(dtype: torch.dtype) -> None:
    w = affinet.weights({"w": (CELLS, 3)}).w
    product = w[:, 0] * w[:, 1] + w[:, 2]
    plan = affinet.plan([product == 1.0, 1e3 * product == 1e3, (w**2).sum(dim=1) == 3.0])
    random = torch.Generator().manual_seed(1)
    near = {"w": 1.0 + 0.1 * torch.randn(CELLS, 3, generator=random, dtype=torch.float64)}
    weights = {"w": plan.projector(near).project(near)["w"].to(dtype)}
    (block,) = plan.blocks
    g, step = drawn(weights, 2, 1.0), drawn(weights, 3, 0.01)
    step["w"][::3] = 0.0
    step["w"][1] = torch.nan
    step["w"][4] = torch.inf
    looped, plain = (stepped(kernel, weights, g, step) for kernel in kernels(block, weights))
    u = torch.finfo(dtype).eps / 2
    for one, other in zip(looped[:2], plain[:2], strict=True):
        assert torch.allclose(one["w"].double(), other["w"].double(), rtol=0.0, atol=200 * u, equal_nan=True)
    assert torch.equal(looped[1]["w"][::3], weights["w"][::3])
    assert looped[2] is not None
    assert looped[2].refused.shape == (CELLS, 1)
    assert torch.equal(looped[2].refused, plain[2].refused)


def test_gradients_that_are_not_finite_touch_no_other_cell() -> None:
    plan, weights = weights_of("2 × 2", torch.float32)
    (block,) = plan.blocks
    g = drawn(weights, 2, 1.0)
    clean = {"w": g["w"].clone()}
    g["w"][5, 0, 1] = torch.inf
    looped, _ = kernels(block, weights)
    spoilt, whole = (stepped(looped, weights, each, drawn(weights, 3, 0.01)) for each in (g, clean))
    others = np.arange(CELLS) != 5
    assert torch.equal(spoilt[0]["w"][others], whole[0]["w"][others])
    assert not bool(spoilt[0]["w"][5].isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_threads_change_no_bit(dtype: torch.dtype) -> None:
    """Blocks of cells are the same on any number of threads, and each is the work of one."""
    ends = []
    former = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            model = torch.nn.Module()
            random = torch.Generator().manual_seed(1)
            model.w = torch.nn.Parameter(torch.randn(3001, 2, 2, generator=random).to(dtype))
            stepper = optim.SGD(model.parameters(), lr=0.01)
            affinet.project(model, stepper, affinet.weights(model).w.det() == 1.0)
            for _ in range(3):
                model.w.grad = torch.randn(3001, 2, 2, generator=random).to(dtype)
                stepper.step()
            ends.append(model.w.detach().clone())
    finally:
        torch.set_num_threads(former)
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_large_cells_and_few_ones_go_through_the_law() -> None:
    w = affinet.weights({"w": (300, 4, 4), "v": (30, 30)})
    few = affinet.weights({"w": (3, 2, 2)}).w
    for rule in (w.w.det() == 1.0, w.v @ w.v == w.v, few.det() == 1.0):
        for block in affinet.plan(rule).blocks:
            law: Any = block.law()
            assert row_loops(law, {"w": torch.zeros(1), "v": torch.zeros(1)}) is None


def test_rules_written_once_more_and_steps_far_away_go_through_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops leave out what they cannot do to all digits; a long way back is not theirs."""
    plan, weights = weights_of("2 × 2", torch.float64)
    (block,) = plan.blocks
    looped, plain = kernels(block, weights)
    step = drawn(weights, 3, 0.01)
    step["w"][7] = torch.tensor([[-300.0, 200.0], [100.0, 500.0]])
    left: list[int] = []
    original = curved_loops.CurvedLoops._land_others

    def counted(self: Any, cells: np.ndarray, *arguments: Any) -> Any:
        left.extend(cells.tolist())
        return original(self, cells, *arguments)

    monkeypatch.setattr(curved_loops.CurvedLoops, "_land_others", counted)
    g = drawn(weights, 2, 1.0)
    found, expected = stepped(looped, weights, g, step), stepped(plain, weights, g, step)
    assert torch.allclose(found[1]["w"], expected[1]["w"], rtol=1e-9, atol=1e-9)
    assert left in ([], [7])
    again = affinet.plan([affinet.weights({"w": (CELLS, 2, 2)}).w.det() == 1.0] * 2)
    (twice,) = again.blocks
    looped, plain = kernels(twice, weights)
    found, expected = stepped(looped, weights, g, step), stepped(plain, weights, g, step)
    assert torch.allclose(found[1]["w"], expected[1]["w"], rtol=1e-9, atol=1e-9)
    assert set(left) >= set(range(CELLS))
