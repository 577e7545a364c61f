"""Every plan of the table comes back from a MATLAB file as the same set of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from affinet import Plan
from tests.contract.building import directions_of, numbers, oracle_of, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.kernels.judging import apart


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("column_order", ["row-major", "column-major"])
def test_a_plan_comes_back_as_the_same_set(case: Case, column_order: str, tmp_path: Path) -> None:
    plan, weights = plan_of(case.name, "equations"), numbers(case, "far")
    plan.to_mat(tmp_path / "plan.mat", column_order=column_order)
    again = Plan.from_mat(tmp_path / "plan.mat")
    assert (again.rank, again.parameters) == (plan.rank, plan.parameters)
    truth = oracle_of(case.name)
    if not plan.parameters:
        return
    projected = again.projector(weights).project(weights)
    found, given = ({n: torch.from_numpy(arrays[n]) for n in projected} for arrays in (projected, weights))
    condition = directions_of(case.name)[0]
    # A plan of sparse rows may solve normal equations where this one has orthonormal rows: `apart` squares it for both.
    assert apart(again, found, truth.project(weights), given, condition=condition) <= 1.0


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scipy_reads_the_equations_of_the_oracle(case: Case, tmp_path: Path) -> None:
    plan, truth = plan_of(case.name, "equations"), oracle_of(case.name)
    plan.to_mat(tmp_path / "plan.mat")
    content = scipy.io.loadmat(tmp_path / "plan.mat")
    rows = np.flatnonzero((truth.matrix != 0).any(axis=1))
    matrix, scale = content["A"].toarray(), truth.scale[rows]
    np.testing.assert_allclose(matrix, truth.matrix[rows] * scale[:, None], rtol=1e-15)
    np.testing.assert_allclose(content["b"][:, 0], truth.rhs[rows] * scale, rtol=1e-15, atol=1e-300)
