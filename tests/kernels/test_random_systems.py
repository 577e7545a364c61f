"""Random systems of rules: whether they can hold, their rank and their projections are the oracle's, on both paths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affinet.errors import InfeasibleError
from tests.limits import planned
from tests.planning.random_rules import SHAPES, Drawn, feasible, oracle_of, systems, uses

PATHS = {"equations": 65_536, "terms": 0}


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=150)
@given(drawn=systems(), seed=st.integers(0, 3))
def test_plans_of_random_rules_agree_with_the_oracle(path: str, drawn: Drawn, seed: int) -> None:
    dense = oracle_of(drawn.rules)
    if not feasible(dense):
        with pytest.raises(InfeasibleError):
            planned(drawn.rules, one_by_one=PATHS[path])
        return
    plan = planned(drawn.rules, one_by_one=PATHS[path])
    assert plan.rank == dense.rank
    assert plan.size == np.count_nonzero((dense.matrix != 0).any(axis=0))
    assert all((count <= 1).all() for count in uses(plan).values())
    weights = {
        name: torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for name, shape in SHAPES.items()
    }
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    projector = plan.projector(weights)
    for found, wanted in (
        (projector.project(weights), dense.project(arrays)),
        (projector.tangent(weights), dense.tangent(arrays)),
    ):
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name].numpy(), values, rtol=0, atol=1e-10)
    for name, value in dense.violation(arrays).items():
        assert projector.violation(weights)[name] == pytest.approx(value, rel=1e-9, abs=1e-11)
