"""Coefficients that are exactly zero: ranks, touched entries and projections are those of the matrix NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

import affinet
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within
from tests.properties.strategies import examples
from tests.properties.zeros import Sparse, sparse_rules

EPSILON = float(np.finfo(float).eps)


@pytest.mark.parametrize("one_by_one", [0, 65_536], ids=["terms", "equations"])
@examples(60)
@given(drawn=sparse_rules())
def test_a_zero_touches_nothing(one_by_one: int, drawn: Sparse) -> None:
    system = System.of(drawn.rules)
    plan = plan_within(system, one_by_one=one_by_one)
    sizes = np.linalg.svd(drawn.matrix, compute_uv=False) if drawn.matrix.any() else np.zeros(1)
    rank = int((sizes > 1e-9 * sizes[0]).sum())
    touched = drawn.matrix.any(axis=0)
    assert (plan.rows, plan.rank, plan.size) == (len(drawn.matrix), rank, touched.sum())
    assert f"rank {rank:,} " in str(plan)
    draw = np.random.default_rng(0)
    weights = {name: torch.from_numpy(draw.standard_normal(shape)) for name, shape in drawn.shapes.items()}
    start = torch.cat([values.reshape(-1) for values in weights.values()]).numpy()
    wanted = start - np.linalg.pinv(drawn.matrix, rcond=1e-9) @ (drawn.matrix @ start - drawn.rhs)
    # Both pinv and the kernels solve with factors whose rounding the condition number magnifies, and the relative
    # size of the coefficients of one equation (at most 2·3·4 of them, of up to 100) once more.
    condition = float(sizes[0] / sizes[rank - 1]) if rank else 1.0
    allowed = 1e3 * EPSILON * condition * (1.0 + np.linalg.norm(start) + np.linalg.norm(drawn.rhs))
    projector = plan.projector(weights)
    found = {**weights, **projector.project(weights)}
    flat = torch.cat([found[name].reshape(-1) for name in drawn.shapes]).numpy()
    assert np.abs(flat - wanted).max() <= allowed
    assert (flat[~touched] == start[~touched]).all()
    gaps = np.split(np.abs(drawn.matrix @ start - drawn.rhs), np.cumsum(drawn.counts)[:-1])
    for gap, told in zip(gaps, projector.violation(weights).values(), strict=False):
        assert told == pytest.approx(gap.max(), abs=allowed * 100)
    _explained(plan, touched, drawn)


def _explained(plan: Plan, touched: np.ndarray, drawn: Sparse) -> None:
    """Every touched entry is explained by rules."""
    names = [(name, place) for name, shape in drawn.shapes.items() for place in np.ndindex(shape)]
    for (name, place), used in zip(names, touched, strict=True):
        if used:
            assert str(affinet.explain(plan, f"{name}[{', '.join(map(str, place))}]"))
