"""What scipy.optimize is given for every case: independent equations of the same set, and a basis of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet.scipy
from tests.contract.building import DOUBLE, directions_of, flat, numbers, oracle_of, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.test_projections import allowed
from tests.kernels.judging import apart


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_equations_are_independent_and_leave_the_oracles_directions_free(case: Case) -> None:
    truth, plan = oracle_of(case.name), plan_of(case.name, "equations")
    problem = affinet.scipy.linear_constraints(plan)
    assert problem.A.shape == (case.rank, truth.layout.size)
    assert problem.null_space().free == truth.layout.size - case.rank
    assert (problem.A != 0).sum(axis=1).min(initial=1) > 0
    weights = numbers(case, "far")
    if plan.parameters:
        oracle = truth.project(weights)
        x = problem.to_vector(oracle)
        # The oracle's pseudo-inverse rounds all entries by its condition and by the size of what it was given.
        norms = np.sqrt((problem.A**2).sum(axis=1))
        reach = norms * (np.linalg.norm(x) + np.linalg.norm(flat(truth, weights))) + np.abs(problem.b)
        assert (np.abs(problem.A @ x - problem.b) <= len(x) * allowed(case, DOUBLE) * reach).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_basis_makes_the_oracles_projection(case: Case) -> None:
    """`point + Z Zᵀ (w − point)` is the nearest solution, since Z is orthonormal."""
    truth, plan = oracle_of(case.name), plan_of(case.name, "equations")
    weights = numbers(case, "far")
    problem = affinet.scipy.linear_constraints(plan)
    space = problem.null_space()
    projected = problem.from_vector(space.from_free(space.to_free(problem.to_vector(weights))))
    tensors = {name: torch.from_numpy(array) for name, array in projected.items()}
    given = {name: torch.from_numpy(weights[name]) for name in projected}
    condition = directions_of(case.name)[0]
    assert apart(plan, tensors, truth.project(weights), given, condition=condition) <= 1.0
    identity = (space.basis.T @ space.basis).toarray() - np.eye(space.free)
    assert np.abs(identity).max(initial=0.0) <= DOUBLE.near * DOUBLE.spacing * np.sqrt(len(identity) + 1)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_come_back_from_their_vector(case: Case) -> None:
    weights, plan = numbers(case, "far"), plan_of(case.name, "equations")
    vector = affinet.scipy.to_vector(plan, weights)
    np.testing.assert_array_equal(vector, flat(oracle_of(case.name), weights))
    for name, array in affinet.scipy.from_vector(plan, vector).items():
        np.testing.assert_array_equal(array, weights[name])
