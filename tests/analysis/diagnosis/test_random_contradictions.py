"""Every random contradictory system is refused with an irreducible set of rules and of equations, by the dense oracle.

`AFFINET_CONTRADICTIONS=10000 pytest tests/analysis/diagnosis/test_random_contradictions.py` tries ten thousand systems
(four minutes of one core); without it a few hundred are tried.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import affinet
from affinet.errors import InfeasibleError
from tests.analysis.diagnosis.contradictory_systems import Dense, contradictory

SYSTEMS = int(os.environ.get("AFFINET_CONTRADICTIONS", "300"))
BATCH = 50


def assert_irreducible(dense: Dense, error: InfeasibleError) -> None:
    """The rules and the equations cannot hold, any fewer can, and the multipliers prove it."""
    assert error.minimal
    assert error.equations
    assert len(set(error.equations)) == len(error.equations) == len(error.multipliers)
    assert {name for name, _ in error.equations} == set(error.rules)
    assert not dense.holds(dense.of_rules(error.rules)), "the rules named can hold"
    for k, name in enumerate(error.rules):
        assert dense.holds(dense.of_rules(error.rules[:k] + error.rules[k + 1 :])), f"{name} is not needed"
    chosen, weights = dense.of_equations(error.equations), np.array(error.multipliers)
    assert not dense.holds(chosen), "the equations named can hold"
    for k, equation in enumerate(error.equations):
        assert dense.holds(np.delete(chosen, k)), f"{equation} is not needed"
    assert np.abs(weights).max() == 1.0
    size = np.abs(weights[:, None] * dense.matrix[chosen]).sum(axis=0)
    assert (np.abs(weights @ dense.matrix[chosen]) <= 1e-9 * size).all(), "the multipliers leave weights over"
    gap = float(weights @ dense.rows.rhs[chosen])
    assert gap > 1e-9 * float(np.abs(weights) @ np.abs(dense.rows.rhs[chosen])), "the multipliers prove nothing"


@pytest.mark.parametrize("first", range(0, SYSTEMS, BATCH))
def test_random_systems_name_an_irreducible_set(first: int) -> None:
    for seed in range(first, min(first + BATCH, SYSTEMS)):
        rules = contradictory(seed)
        with pytest.raises(InfeasibleError, match="cannot hold") as found:
            affinet.plan(rules)
        try:
            assert_irreducible(Dense(rules), found.value)
        except AssertionError as wrong:
            raise AssertionError(f"system {seed}: {wrong}\n{found.value}") from None
