"""Sums over other entries than the cells of a mirrored box are no sums of the mirrored one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.system.system import System
from tests.limits import plan_within
from tests.oracle import oracle


@pytest.mark.parametrize("shift", [0, 1])
def test_a_box_beside_the_mirror_is_not_taken_for_it(shift: int) -> None:
    w = affinet.weights({"a": (5, 6)})
    system = System.of([families.symmetric(w.a[:, :5]), w.a[:, shift : shift + 5].sum(1) == 1])
    plan, truth = plan_within(system, one_by_one=0), oracle(system)
    assert plan.rank == truth.rank
    given = {"a": torch.randn(5, 6, dtype=torch.float64)}
    wanted = truth.project({"a": given["a"].numpy()})["a"]
    np.testing.assert_allclose(plan.projector(given).project(given)["a"].numpy(), wanted, rtol=0, atol=1e-12)


def test_rows_from_a_list_are_no_loop_of_the_mirror() -> None:
    w = affinet.weights({"a": (6, 6)})
    system = System.of([families.symmetric(w.a), w.a[[0, 1, 3]].sum(1) == 1])
    plan, truth = plan_within(system, one_by_one=0), oracle(system)
    assert plan.rank == truth.rank
    given = {"a": torch.randn(6, 6, dtype=torch.float64)}
    wanted = truth.project({"a": given["a"].numpy()})["a"]
    np.testing.assert_allclose(plan.projector(given).project(given)["a"].numpy(), wanted, rtol=0, atol=1e-12)
