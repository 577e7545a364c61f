"""Many dense equations over many entries: feasible and nearest to the rounding of the weights' own dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.kernels.torch.wide import WideKernel
from affinet.plans.plan import Plan
from tests.kernels.judging import apart

ROWS, ENTRIES = 40, 30_000
DRAW = np.random.default_rng(0)
A = DRAW.standard_normal((ROWS, ENTRIES)) * np.logspace(-4, 4, ROWS)[:, None]
B = A @ DRAW.standard_normal(ENTRIES)
W: Any = affinet.weights({"a": (100, 200), "b": (200, 60)})


@pytest.fixture(scope="module")
def plan() -> Plan:
    return affinet.plan([families.linear([W.a, W.b[:, :50]], A, B)])


def weights(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=draw).to(dtype) for name, shape in (("a", (100, 200)), ("b", (200, 60)))}


def flat(values: dict[str, torch.Tensor]) -> np.ndarray:
    parts = (values["a"].flatten(), values["b"][:, :50].flatten())
    return np.concatenate([part.double().numpy() for part in parts])


def assert_nearest(plan: Plan, found: dict[str, torch.Tensor], given: dict[str, torch.Tensor], b: np.ndarray) -> None:
    """A is random and wide, and so has a condition number below 2."""
    wanted = {name: x.double() for name, x in given.items()}
    pieces = nearest(flat(given), b)
    wanted["a"] = torch.from_numpy(pieces[:20_000].reshape(100, 200))
    wanted["b"] = torch.cat([torch.from_numpy(pieces[20_000:].reshape(200, 50)), wanted["b"][:, 50:]], dim=1)
    assert apart(plan, found, wanted, given, condition=2.0) <= 1.0


def nearest(w: np.ndarray, b: np.ndarray) -> np.ndarray:
    scale = np.linalg.norm(A, axis=1)
    even = A / scale[:, None]
    return np.asarray(w - even.T @ np.linalg.solve(even @ even.T, even @ w - b / scale))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_it_is_the_projection_in_the_dtype_of_the_weights(plan: Plan, dtype: torch.dtype) -> None:
    given, spacing = weights(dtype), float(torch.finfo(dtype).eps)
    projector = plan.projector(given)
    (kernel,) = projector.kernels(given)
    assert isinstance(getattr(kernel, "kernel", kernel), WideKernel)
    assert kernel.read(given).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    done, along = projector.project(given), projector.tangent(given)
    for found, b in ((done, B), (along, np.zeros(ROWS))):
        assert_nearest(plan, found, given, b)
        assert torch.equal(found["b"][:, 50:], given["b"][:, 50:])
    # Storing is half a spacing. Random numbers of n terms sum to √n of one of them on the way, so that n sums of this
    # size round by √n √n u of one number, which is u of Σ|a_j w_j|: another half.
    gap = np.abs(A @ flat(done) - B) / (np.abs(A) @ np.abs(flat(done)) + np.abs(B))
    assert gap.max() <= spacing


def test_a_thousand_small_moves_do_not_drift(plan: Plan) -> None:
    given = plan.projector(weights(torch.float32)).project(weights(torch.float32))
    projector = plan.projector(given)
    draw = torch.Generator().manual_seed(2)
    for _ in range(1_000):
        for w in given.values():
            w.add_(torch.randn(w.shape, generator=draw), alpha=1e-3)
        projector.project_(given)
    gap = np.abs(A @ flat(given) - B) / (np.abs(A) @ np.abs(flat(given)) + np.abs(B))
    assert gap.max() <= float(torch.finfo(torch.float32).eps)  # half of storing and half of sums, as above


def test_matrix_products_that_are_shortened_do_not_reach_it(plan: Plan) -> None:
    given = weights(torch.float32)
    torch.set_float32_matmul_precision("medium")
    try:
        found = plan.projector(given).project(given)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert_nearest(plan, found, given, B)


def test_one_weight_in_float64_makes_the_whole_component_so(plan: Plan) -> None:
    given = {**weights(torch.float32), "b": weights(torch.float64)["b"]}
    found = plan.projector(given).project(given)
    assert found["a"].dtype == torch.float32
    assert_nearest(plan, found, given, B)


def test_in_a_metric_it_is_the_dense_solve(plan: Plan) -> None:
    given = weights(torch.float64)
    metric = {name: 0.1 + w.abs() for name, w in given.items()}
    projector = plan.projector(given)
    found = {name: w.clone() for name, w in given.items()}
    projector.project_in_metric_(found, metric)
    scale = np.linalg.norm(A, axis=1)
    even, ease = A / scale[:, None], 1.0 / flat(metric)
    w = flat(given)
    wanted = w - ease * (even.T @ np.linalg.solve((even * ease) @ even.T, even @ w - B / scale))
    np.testing.assert_allclose(flat(found), wanted, atol=1e-10)


def test_a_missing_gradient_counts_as_zero(plan: Plan) -> None:
    given = weights(torch.float64)
    gradients: dict[str, torch.Tensor | None] = {"a": given["a"].clone(), "b": None}
    plan.projector(given).project_gradients_(gradients, given, {})
    zeros = {**given, "b": torch.zeros_like(given["b"])}
    assert gradients["a"] is not None
    wanted = nearest(flat(zeros), np.zeros(ROWS))[:20_000].reshape(100, 200)
    np.testing.assert_allclose(gradients["a"].numpy(), wanted, atol=1e-11)


@pytest.mark.parametrize("spread", [1e-3, 1e-7, 0.0], ids=["near", "nearer than a Gram matrix shows", "the same"])
def test_nearly_equal_equations_are_factored_as_exactly(spread: float) -> None:
    matrix = np.array(A[:, :30_000])
    matrix[-1] = matrix[0] + spread * np.linalg.norm(matrix[0]) / np.sqrt(ENTRIES) * DRAW.standard_normal(ENTRIES)
    found = affinet.plan([families.linear([W.a, W.b[:, :50]], matrix, 0)])
    assert found.rank == ROWS - (spread == 0.0)
    (block,) = found.blocks
    basis = block.basis[0]  # type: ignore[union-attr]
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-13)
    even = matrix / np.linalg.norm(matrix, axis=1)[:, None]
    np.testing.assert_allclose(even - (even @ basis.T) @ basis, 0, atol=1e-13)
