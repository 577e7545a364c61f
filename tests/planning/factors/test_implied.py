"""What dense components determine, or make equal or opposite, is exact to the bit, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import affinet
from affinet import families
from affinet.blocks.bordered import Bordered
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.slices import Slices
from affinet.planning.factors.implied import find_implied
from affinet.system.system import System
from affinet.system.tolerance import Tolerance
from tests.limits import blocks_within, plan_within
from tests.oracle import oracle

DRAW = np.random.default_rng(5)
W: Any = affinet.weights({"a": (4, 5), "b": (30,)})


def hidden(value: float) -> tuple[np.ndarray, np.ndarray]:
    """Twelve random equations, two values, an equality and an opposite over 50 entries, rotated into one another."""
    plain = np.zeros((4, 50))
    plain[0, 3] = plain[1, 20] = plain[2, 7] = plain[3, 1] = plain[3, 11] = 1.0
    plain[2, 9] = -1.0
    point = DRAW.standard_normal(50)
    point[3], point[20], point[9], point[11] = 0.0, value, point[7], -point[1]
    matrix = np.linalg.qr(DRAW.standard_normal((16, 16)))[0] @ np.vstack([DRAW.standard_normal((12, 50)), plain])
    return matrix, matrix @ point


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("one_by_one", [0, 65_536])
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_values_and_copies_hidden_in_dense_equations_are_exact(
    dtype: torch.dtype, one_by_one: int, value: float
) -> None:
    system = System.of(families.linear([W.a, W.b], *hidden(value)))
    plan = plan_within(system, one_by_one=one_by_one)
    assert plan.rank == 16
    assert {type(block) for block in plan.blocks} == ({Bordered} if one_by_one == 0 else {Fixed, Dense})
    given = {p.name: torch.tensor(DRAW.standard_normal(p.shape)).to(dtype) for p in plan.parameters}
    found = plan.projector(given).project(given)
    w = torch.cat([found["a"].flatten(), found["b"]])
    assert w[3] == 0
    assert abs(float(w[20]) - value) <= max(torch.finfo(dtype).eps, 1e-14)
    assert (w[7], w[1]) == (w[9], -w[11])
    wanted = oracle(system).project({name: v.double().numpy() for name, v in given.items()})
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name].double().numpy(), values, atol=max(16 * torch.finfo(dtype).eps, 1e-13))


@pytest.mark.parametrize("count", [3, 200])
def test_many_components_of_which_some_determine_an_unknown(count: int) -> None:
    """`c·x + d y == p` and `c·x + e y == q` determine y; every other component of the same form determines nothing."""
    matrix = DRAW.standard_normal((count, 2, 4))
    matrix[::2, 1, :3] = matrix[::2, 0, :3]
    rows = np.arange(2 * count).repeat(4)
    columns = np.broadcast_to(4 * np.arange(count)[:, None, None] + np.arange(4), (count, 2, 4)).ravel()
    said = sparse.csr_array((matrix.ravel(), (rows, columns)), shape=(2 * count, 4 * count))
    w = affinet.weights({"w": (4 * count,)})
    rhs = np.zeros(2 * count)
    rhs[4:] = DRAW.standard_normal(2 * count - 4)
    plan = affinet.plan(families.linear([w["w"]], said, rhs))
    fixed = sum(block.size for block in plan.blocks if isinstance(block, Fixed))
    assert (plan.rank, fixed) == (2 * count, (count + 1) // 2)
    given = {"w": torch.tensor(DRAW.standard_normal(4 * count))}
    found = plan.projector(given).project(given)["w"].numpy()
    wanted = oracle(plan.system).project({"w": given["w"].numpy()})["w"]
    assert found[3] == 0.0
    np.testing.assert_allclose(found, wanted, atol=1e-11)


def test_ties_weigh_what_they_are_tied_to() -> None:
    """`z` of a class of entries is found opposite to another one through equations that carry its weight."""
    w = affinet.weights({"w": (8,)})["w"]
    rules = [w[0] == w[1], w[1] == w[2], w[2] + w[3] + w[4] == 1, w[2] + w[3] + 2 * w[4] == 1, w[5:].sum() + w[4] == 2]
    plan = affinet.plan(rules)
    given = {"w": torch.randn(8, generator=torch.Generator().manual_seed(0))}
    found = plan.projector(given).project(given)["w"]
    assert found[4] == 0
    assert plan.rank == 5
    wanted = oracle(plan.system).project({"w": given["w"].double().numpy()})["w"]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_what_is_nearly_determined_stays_free() -> None:
    w = affinet.weights({"w": (4,)})["w"]
    rows = np.array([[1.0, 1e-9, 0.0, 1e-9], [1.0, 1e-9, 1.0, 1.0]])
    plan = affinet.plan(families.linear([w], rows, [0.0, 1.0]))
    assert not any(isinstance(block, Fixed) for block in plan.blocks)
    assert (plan.rank, plan.free) == (2, 2)


def test_nothing_is_said_by_random_equations() -> None:
    rows = np.linalg.qr(DRAW.standard_normal((3, 9, 5)))[0].transpose(0, 2, 1)
    assert find_implied(rows, np.zeros((3, 5)), np.ones((3, 9)), np.ones(3), 5, Tolerance()) is None


def test_cells_share_what_their_equations_determine_together() -> None:
    """No equation of the rule speaks of one entry; each cell has a value of its own for the last."""
    w = affinet.weights({"w": (3, 4)})["w"]
    matrix, totals = np.array([[1.0, 1, 1, 0], [1, 1, 1, 1], [1, 2, 1, 3]]), DRAW.standard_normal((3, 3))
    totals[1, 1] = totals[1, 0]
    system = System.of(w @ matrix.T == totals)
    (block,) = blocks_within(system, one_by_one=0)
    assert isinstance(block, Slices)
    assert block.pinned.tolist() == [1, 3]
    assert block.values[1, 1] == 0.0
    np.testing.assert_allclose(block.values[:, 1], totals[:, 1] - totals[:, 0], atol=1e-15)


def test_a_row_that_is_little_more_than_others_is_redundant_where_its_rest_is() -> None:
    """What substitution leaves of the last row is 1e-10 of the third one, its digits those of the row as it was."""
    w = affinet.weights({"w": (8,)})["w"]
    third = DRAW.standard_normal(8)
    rows = np.zeros((4, 8))
    rows[0, 0], rows[1, 1], rows[1, 2], rows[2] = 0.3, 1.0, 1.0, third
    rows[3] = -0.8 * rows[0] + 0.15 * rows[1] + 3e-10 * rows[2]
    plan = affinet.plan(families.linear([w], rows, rows @ np.arange(8.0)))
    assert plan.rank == 3


def test_a_row_that_is_little_more_than_others_counts_where_its_rest_does() -> None:
    w = affinet.weights({"w": (8,)})["w"]
    rows = np.zeros((4, 8))
    rows[0, 0], rows[1, 1], rows[1, 2] = 0.3, 1.0, 1.0
    rows[2], rest = DRAW.standard_normal((2, 8))
    rows[3] = -0.8 * rows[0] + 0.15 * rows[1] + 1e-8 * rest
    plan = affinet.plan(families.linear([w], rows, rows @ np.arange(8.0)))
    assert plan.rank == 4


def test_ties_said_twice_agree_up_to_what_their_totals_were_computed_from() -> None:
    w = affinet.weights({"w": (3,)})["w"]
    rules = [w[0] == 1 / 3, w[1] + w[2] == 0]
    rules += [3 * w[0] + 0.7 * (w[1] + w[2]) == 1 + 1e-16, w[1] + w[2] + 0.1 * w[0] == 1 / 30]
    assert affinet.plan(rules).rank == 2


def test_a_border_of_zeros_on_a_base_that_says_so_is_no_contradiction() -> None:
    """Zeros that a base computes are off by the rounding of its other entries."""
    matrix, rhs = hidden(0.7)
    system = System.of([families.linear([W.a, W.b], matrix, rhs), W.a[0, 3] == 0])
    (block,) = blocks_within(system, one_by_one=0)
    assert isinstance(block, Bordered)
    assert block.rank == 16
