"""One large component: a sparse factor and conjugate gradients give one answer, and what falls short says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import affinet
from affinet import families
from affinet.blocks.sparse import Sparse
from affinet.kernels.torch import conjugate_gradients
from affinet.kernels.torch.conjugate_gradients import NormalEquations
from affinet.kernels.torch.sparse_kernel import SparseKernel
from affinet.plans.plan import Plan
from tests.kernels.judging import apart, condition_of
from tests.limits import planned as limited
from tests.oracle import Oracle, oracle

N, M = 60, 90


def system(*, redundant: bool = False) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    matrix = np.zeros((N, M))
    for row in matrix:
        row[draw.choice(M, 4, replace=False)] = draw.uniform(0.5, 2, 4)
    if redundant:
        matrix[-5:] = matrix[:5] + matrix[5:10]
    return matrix, matrix @ draw.standard_normal(M)


def planned(*, redundant: bool = False, **limits: int) -> Plan:
    w: Any = affinet.weights({"a": (9, 5), "b": (45,)})
    plan = limited([families.linear([w.a, w.b], *system(redundant=redundant))], dense_rows=10, **limits)
    assert any(isinstance(block, Sparse) for block in plan.blocks)
    return plan


def weights(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    return {"a": torch.randn(9, 5, dtype=dtype), "b": torch.randn(45, dtype=dtype)}


def solver(plan: Plan, like: dict[str, torch.Tensor]) -> SparseKernel:
    return solver_of(plan.projector(like), like)


def solver_of(projector: Any, like: dict[str, torch.Tensor]) -> SparseKernel:
    (found,) = (k for k in projector.kernels(like) if isinstance(k, SparseKernel))
    return found


def assert_agrees(plan: Plan, truth: Oracle, given: dict[str, torch.Tensor]) -> None:
    arrays = {name: x.double().numpy() for name, x in given.items()}
    projector, condition = plan.projector(given), condition_of(truth)
    for found, wanted in (
        (projector.project(given), truth.project(arrays)),
        (projector.tangent(given), truth.tangent(arrays)),
    ):
        assert apart(plan, found, wanted, given, condition=condition) <= 1.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("largest", [0, 2**25], ids=["conjugate gradients", "factor"])
def test_both_solvers_are_the_oracle(largest: int, dtype: torch.dtype) -> None:
    plan, given = planned(largest_fill=largest), weights(dtype)
    assert (solver(plan, given)._factor is None) == (largest == 0)
    assert_agrees(plan, oracle(plan.system), given)


def test_redundant_rows_that_were_not_sorted_out_are_solved_all_the_same() -> None:
    plan, given = planned(redundant=True, largest_core=3, most_eliminated=0), weights()
    assert solver(plan, given)._factor is None
    assert_agrees(plan, oracle(plan.system), given)


def test_too_few_iterations_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conjugate_gradients, "MOST_ITERATIONS", 3)
    plan, given = planned(largest_fill=0), weights()
    projector = plan.projector(given)
    with pytest.warns(
        affinet.ConvergenceWarning, match=r"stopped after 3 iterations with a residual of .* on a component of 60 equ"
    ) as said:
        moved = projector.project(given)
    told = said[0].message
    assert isinstance(told, affinet.ConvergenceWarning)
    assert (told.iterations, told.equations) == (3, N)
    assert 0.0 < told.bound < told.residual
    assert max(projector.violation(moved).values()) <= 10 * told.residual


def test_steps_start_from_the_last_solution() -> None:
    plan, given = planned(largest_fill=0), weights()
    projector = plan.projector(given)
    kernel = solver_of(projector, given)
    assert kernel._equations is not None
    counts = []
    for scale in (1.0, 1.0, -3.0, 1.0):
        wanted = plan.projector(given).tangent({name: scale * x for name, x in given.items()})
        found = projector.tangent({name: scale * x for name, x in given.items()})
        counts.append(kernel._equations.iterations)
        assert all(torch.allclose(found[name], wanted[name], rtol=0, atol=1e-12) for name in wanted)
    assert max(counts[1:]) <= counts[0] / 4


def test_what_was_solved_before_can_be_forgotten() -> None:
    plan, given = planned(largest_fill=0), weights()
    other = {name: x.flip(0) for name, x in given.items()}
    used, fresh = plan.projector(given), plan.projector(given)
    for _ in range(2):
        used.project(other)
        used.tangent(other)
        assert not all(torch.equal(x, fresh.tangent(given)[name]) for name, x in used.tangent(given).items())
        used.forget()
        fresh.forget()
        for verb in ("project", "tangent"):
            found, wanted = getattr(used, verb)(given), getattr(fresh, verb)(given)
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_start_that_points_nowhere_does_no_harm() -> None:
    plan = planned(largest_fill=0)
    projector, truth = plan.projector(weights()), oracle(plan.system)
    for given in (weights(), {name: torch.zeros_like(x) for name, x in weights().items()}, weights(), weights()):
        found, wanted = projector.tangent(given), truth.tangent({name: x.numpy() for name, x in given.items()})
        assert all(np.allclose(found[name].numpy(), wanted[name], rtol=0, atol=1e-11) for name in wanted)


def test_conjugate_gradients_stop_at_the_rounding_of_the_weights() -> None:
    plan, counts = planned(largest_fill=0), {}
    truth = oracle(plan.system)
    for dtype in (torch.float32, torch.float64):
        given = weights(dtype)
        projector = plan.projector(given)
        kernel = solver_of(projector, given)
        moved = projector.tangent(given)
        assert kernel._equations is not None
        counts[dtype] = kernel._equations.iterations
        wanted = truth.tangent({name: x.double().numpy() for name, x in given.items()})
        assert apart(plan, moved, wanted, given, condition=condition_of(truth)) <= 1.0
    assert counts[torch.float32] < counts[torch.float64]


def test_a_missing_gradient_counts_as_zero() -> None:
    plan, given = planned(), weights()
    gradients: dict[str, torch.Tensor | None] = {"a": given["a"].clone(), "b": None}
    plan.projector(given).project_gradients_(gradients, given, {})
    wanted = oracle(plan.system).tangent({"a": given["a"].numpy(), "b": np.zeros(45)})
    assert gradients["b"] is None
    np.testing.assert_allclose(gradients["a"].numpy(), wanted["a"], atol=1e-10)  # type: ignore[union-attr]


def test_looking_at_the_residual_now_and_then_solves_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, also past the point where nothing is left of the residual."""
    draw = np.random.default_rng(3)
    rows = sparse.random_array((40, 90), density=0.1, rng=draw, format="csr") + sparse.eye_array(40, 90)
    dense = torch.from_numpy(rows.toarray())
    gram = dense @ dense.T
    equations = NormalEquations(dense, dense.T, dense * dense, gram, epsilon=2.0**-52, independent=True)
    gap = torch.from_numpy(draw.standard_normal(40))
    once = equations.solve(gap, float(gap.norm()))
    looks = equations.iterations
    monkeypatch.setattr(conjugate_gradients, "CHEAP_CHECKS", ())
    seldom = equations.solve(gap, float(gap.norm()))
    assert equations.iterations % conjugate_gradients.CHECK_EVERY == 0
    assert equations.iterations - looks < conjugate_gradients.CHECK_EVERY
    assert torch.allclose(gram @ once, gap, atol=1e-12)
    assert torch.allclose(seldom, once, atol=1e-11)
    assert torch.equal(equations.solve(torch.zeros(40, dtype=torch.float64), 1.0), torch.zeros(40, dtype=torch.float64))


@pytest.mark.parametrize("largest", [0, 2**25], ids=["conjugate gradients", "factor"])
def test_both_solvers_project_in_a_metric(largest: int) -> None:
    plan, given = planned(largest_fill=largest), weights()
    assert (solver(plan, given)._factor is None) == (largest == 0)
    metric = {name: 10.0 ** torch.empty_like(x).uniform_(-1, 1) for name, x in given.items()}
    start, size = (np.concatenate([some[name].flatten().numpy() for name in "ab"]) for some in (given, metric))
    matrix, rhs = system()
    root = np.sqrt(size)
    wanted = start - (np.linalg.pinv(matrix / root) @ (matrix @ start - rhs)) / root
    plan.projector(given).project_in_metric_(given, metric)
    found = np.concatenate([given[name].flatten().numpy() for name in "ab"])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)
