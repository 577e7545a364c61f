"""Every kernel against the oracle: dtypes, memory orders, flips, tables, several weights.

Every kind of rules meets every dtype and every memory order, and these each other, not all three at once: how an entry
is found does not depend on its dtype.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.blocks.commuting import Commuting
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within
from tests.oracle import oracle
from tests.pairwise import pairwise

SHAPES = {"a": (5, 6), "s": (6, 6), "t": (3, 4, 5), "b": (6,), "z": (6, 5)}
W: Any = affinet.weights(SHAPES)
MATRIX = np.random.default_rng(0).standard_normal((2, 6))
PATTERN = np.array([[0, 1, 2, 0, 1, 1], [1, 2, 0, 1, 2, 0], [3, 3, 4, 4, 5, 5], [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
CASES: dict[str, tuple[list[Any], type]] = {
    "means": ([W.a.sum(1) == 1], Slices),
    "means with vectors": ([W.a.sum(0) == np.arange(6.0)], Slices),
    "a matrix": ([W.a @ MATRIX.T == 1], Slices),
    "a table of cells": ([affinet.stack([W.a[k].sum() for k in (0, 1, 4)]) == 1], Slices),
    "a table inside cells": ([W.a[:, np.array([0, 1, 4])] @ np.array([1.0, 2, 3]) == 1], Slices),
    "every second entry": ([W.a[::2, 1::2].sum(1) == 1], Slices),
    "interleaved cells": ([affinet.concat([W.a[0], W.a[1]])[:9].reshape(3, 3).sum(0) == 1], Slices),
    "a scalar over a box": ([W.t[1:, ::2, ::3].sum() == 4], Slices),
    "product": ([W.a.sum(1) == 0, W.a.sum(0) == 0], Commuting),
    "product with matrices": ([W.a @ MATRIX.T == 0, np.arange(1.0, 6) @ W.a == 0], Commuting),
    "product of three": ([W.t.sum(0) == 0, W.t.sum(1) == 0, W.t.sum(2) == 0], Commuting),
    "fixed product": (
        [W.a == np.outer(np.arange(5.0), np.ones(6)), W.a @ MATRIX[0] == np.arange(5.0) * MATRIX[0].sum()],
        Commuting,
    ),
    "symmetric": ([families.symmetric(W.s)], Mirror),
    "skew": ([families.skew(W.s)], Mirror),
    "flipped": ([W.s == W.s.flip(0)], Mirror),
    "turned": ([W.s == -W.s.flip((0, 1))], Mirror),
    "middle axis": ([W.t == W.t.flip(2)], Mirror),
    "pairs": ([W.a == 2 * W.z.T + 1], Pairs),
    "small pairs": ([W.a == -0.5 * W.z.T], Pairs),
    "flipped pairs": ([W.b == W.a[2, ::-1]], Pairs),
    "pairs inside": ([W.s[:3] == -W.s[3:]], Pairs),
    "fixed": ([W.b[np.array([1, 4, 5])] == np.array([1.0, 2, 3]), W.a[0, 0] == 2], Fixed),
    "equal ties": ([W.b[0] == W.a[0, 0], W.b[1] == W.a[3, 2]], Ties),
    "ties": ([families.share(W.a, PATTERN), W.b[0] == 2 * W.a[0, 0] + 1], Ties),
    "dense": ([W.a[0].sum() + W.b[2:].sum() == 1, W.a[0, 2] + 3 * W.b[1] - W.z[1, 1] == 2], Dense),
    "dense over ties": ([W.a[0, :4].sum() + W.b[0] == 1, W.a[0, 1] == 2 * W.z[0, 0], W.a[0, 2] == -W.b[1]], Dense),
    "sparse": (
        [families.linear([W.b, W.a], np.random.default_rng(3).integers(0, 3, (9, 36)) * 1.0, np.ones(9))],
        Sparse,
    ),
}
MEMORY = ("row-major", "transposed", "inside", "offset")
DTYPES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 4e-2}


@cache
def planned(name: str) -> Plan:
    rules, kind = CASES[name]
    terms = kind in (Commuting, Mirror, Pairs) or name in ("a scalar over a box", "a table inside cells")
    system = System.of(rules)
    limits = {"one_by_one": 0} if terms else {"dense_rows": 2} if kind is Sparse else {}
    plan = plan_within(system, **limits)
    assert any(isinstance(block, kind) for block in plan.blocks), [type(block) for block in plan.blocks]
    return plan


def tensors(dtype: torch.dtype, memory: str = "row-major") -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    found = {name: torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for name, shape in SHAPES.items()}
    match memory:
        case "transposed":
            return {name: x.mT.contiguous().mT if x.ndim > 1 else x for name, x in found.items()}
        case "inside":
            return {name: torch.stack([x, x], -1)[..., 1] for name, x in found.items()}
        case "offset":
            return {name: torch.cat([x.new_zeros(3), x.flatten()])[3:].view(x.shape) for name, x in found.items()}
    return found


def plain(values: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: x.double().numpy() for name, x in values.items()}


@pytest.mark.parametrize(("case", "dtype", "memory"), pairwise(CASES, DTYPES, MEMORY), ids=str)
def test_kernels_agree_with_the_oracle(case: str, dtype: torch.dtype, memory: str) -> None:
    plan, given = planned(case), tensors(dtype, memory)
    truth, projector = oracle(plan.system), plan.projector(given)
    for found, wanted in (
        (projector.project(given), truth.project(plain(given))),
        (projector.tangent(given), truth.tangent(plain(given))),
    ):
        for name, values in wanted.items():
            size = max(1.0, float(np.abs(values).max()))
            np.testing.assert_allclose(plain(found)[name], values, rtol=0, atol=DTYPES[dtype] * size)
    in_place = {name: x.clone() for name, x in given.items()}
    projector.project_(in_place, passes=2)
    again = projector.project(given)
    assert all(torch.equal(in_place[name], again[name]) for name in given)


@pytest.mark.parametrize("case", CASES)
def test_projecting_gradients_is_the_tangent_with_missing_ones_as_zero(case: str) -> None:
    plan, given = planned(case), tensors(torch.float64)
    truth, projector = oracle(plan.system), plan.projector(given)
    names = [p.name for p in plan.parameters]
    for missing in (None, *names):
        gradients: dict[str, Any] = {name: None if name == missing else given[name].clone() for name in SHAPES}
        projector.project_gradients_(gradients, given, {})
        zeros = {name: given[name].numpy() * (name != missing) for name in SHAPES}
        for name, values in truth.tangent(zeros).items():
            if name == missing:
                assert gradients[name] is None
            elif len(names) > 1 or missing is None:
                np.testing.assert_allclose(gradients[name].numpy(), values, atol=1e-10)


@pytest.mark.parametrize(("case", "dtype", "path"), pairwise(CASES, DTYPES, [0, 65_536]), ids=str)
def test_violations_are_the_oracles(case: str, dtype: torch.dtype, path: int) -> None:
    plan, given = plan_within(System.of(CASES[case][0]), one_by_one=path), tensors(dtype)
    found, wanted = plan.projector(given).violation(given), oracle(plan.system).violation(plain(given))
    assert list(found) == list(wanted)
    assert list(found.values()) == pytest.approx(list(wanted.values()), rel=1e-9 if path else 1e-5, abs=1e-9)


def test_cells_that_are_no_strided_box_are_measured_too() -> None:
    w = affinet.weights({"v": (20,)})
    plan = plan_within(System.of([w.v[0:5:4] + w.v[1:6:4] + 2 * w.v[6:11:4] == 1]), one_by_one=0)
    given = {"v": torch.arange(20, dtype=torch.float64)}
    (found,) = plan.projector(given).violation(given).values()
    assert found == 4 + 5 + 2 * 10 - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("equal", [True, False], ids=["one size", "two sizes"])
def test_the_mean_of_a_million_equal_numbers_is_that_number(dtype: torch.dtype, equal: bool) -> None:
    n = 1_000_000
    w = affinet.weights({"v": (n,), "u": (3,)})
    rules = [w.v[np.arange(1, n)] == w.v[np.zeros(n - 1, int)]] + ([] if equal else [w.u[0] == w.u[1]])
    system = System.of(rules)
    plan = plan_within(system, one_by_one=10**9)
    assert isinstance(plan.blocks[-1], Ties)
    value = torch.full((n,), 0.1, dtype=dtype)
    found = plan.projector({"v": value, "u": value[:3]}).project({"v": value, "u": value[:3]})
    assert torch.equal(found["v"], value)
