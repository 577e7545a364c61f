"""The projector for NumPy arrays on every case: laws 1, 2, 5 and 6, and agreement with the kernels of torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

import affinet
from affinet.kernels.arrays import ArrayProjector
from tests.contract.building import (
    DOUBLE,
    PATHS,
    SINGLE,
    Precision,
    directions_of,
    flat,
    infeasibility,
    numbers,
    oracle_of,
    plan_of,
)
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.tables import each_row, rows
from tests.contract.test_projections import allowed, of_solving
from tests.kernels.judging import apart, missed, moved_again

Arrays = Mapping[str, np.ndarray]

each = each_row("case, path, precision", rows(PATHS, (DOUBLE, SINGLE)))
each_case = each_row("case, path", rows(PATHS))


def arrays_of(case: Case, purpose: str, precision: Precision) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, str(precision)) for name, values in numbers(case, purpose).items()}


def tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in arrays.items()}


def projector_of(case: Case, path: str, arrays: Arrays) -> ArrayProjector:
    found = plan_of(case.name, path).projector(arrays or {"none of the rules": np.zeros(1)})
    assert isinstance(found, ArrayProjector)
    return found


@each
def test_projections_are_the_oracles_and_those_of_tensors(case: Case, path: str, precision: Precision) -> None:
    weights = arrays_of(case, "far", precision)
    before = {name: array.copy() for name, array in weights.items()}
    plan, condition = plan_of(case.name, path), directions_of(case.name)[0]
    projected = projector_of(case, path, weights).project(weights)
    given, found = tensors(weights), tensors(projected)
    assert missed(plan, found, condition) <= 1.0
    assert apart(plan, found, oracle_of(case.name).project(weights), given, condition=condition) <= 1.0
    assert apart(plan, found, plan.projector(given).project(given), given, condition=condition) <= 1.0
    again = tensors(projector_of(case, path, weights).project(projected))
    assert moved_again(plan, found, again, of_solving(case, plan)) <= 1.0
    assert_ties_are_bit_equal(case, projected)
    assert_untouched(case, weights, before, projected)


@each
def test_tangents_are_the_oracles(case: Case, path: str, precision: Precision) -> None:
    gradients = arrays_of(case, "gradients", precision)
    before = {name: array.copy() for name, array in gradients.items()}
    along, truth = projector_of(case, path, gradients).tangent(gradients), oracle_of(case.name)
    size = max(float(np.abs(array).max(initial=0.0)) for array in gradients.values())
    for name, wanted in truth.tangent(gradients).items():
        assert np.abs(along[name] - wanted).max(initial=0.0) <= allowed(case, precision) * size
    across = np.abs(truth.matrix @ flat(truth, along))
    assert across.max(initial=0.0) <= allowed(case, precision) * np.sqrt(truth.matrix.shape[1]) * size
    assert_ties_are_bit_equal(case, along)
    assert_untouched(case, gradients, before, along)


@each_case
def test_the_tangent_projector_is_symmetric(case: Case, path: str) -> None:
    u, v = (arrays_of(case, purpose, DOUBLE) for purpose in ("first", "second"))
    projector = projector_of(case, path, u)
    pu, pv = projector.tangent(u), projector.tangent(v)
    products = [sum(float((a[name] * b[name]).sum()) for name in u) for a, b in ((pu, v), (u, pv))]
    size = sum(float((np.abs(u[name]) * np.abs(v[name])).sum()) for name in u)
    assert abs(products[0] - products[1]) <= allowed(case, DOUBLE) * size


@each
def test_violations_and_multipliers_are_those_of_tensors(case: Case, path: str, precision: Precision) -> None:
    weights = arrays_of(case, "far", precision)
    given, plan = tensors(weights), plan_of(case.name, path)
    projector = projector_of(case, path, weights)
    violations = projector.violation(weights)
    wanted = oracle_of(case.name).violation(weights)
    assert list(violations) == list(wanted)
    for name, value in wanted.items():
        assert violations[name] == pytest.approx(value, rel=1e-9, abs=1e-12)
    by_tensors = plan.projector(given)
    multipliers = by_tensors.multipliers(given)
    for name, found in projector.multipliers(weights).items():
        np.testing.assert_array_equal(found, multipliers[name].numpy())
    assert projector.shared_multipliers() == by_tensors.shared_multipliers()
    # Both norms round by the spacing of the dtype, and so do the entries of P g.
    size = allowed(case, precision) * np.sqrt(max(1, sum(array.size for array in weights.values())))
    assert projector.stationarity(weights) == pytest.approx(by_tensors.stationarity(given), rel=size, abs=size)


def test_projected_weights_are_feasible_as_they_were_written() -> None:
    """The largest equation of the table by its own terms, apart from how rounding is judged by component."""
    case = next(case for case in CASES if case.name == "rows sum to one")
    weights = arrays_of(case, "far", SINGLE)
    projected = projector_of(case, "equations", weights).project(weights)
    assert infeasibility(oracle_of(case.name), projected, SINGLE) <= SINGLE.feasible


def assert_ties_are_bit_equal(case: Case, arrays: Arrays) -> None:
    """Law 5: entries that one equation makes equal or opposite."""
    truth = oracle_of(case.name)
    entries = np.concatenate([np.zeros(0), *(arrays[p.name].ravel() for p in truth.layout.parameters)])
    for row in np.flatnonzero(((truth.matrix != 0).sum(axis=1) == 2) & (truth.rhs == 0)):
        one, other = np.flatnonzero(truth.matrix[row])
        a, b = truth.matrix[row, [one, other]]
        if abs(a) == abs(b):
            assert entries[one] == (-entries[other] if a == b else entries[other])


def assert_untouched(case: Case, given: Arrays, before: Arrays, found: Arrays) -> None:
    """Law 6: what was put in is as it was, and entries in no rule keep their bits and dtype."""
    truth = oracle_of(case.name)
    touched = (truth.matrix != 0).any(axis=0)
    starts = {p.name: start for p, start in zip(truth.layout.parameters, truth.layout.starts, strict=True)}
    for name, array in given.items():
        np.testing.assert_array_equal(array, before[name])
        assert found[name].dtype == array.dtype
        inside = touched[starts[name] : starts[name] + array.size] if name in starts else np.zeros(array.size, bool)
        np.testing.assert_array_equal(found[name].ravel()[~inside], array.ravel()[~inside])


def test_a_plan_without_rules_moves_nothing() -> None:
    given = {"a": np.ones(2)}
    projector = affinet.plan([]).projector(given)
    assert projector.project(given)["a"] is given["a"]
    assert (projector.violation(given), projector.stationarity(given)) == ({}, 0.0)
