"""One large component: a sparse factor and conjugate gradients give one answer, and what falls short says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.kernels.reference import Oracle, oracle
from affinet.kernels.torch import components as kernels
from affinet.structure import components, peeling
from affinet.structure.blocks import Sparse
from affinet.structure.plan import Plan

N, M = 60, 90


def system(*, redundant: bool = False) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    matrix = np.zeros((N, M))
    for row in matrix:
        row[draw.choice(M, 4, replace=False)] = draw.uniform(0.5, 2, 4)
    if redundant:
        matrix[-5:] = matrix[:5] + matrix[5:10]
    return matrix, matrix @ draw.standard_normal(M)


def planned(monkeypatch: pytest.MonkeyPatch, **options: bool) -> Plan:
    monkeypatch.setattr(components, "MOST_DENSE_ROWS", 10)
    w: Any = affinet.weights({"a": (9, 5), "b": (45,)})
    plan = affinet.plan([families.linear([w.a, w.b], *system(**options))])
    assert any(isinstance(block, Sparse) for block in plan.blocks)
    return plan


def weights(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    return {"a": torch.randn(9, 5, dtype=dtype), "b": torch.randn(45, dtype=dtype)}


def solver(plan: Plan, like: dict[str, torch.Tensor]) -> kernels.SparseKernel:
    (found,) = (k for k in plan.projector(like).kernels(like) if isinstance(k, kernels.SparseKernel))
    return found


def assert_agrees(plan: Plan, truth: Oracle, given: dict[str, torch.Tensor], near: float) -> None:
    arrays = {name: x.double().numpy() for name, x in given.items()}
    projector = plan.projector(given)
    for found, wanted in (
        (projector.project(given), truth.project(arrays)),
        (projector.tangent(given), truth.tangent(arrays)),
    ):
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name].double().numpy(), values, rtol=0, atol=near)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("largest", [0, 20_000], ids=["conjugate gradients", "factor"])
def test_both_solvers_are_the_oracle(
    largest: int, dtype: torch.dtype, near: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "LARGEST_FACTOR", largest)
    plan, given = planned(monkeypatch), weights(dtype)
    assert (solver(plan, given)._factor is None) == (largest == 0)
    assert_agrees(plan, oracle(plan.system), given, near)


def test_redundant_rows_that_were_not_sorted_out_are_solved_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peeling, "LARGEST_CORE", 3)
    plan, given = planned(monkeypatch, redundant=True), weights()
    assert solver(plan, given)._factor is None
    assert_agrees(plan, oracle(plan.system), given, 1e-9)


def test_too_few_iterations_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LARGEST_FACTOR", 0)
    monkeypatch.setattr(kernels, "MOST_ITERATIONS", 3)
    plan, given = planned(monkeypatch), weights()
    with pytest.warns(
        RuntimeWarning, match=r"stopped after 3 iterations with a residual of .* on a component of \d+ equ"
    ):
        plan.projector(given).project(given)


def test_a_missing_gradient_counts_as_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, given = planned(monkeypatch), weights()
    gradients: dict[str, torch.Tensor | None] = {"a": given["a"].clone(), "b": None}
    plan.projector(given).project_gradients_(gradients, given, {})
    wanted = oracle(plan.system).tangent({"a": given["a"].numpy(), "b": np.zeros(45)})
    assert gradients["b"] is None
    np.testing.assert_allclose(gradients["a"].numpy(), wanted["a"], atol=1e-10)  # type: ignore[union-attr]
