"""The violation of inequalities and balls: measured by the projectors for torch and for NumPy, judged by `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import affinet
from affinet import families
from affinet.analysis.rule_values import Rounding, Weight
from affinet.kernels.arrays.array_gaps import ArrayGaps
from affinet.kernels.torch.measuring import Measure
from affinet.language.evaluation import evaluate, violations
from affinet.language.sense import Sense
from affinet.report.verification import verify
from affinet.system.limits import Limits
from affinet.system.stored.planfile import read_system, write_system
from affinet.system.system import System
from tests.planning.random_rules import Drawn, systems

SHAPES = {"a": (4, 6), "b": (6,), "c": (4, 6)}
a, b, c = affinet.weights(SHAPES)
UPPER = np.array([1, np.inf, 0, 0.5, np.inf, 2])
RULES = (
    (a >= 0).named("nonnegative"),
    (a <= UPPER).named("below"),
    (2 * a.sum(dim=1) - c[:, 0] <= 0.25).named("sums"),
    (a.T[:, ::-1] >= 3 * c.T - 1).named("across"),
    (a[[0, 2, 1], [3, 3, 0]] >= 0.5).named("entries"),
    (np.triu(np.ones((6, 6))) @ b >= np.linspace(-1, 1, 6)).named("rows"),
    (b[0] <= 0.1).named("one"),
    (a[0] == b).named("tie"),
    (b.sum() == 1).named("sum"),
    families.monotone(a, dim=0, gap=0.1).named("rising"),
    families.concave(b).named("bent"),
    families.l1_ball(a - 1, 2, dim=1).named("diamond"),
    families.l2_ball(c, [1, 2, 3, 1, 2, 3], dim=0).named("ball"),
    families.l2_ball(b[:0], 1, dim=0).named("of nothing"),
    (b <= np.inf).named("free"),
)


def weights_of(seed: int, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


def expected(weights: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {
        rule.name or "": float(
            violations(evaluate(rule.expression, weights), rule.sense, rule.norm, rule.radius).max(initial=0.0)
        )
        for rule in RULES
    }


def measured(system: System, weights: Mapping[str, np.ndarray]) -> tuple[dict[str, float], dict[str, float]]:
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    flat = {name: value.reshape(-1) for name, value in weights.items()}
    return Measure(system)(tensors), ArrayGaps(system)(flat)


@pytest.mark.parametrize("limits", [Limits(), Limits(one_by_one=0)], ids=["rows", "terms"])
def test_rules_that_hold_have_a_positive_zero(limits: Limits) -> None:
    rules = [x for w in (a, b) for x in (w >= 0, w <= 0, w[0] >= 0, w[0] <= 0, -1 * w >= 0, families.monotone(w))]
    zeros = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for violation in measured(System.of(rules, limits=limits), zeros):
        assert {str(value) for value in violation.values()} == {"0.0"}
    for rule in rules:
        assert not np.signbit(violations(evaluate(rule.expression, zeros), rule.sense)).any()


@pytest.mark.parametrize("limits", [Limits(), Limits(one_by_one=0)], ids=["rows", "terms"])
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([np.float64, np.float32]))
def test_every_rule_is_measured_as_numpy_does(limits: Limits, seed: int, dtype: Any) -> None:
    weights = weights_of(seed, dtype)
    for found in measured(System.of(RULES, limits=limits), weights):
        assert found.keys() == {rule.name for rule in RULES}
        for name, gap in expected(weights).items():
            # sums of at most 12 numbers below 10 in float64, in any order
            assert found[name] == pytest.approx(gap, rel=1e-13, abs=1e-13), name


@pytest.mark.parametrize("limits", [Limits(), Limits(one_by_one=0)], ids=["rows", "terms"])
@given(drawn=systems(), senses=st.lists(st.sampled_from(["==", "<=", ">="]), min_size=8, max_size=8))
def test_random_rules_are_measured_and_stored(
    limits: Limits, drawn: Drawn, senses: list[Sense], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Random rules whose comparison is exchanged, at a point beside the one at which their equations hold."""
    rules = [replace(rule, sense=senses[k % 8]) for k, rule in enumerate(drawn.rules)]
    random = np.random.default_rng(0)
    weights = {name: value + random.standard_normal(value.shape) for name, value in drawn.point.items()}
    system = System.of(rules, limits=limits)
    truth = [violations(evaluate(rule.expression, weights), rule.sense) for rule in system.rules]
    magnitude = 1 + max(float(np.abs(evaluate(rule.expression, weights)).max(initial=0.0)) for rule in system.rules)
    for found in measured(system, weights):
        for rule, gaps in zip(system.rules, truth, strict=True):
            # a row sums at most 10⁴ products: 10⁴ · 2⁻⁵³ of their magnitudes, in any order, is some 1e-12
            assert found[rule.name] == pytest.approx(gaps.max(initial=0.0), rel=1e-9, abs=1e-11 * magnitude)
    path = tmp_path_factory.mktemp("plans") / "plan.safetensors"
    write_system(system, path)
    for read, gaps in zip(read_system(path).rules, truth, strict=True):
        np.testing.assert_array_equal(violations(evaluate(read.expression, weights), read.sense), gaps)


@pytest.mark.parametrize("limits", [Limits(), Limits(one_by_one=0)], ids=["rows", "terms"])
def test_what_holds_has_no_violation(limits: Limits) -> None:
    weights = {"a": np.full((4, 6), 0.5), "b": np.full(6, 0.5), "c": np.full((4, 6), 0.4)}
    system = System.of([a >= 0, a <= 1, c <= a, families.l2_ball(c, 1, dim=1), families.l1_ball(b, 3)], limits=limits)
    for found in measured(system, weights):
        assert set(found.values()) == {0.0}


@pytest.mark.parametrize("limits", [Limits(), Limits(one_by_one=0)], ids=["rows", "terms"])
def test_nan_is_measured_as_nan(limits: Limits) -> None:
    weights = weights_of(0)
    weights["a"][1, 3] = np.nan
    for found in measured(System.of(RULES, limits=limits), weights):
        wrong = {name for name, gap in found.items() if np.isnan(gap)}
        assert wrong == {"nonnegative", "below", "sums", "across", "rising", "diamond"}


def verdicts(rules: Any, weights: Mapping[str, np.ndarray]) -> list[Any]:
    def read(names: frozenset[str]) -> dict[str, Weight]:
        return {
            name: Weight(
                weights[name].reshape(-1),
                Rounding(float(np.finfo(weights[name].dtype).eps), float(np.finfo(weights[name].dtype).tiny)),
            )
            for name in names
        }

    return list(verify(System.of(rules), read))


@given(st.integers(0, 2**32 - 1))
def test_verify_measures_the_same(seed: int) -> None:
    weights = weights_of(seed)
    for verdict in verdicts(RULES, weights):
        gap = expected(weights)[verdict.name]
        assert verdict.largest == pytest.approx(gap, rel=1e-13, abs=1e-13)
        assert verdict.holds == (gap <= 1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(seed=st.integers(0, 2**32 - 1))
def test_verify_allows_rounding_and_nothing_more(dtype: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    vector = random.standard_normal(6)
    eps = float(np.finfo(dtype).eps)
    for family, norm in ((families.l1_ball, 1), (families.l2_ball, 2)):
        on_the_ball = (vector / np.linalg.norm(vector, norm)).astype(dtype)
        # 64 ε of the radius, and the effect of one rounding of everything is at most 2 ε of it
        outside = (vector / np.linalg.norm(vector, norm) * (1 + 64 * eps)).astype(dtype)
        assert verdicts(family(b, 1), {"b": on_the_ball})[0].holds
        assert not verdicts(family(b, 1), {"b": outside})[0].holds
    upper = np.abs(vector) + 1e-3
    assert verdicts(b <= upper, {"b": upper.astype(dtype)})[0].holds
    assert not verdicts(b <= upper, {"b": (upper * (1 + 64 * eps)).astype(dtype)})[0].holds
    assert verdicts(b >= -np.inf, {"b": upper.astype(dtype)})[0].holds
    assert not verdicts(b <= UPPER, {"b": np.full(6, np.nan, dtype)})[0].holds
