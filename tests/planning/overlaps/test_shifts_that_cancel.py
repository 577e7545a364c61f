"""Ties whose shifts add up to zero: rounding is relative to what was added, not to the zero that came out."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from tests.limits import blocks_within


@pytest.mark.parametrize("k", [10, 20, 30, 50, 100, 256, 1000])
def test_a_tree_of_ties_never_contradicts_itself(k: float) -> None:
    x = affinet.weights({"x": (5,)})["x"]
    sides = (-2.0 * k - 3.0, -2.0, 3.0 * k, 0.0)
    rules = [k * x[1] - x[0] == sides[0], x[1] - x[2] == sides[1], x[3] + k * x[0] == sides[2], x[2] - x[4] == sides[3]]
    plan = affinet.plan(rules)
    assert (plan.rank, plan.free) == (4, 1)


def test_a_tree_across_a_matrix_holds_together() -> None:
    w = affinet.weights({"p": (3, 4), "q": (4, 3), "r": (5,)})
    c = np.array([0, -6, -2, -2, -1, 4, 5, -2, -3, 2, -5, -6.0]).reshape(3, 4)
    rules = [w.p - w.q.T == c, w.r[2] - w.q[0, 0] == -2, 10000 * w.r[2] - w.q[2, 1] == -19998]
    assert affinet.plan(rules).rank == 14
    assert blocks_within(affinet.plan(rules).system, one_by_one=0)


@pytest.mark.parametrize("seed", range(300))
def test_random_trees_with_a_small_integer_solution_hold(seed: int) -> None:
    """Coefficients over seven decades; six of a hundred such trees were refused when zero was compared with zero."""
    draw = np.random.default_rng(seed)
    x = affinet.weights({"x": (7,)})["x"]
    solution = draw.integers(-3, 4, 7)
    rules = []
    for child in range(1, 6):
        parent = int(draw.integers(0, child))
        a, b = draw.choice([1.0, -1.0, 2.0, 0.5, 1e-3, 1e4, 30.0], 2)
        rules.append(a * x[child] + b * x[parent] == a * solution[child] + b * solution[parent])
    rules.append(x[0] + x[3] + x[6] == solution[0] + solution[3] + solution[6])
    assert affinet.plan(rules).rank == 6


def test_a_cycle_that_is_off_is_still_found() -> None:
    x = affinet.weights({"x": (5,)})["x"]
    rules = [30 * x[1] - x[0] == -63, x[1] - x[2] == -2, x[2] - x[1] == 2.000001]
    with pytest.raises(affinet.InfeasibleError):
        affinet.plan(rules)
