"""Laws 2 and 8: the nearest point, again and again the same, whatever the order and the scale of the rules.

Every law meets every case in every dtype, each dtype by one of the two paths (`tests/contract/tables.py`): half of the
laws by the one, half by the other. The nearest point is compared in float64, where a wrong plan shows most, by both.
What plans anew is planned by both paths, in float64 alone: the dtype comes after planning.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet.blocks.bordered import Bordered
from affinet.blocks.sparse import Sparse
from affinet.kernels.torch.sparse_kernel import SparseKernel
from tests.contract.building import (
    DOUBLE,
    PATHS,
    PRECISIONS,
    Precision,
    conditioning_of,
    directions_of,
    distance,
    flat,
    oracle_of,
    plain,
    plan_along,
    plan_of,
    rules_of,
    tensors_of,
)
from tests.contract.case import EVERY_WAY, Case
from tests.contract.cases import CASES
from tests.contract.tables import each_row, rows
from tests.kernels.judging import apart, missed, moved_again
from tests.limits import planned

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_path = pytest.mark.parametrize("path", PATHS)
each_precision = pytest.mark.parametrize("precision", PRECISIONS, ids=str)
BY_TURNS = rows(PATHS, PRECISIONS)
OTHER_TURNS = rows(PATHS[::-1], PRECISIONS)
each_dtype = each_row("case, path, precision", BY_TURNS)
each_dtype_the_other_way = each_row("case, path, precision", OTHER_TURNS)
each_dtype_and_both_paths_in_double = each_row(
    "case, path, precision",
    [*BY_TURNS, *(row for row in OTHER_TURNS if row[2] is DOUBLE and EVERY_WAY not in row[0].tags)],
)


@each_dtype_and_both_paths_in_double
def test_the_projection_is_the_nearest_feasible_point(case: Case, path: str, precision: Precision) -> None:
    weights = tensors_of(case, "far", precision.dtype)
    plan, condition = plan_of(case.name, path), directions_of(case.name)[0]
    projected = plan.projector(weights).project(weights)
    assert missed(plan, projected, condition) <= 1.0
    wanted = oracle_of(case.name).project(plain(weights))
    assert apart(plan, projected, wanted, weights, condition=condition) <= 1.0


@each_dtype_the_other_way
def test_projecting_twice_moves_by_rounding_only(case: Case, path: str, precision: Precision) -> None:
    weights = tensors_of(case, "far", precision.dtype)
    projector = plan_of(case.name, path).projector(weights)
    once = projector.project(weights)
    assert moved_again(projector.plan, once, projector.project(once), of_solving(case, projector.plan)) <= 1.0


def of_solving(case: Case, plan: affinet.Plan) -> float:
    """The condition number of the equations where some are solved for, 1 where all are orthonormal rows."""
    solved = any(isinstance(block, Sparse | Bordered) for block in plan.blocks)
    return max(1.0, directions_of(case.name)[0]) if solved else 1.0


def allowed(case: Case, precision: Precision) -> float:
    """How far tangent parts may be from the oracle's, over the largest entry: rounding of the dtype, and of float64.

    An entry takes √n u of the sums and √m u of the rows, m ≤ n of which nearly all cases have at most 60: 16 u. Twice
    that leaves room to stray. The factor adds the condition number 16 times: √m √n of the small cells that have one.
    """
    return precision.near * precision.spacing + 16 * conditioning_of(case.name)


@each_dtype
def test_the_tangent_is_the_oracles(case: Case, path: str, precision: Precision) -> None:
    gradients = tensors_of(case, "gradients", precision.dtype)
    projected = plain(plan_of(case.name, path).projector(gradients).tangent(gradients))
    oracle = oracle_of(case.name)
    wanted, size = oracle.tangent(plain(gradients)), max(float(g.abs().max()) for g in gradients.values())
    for name in case.shapes:
        if name in wanted:
            assert np.abs(projected[name] - wanted[name]).max() <= allowed(case, precision) * size
    across = np.abs(oracle.matrix @ flat(oracle, projected))
    assert across.max(initial=0.0) <= allowed(case, precision) * np.sqrt(oracle.matrix.shape[1]) * size


@each_case
@each_path
def test_the_tangent_projector_is_symmetric_and_idempotent(case: Case, path: str) -> None:
    u, v = tensors_of(case, "first"), tensors_of(case, "second")
    projector = plan_of(case.name, path).projector(u)
    pu, pv = projector.tangent(u), projector.tangent(v)
    products = [sum(float((a[name] * b[name]).sum()) for name in u) for a, b in ((pu, v), (u, pv))]
    size = sum(float(u[name].abs().flatten() @ v[name].abs().flatten()) for name in u)
    assert abs(products[0] - products[1]) <= allowed(case, DOUBLE) * size
    assert distance(plain(projector.tangent(pu)), plain(pu), plain(u)) <= allowed(case, DOUBLE)


@each_dtype_the_other_way
def test_projecting_leaves_its_input_and_entries_in_no_rule(case: Case, path: str, precision: Precision) -> None:
    weights = tensors_of(case, "far", precision.dtype)
    before = {name: tensor.clone() for name, tensor in weights.items()}
    projector = plan_of(case.name, path).projector(weights)
    outcomes = (projector.project(weights), projector.tangent(weights))
    oracle = oracle_of(case.name)
    untouched = ~(oracle.matrix != 0).any(axis=0)
    starts = dict(zip([p.name for p in oracle.layout.parameters], oracle.layout.starts, strict=True))
    for name, tensor in weights.items():
        assert torch.equal(tensor, before[name])
        size = tensor.numel()
        outside = untouched[starts[name] : starts[name] + size] if name in starts else np.ones(size, bool)
        for outcome in outcomes:
            assert outcome[name].dtype == precision.dtype
            assert torch.equal(outcome[name].reshape(-1)[outside], tensor.reshape(-1)[outside])


@each_dtype
def test_violations_are_the_oracles(case: Case, path: str, precision: Precision) -> None:
    weights = tensors_of(case, "far", precision.dtype)
    found = plan_of(case.name, path).projector(weights).violation(weights)
    wanted = oracle_of(case.name).violation(plain(weights))
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-12)


@each_case
@each_path
def test_the_order_of_rules_changes_the_projection_by_rounding_only(case: Case, path: str) -> None:
    assert_same_projection(case, plan_along(path, rules_of(case)[::-1]))


@each_case
@each_path
def test_scaling_rules_changes_the_projection_by_rounding_only(case: Case, path: str) -> None:
    scales = (1e-7, -3.0, 1e6)
    scaled = plan_along(path, [scales[k % 3] * rule.expression == 0 for k, rule in enumerate(rules_of(case))])
    assert_same_projection(case, scaled)


@each_case
@each_path
def test_saying_rules_twice_changes_the_projection_by_rounding_only(case: Case, path: str) -> None:
    rules = rules_of(case)
    twice = plan_along(path, [*rules, *(3.0 * rule.expression == 0 for rule in rules)])
    assert_same_projection(case, twice)


def assert_same_projection(case: Case, plan: affinet.Plan) -> None:
    assert (plan.rank, plan.free) == (case.rank, case.free)
    weights = tensors_of(case, "far")
    projector, oracle = plan.projector(weights), oracle_of(case.name)
    wanted, condition = oracle.project(plain(weights)), directions_of(case.name)[0]
    assert apart(plan, projector.project(weights), wanted, weights, condition=condition) <= 1.0


@each_precision
@pytest.mark.parametrize("solver", ["factor", "conjugate gradients"])
def test_a_large_component_is_solved_both_ways(precision: Precision, solver: str) -> None:
    limits = {} if solver == "factor" else {"largest_fill": 0}
    name = "large irregular component"
    case = next(case for case in CASES if case.name == name)
    weights = tensors_of(case, "far", precision.dtype)
    projector, oracle = planned(rules_of(case), **limits).projector(weights), oracle_of(name)
    (kernel,) = (k for k in projector.kernels(weights) if isinstance(k, SparseKernel))
    assert (kernel._factor is None) == (solver == "conjugate gradients")
    projected, before = projector.project(weights), plain(weights)
    # Iterations stop at an eighth of a spacing of float64, which counts where rules are dependent; here none are.
    plan, conditioning = projector.plan, directions_of(name)[0]
    assert missed(plan, projected, conditioning) <= 1.0
    assert apart(plan, projected, oracle.project(before), weights, condition=conditioning) <= 1.0
    along = projector.tangent(weights)
    assert apart(plan, along, oracle.tangent(before), weights, condition=conditioning) <= 1.0
    again = projector.project(projected)
    assert moved_again(projector.plan, projected, again, of_solving(case, plan)) <= 1.0
