"""A small difference between two places of a small cell is none of the rounding of a large one."""

from __future__ import annotations

import numpy as np
import torch

import affinet
from affinet.blocks.slices import Slices
from affinet.system.system import System
from tests.kernels.bounds import of_equations
from tests.limits import plan_within


def test_places_that_differ_in_one_cell_are_not_tied_in_all() -> None:
    w = affinet.weights({"a": (2, 3)})
    system = System.of(w.a @ np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, 1.0]]) == np.array([[1e-9, 1.0], [0.0, 1e12]]))
    plan = plan_within(system, one_by_one=0)
    assert [type(block) for block in plan.blocks] == [Slices]
    given = {"a": torch.zeros(2, 3, dtype=torch.float64)}
    found = plan.projector(given).project(given)["a"]
    first = found[0].numpy()
    matrix, rhs = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 1.0]]), np.array([1e-9, 1.0])
    assert (np.abs(matrix @ first - rhs) <= of_equations(matrix, first, rhs)).all()
