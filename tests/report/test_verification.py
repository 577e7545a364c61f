"""Verdicts against the dense oracle, whatever the dtype and in however many pieces the terms are read.

Both laws meet every case, and a case every dtype in one of them: a verdict is computed in float64 whatever the dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
import torch

import affinet
from affinet.analysis import rule_values
from affinet.analysis.rule_values import COARSE_ROUNDINGS, ROUNDINGS, Rounding, Weight
from affinet.errors import TooLargeError
from affinet.language.affine import Affine
from affinet.language.constants import EXACT
from affinet.language.expression import Expression
from affinet.language.origin import WrittenEquation
from affinet.language.wording import Word
from affinet.report.verification import Verdict, verify
from affinet.system.layout import Layout
from affinet.system.system import Rule, System
from affinet.system.tolerance import Tolerance
from tests.contract.building import PRECISIONS, Precision, flat, oracle_of, plain, plan_of, tensors_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.tables import each_row
from tests.pairwise import pairwise

each_case = pytest.mark.parametrize("case", CASES, ids=str)
TABLE = pairwise(("off", "projected"), CASES, PRECISIONS)


def weight_of(tensor: torch.Tensor) -> Weight:
    about = torch.finfo(tensor.dtype)
    return Weight(tensor.double().reshape(-1).numpy(), Rounding(about.eps, about.smallest_normal * about.eps))


def verdicts(system: affinet.Plan, tensors: Mapping[str, torch.Tensor]) -> dict[str, Verdict]:
    asked: list[frozenset[str]] = []

    @cache
    def weights(names: frozenset[str]) -> dict[str, Weight]:
        asked.append(names)
        return {name: weight_of(tensors[name]) for name in names}

    found = {verdict.name: verdict for verdict in verify(system.system, weights)}
    assert all(names <= {p.name for p in system.parameters} for names in asked)
    return found


@each_row("case, precision", [row[1:] for row in TABLE if row[0] == "off"])
def test_weights_off_the_rules_are_as_far_as_the_oracle_says(case: Case, precision: Precision) -> None:
    weights = tensors_of(case, "far", precision.dtype)
    found = verdicts(plan_of(case.name, "equations"), weights)
    oracle = oracle_of(case.name)
    w = flat(oracle, plain(weights))
    gap = np.abs(oracle.matrix @ w - oracle.rhs)
    size = np.abs(oracle.matrix) @ np.abs(w) + np.abs(oracle.rhs)
    shares = gap / np.where(size > 0, size, 1.0) / precision.spacing
    first = 0
    for name, value in oracle.violation(plain(weights)).items():
        rows = slice(first, first + found[name].equations)
        first = rows.stop
        assert found[name].largest == pytest.approx(value, rel=1e-9, abs=1e-12)
        # Coefficients that cancel within an equation count in what it rounds, and the oracle has added them up.
        assert found[name].roundings <= shares[rows].max(initial=0.0) * (1 + 1e-9) + 1e-9
        assert found[name].roundings >= 0.2 * shares[rows].max(initial=0.0) - 8


@each_row("case, precision", [row[1:] for row in TABLE if row[0] == "projected"])
def test_projected_weights_hold(case: Case, precision: Precision) -> None:
    weights = tensors_of(case, "far", precision.dtype)
    plan = plan_of(case.name, "equations")
    projected = {name: tensor.detach() for name, tensor in plan.projector(weights).project(weights).items()}
    found = verdicts(plan, projected)
    # Half of what counts as rounding: weights hold as well where another processor projects or adds them.
    assert all(verdict.roundings <= verdict.bound / 2 for verdict in found.values()), found


@each_case
def test_pieces_add_up(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tensors_of(case, "far")
    whole = verdicts(plan_of(case.name, "equations"), weights)
    monkeypatch.setattr(rule_values, "MOST_PAIRS", 7)
    for name, verdict in verdicts(plan_of(case.name, "equations"), weights).items():
        assert verdict.largest == pytest.approx(whole[name].largest, rel=1e-12, abs=1e-13)
        assert verdict.roundings == pytest.approx(whole[name].roundings, rel=1e-9, abs=8)


def test_a_weight_that_is_off_by_more_than_rounding() -> None:
    plan = affinet.plan(affinet.weights({"w": (3, 100)}).w.sum(dim=1) == 1)
    for dtype, bound in ((torch.float64, ROUNDINGS), (torch.float32, ROUNDINGS), (torch.bfloat16, COARSE_ROUNDINGS)):
        weights = plan.projector(one := {"w": torch.ones(3, 100, dtype=dtype)}).project(one)
        (good,) = verdicts(plan, weights).values()
        weights["w"][1, 7] += 3 * bound * torch.finfo(dtype).eps * 2
        (bad,) = verdicts(plan, weights).values()
        assert (good.holds, bad.holds) == (True, False)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_finite_does_not_hold(number: float) -> None:
    plan = affinet.plan(affinet.weights({"w": (4,)}).w.sum() == 1)
    (verdict,) = verdicts(plan, {"w": torch.full((4,), number)}).values()
    assert not verdict.holds


def test_the_smallest_numbers_hold_as_well_as_they_can() -> None:
    plan = affinet.plan(affinet.weights({"w": (3,)}).w.sum() == 0)
    weights = {"w": torch.tensor([1e-45, -1e-45, 1e-45])}
    (verdict,) = verdicts(plan, weights).values()
    assert verdict.holds


def test_long_sums_of_float64_keep_their_digits() -> None:
    count = 3_000_000
    plan = affinet.plan(affinet.weights({"w": (count,)}).w.sum() == 1)
    (verdict,) = verdicts(plan, {"w": torch.full((count,), 1 / count, dtype=torch.float64)}).values()
    assert verdict.roundings < 2


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (Expression(Affine((2**40,), (), 1.0, EXACT, Word("1"))), "of 1,099,511,627,776 equations"),
        (
            (affinet.weights({"w": (2**35,)}).w.sum() == 1).expression,
            "of 1 equation and 34,359,738,368 pairs of an equation and",
        ),
    ],
    ids=["equations", "pairs"],
)
def test_a_rule_too_large_to_count_is_refused_before_anything_is_read(expression: Expression, told: str) -> None:
    system = System((Rule("large", "large", expression, WrittenEquation()),), Layout(()), Tolerance(2.0**-52))
    with pytest.raises(TooLargeError, match=f'rule "large" {told}'):
        list(verify(system, lambda names: {}))
