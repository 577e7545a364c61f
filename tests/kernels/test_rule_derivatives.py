"""Left sides of rules, transposed derivatives and norms of rows, against dense matrices written out pair by pair."""

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
from affinet.kernels.torch.rule_derivatives import Residuals
from affinet.language.calculus.terms import lower
from affinet.language.evaluation import evaluate
from affinet.planning.curved.linearizing import derivatives_at
from affinet.system.limits import Limits
from affinet.system.system import Rule, System
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.planning.random_rules import SHAPES, Drawn, systems
from tests.training.curved_problems import PROBLEMS

CPU = torch.device("cpu")
LIMITS = {"rows": Limits(), "terms": Limits(one_by_one=0)}
ROUNDING = 1e-11
"""Sums of at most 10⁴ products in float64, in any order: 10⁴ · 2⁻⁵³ of the sum of their magnitudes."""

SMALL_CASES = [case for case in CASES if not case.tied and sum(map(np.prod, case.shapes.values())) < 10_000]
"""Those with a name for each weight, and whose pairs a test can write out."""

Arrays = Mapping[str, np.ndarray]


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape) for name, shape in shapes.items()}


def tensors(weights: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def rules_of(residuals: Residuals, system: System) -> list[Rule]:
    by_name = {rule.name: rule for rule in system.every}
    return [by_name[name] for name in residuals.names]


def signed(rule: Rule, values: np.ndarray) -> np.ndarray:
    return (-values if rule.sense == ">=" else values).ravel()


def transposed(residuals: Residuals, weights: Arrays, y: np.ndarray) -> dict[str, np.ndarray]:
    into = {name: torch.zeros(value.shape, dtype=torch.float64) for name, value in weights.items()}
    residuals.at(tensors(weights)).add_transposed(torch.from_numpy(y), into)
    return {name: tensor.numpy() for name, tensor in into.items()}


def check_affine(system: System, weights: Arrays) -> None:
    """Values, products and norms against the pairs that each term stands for."""
    residuals = Residuals(system, CPU)
    rules = rules_of(residuals, system)
    point = residuals.at(tensors(weights))
    values = np.concatenate([np.zeros(0), *(signed(rule, evaluate(rule.expression, weights)) for rule in rules)])
    size = 1 + np.abs(values).max(initial=0.0)
    np.testing.assert_allclose(point.value.numpy(), values, rtol=1e-9, atol=ROUNDING * size)
    y = np.random.default_rng(1).standard_normal(len(values))
    products = {name: np.zeros(value.size) for name, value in weights.items()}
    squares, names = np.zeros(len(values)), frozenset(list(weights)[::2])
    for rule, first in zip(rules, residuals.bounds, strict=False):
        sign = -1.0 if rule.sense == ">=" else 1.0
        for term in rule.expression.terms:
            rows, entries, coefficients = lower(term, rule.expression.shape)
            np.add.at(products[term.parameter.name], entries, sign * coefficients * y[first + rows])
            if term.parameter.name in names:
                np.add.at(squares, first + rows, coefficients**2)
    for name, product in transposed(residuals, weights, y).items():
        scale = 1 + np.abs(products[name]).max(initial=0.0)
        np.testing.assert_allclose(product.ravel(), products[name], rtol=1e-9, atol=ROUNDING * scale)
    np.testing.assert_allclose(point.squared_norms(names).numpy(), squares, rtol=1e-9, atol=ROUNDING)


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("case", SMALL_CASES, ids=str)
def test_the_rules_of_the_contract(case: Case, limits: Limits) -> None:
    system = System.of(case.rules(affinet.weights(case.shapes)), limits=limits)
    if limits.one_by_one and any(map(_pairs_repeat, system.every)):
        return  # sparse rows add coefficients of one entry before they are squared, and so are exact
    check_affine(system, drawn(case.shapes))


def _pairs_repeat(rule: Rule) -> bool:
    """Whether a row of the rule reads one entry in several places."""
    places = [
        (row, term.parameter.name, entry)
        for term in rule.expression.terms
        for row, entry, _ in zip(*lower(term, rule.expression.shape), strict=True)
    ]
    return len(set(places)) < len(places)


@given(drawn_rules=systems(), senses=st.lists(st.sampled_from(["==", "<=", ">="]), min_size=8, max_size=8))
def test_random_rules_by_their_terms(drawn_rules: Drawn, senses: list[Any]) -> None:
    rules = [replace(rule, sense=senses[k % 8]) for k, rule in enumerate(drawn_rules.rules)]
    check_affine(System.of(rules, limits=Limits(one_by_one=0)), drawn(SHAPES))


def test_sparse_rows_have_exact_norms() -> None:
    w = affinet.weights({"w": (2,)}).w
    residuals = Residuals(System.of([w[0] + w[0] + w[1] == 1]), CPU)
    assert residuals.at({"w": torch.ones(2)}).squared_norms(frozenset("w")).tolist() == [5.0]


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_nonlinear_rules(problem: Any) -> None:
    model = problem.model()
    system = System.of(problem.rules(affinet.weights(model).w))
    check_curved(system, {"w": problem.start})


def check_curved(system: System, weights: Arrays) -> None:
    residuals = Residuals(system, CPU)
    rules = rules_of(residuals, system)
    point = residuals.at(tensors(weights))
    values = np.concatenate([signed(rule, evaluate(rule.expression, weights)) for rule in rules])
    np.testing.assert_allclose(point.value.numpy(), values, rtol=1e-9, atol=1e-12)
    y = np.random.default_rng(1).standard_normal(len(values))
    numbers = [system.every.index(rule) for rule in rules]
    affine = [number for number in numbers if number < len(system.rules)]
    dense = derivatives_at(system, [k for k in numbers if k not in affine], weights).toarray()
    dense = np.vstack([dense, system.rows(affine).matrix(system.layout.size).toarray()])
    dense *= np.concatenate([np.full(rule.equations, -1.0 if rule.sense == ">=" else 1.0) for rule in rules])[:, None]
    product = np.concatenate([transposed(residuals, weights, y)[p.name].ravel() for p in system.layout.parameters])
    np.testing.assert_allclose(product, dense.T @ y, rtol=1e-9, atol=1e-12)
    norms, exact = point.squared_norms(frozenset(weights)).numpy(), (dense**2).sum(axis=1)
    # (Σ of the k derivatives along k paths)² is at most k Σ of their squares, and rules here have at most ten paths
    assert (exact <= 10 * norms * (1 + 1e-9)).all()


def test_functions_of_several_weights_and_senses() -> None:
    shapes = {"a": (3, 3), "b": (3,), "c": (2, 3, 3)}
    a, b, c = affinet.weights(shapes)
    rules = [
        a.exp() @ b <= 1,
        (b.sin() + b.cos() * b.tanh()) >= 0.5,
        a.inverse() == 1,
        c.det() <= 2,
        (c @ a).sum(dim=(1, 2)) >= 1,
        (a.square().sum(dim=1) + 1).log() == 0.25,
        (b.square() + 1).sqrt() * a[0] - (b.square() + 2).reciprocal() == 0,
        b.sum() == 1,
        a[1] @ a <= 3,
        (b[0] ** 3 * a[0, 0] + 1) ** 2 >= 1,
    ]
    check_curved(System.of(rules), drawn(shapes))


def test_functions_of_torch() -> None:
    shapes = {"a": (3, 3), "b": (3,)}
    a, b = affinet.weights(shapes)

    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack([(x @ y).sin().sum(), x.trace() * y[0]])

    check_curved(System.of([affinet.equations(function, [a, b], count=2), b.sum() == 1]), drawn(shapes))


def test_norms_without_repeated_paths_are_exact() -> None:
    shapes = {"a": (5, 5), "b": (5,)}
    a, b = affinet.weights(shapes)
    weights = drawn(shapes)
    rules = [a @ b == 1, (a.exp() * 2).sum(dim=0) == 1, a.det() == 1, a.inverse()[0, 1] == 0, b[0] * b[1] ** 3 == 1]
    system = System.of(rules)
    norms = Residuals(system, CPU).at(tensors(weights)).squared_norms(frozenset("ab"))
    dense = derivatives_at(system, list(system.curved_rules), weights).toarray()
    np.testing.assert_allclose(norms.numpy(), (dense**2).sum(axis=1), rtol=1e-9)
    of_one = Residuals(system, CPU).at(tensors(weights)).squared_norms(frozenset("b"))
    start = system.layout.starts[1]
    np.testing.assert_allclose(of_one.numpy(), (dense[:, start:] ** 2).sum(axis=1), rtol=1e-9)


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_balls_and_missing_bounds(limits: Limits) -> None:
    shapes = {"a": (4, 6), "b": (6,)}
    a, b = affinet.weights(shapes)
    upper = np.array([1, np.inf, 0, 0.5, np.inf, 2])
    rules = [
        (a <= upper).named("below"),
        families.l1_ball(a - 1, 2, dim=1).named("diamond"),
        families.l2_ball(a, [1, 2, 3, 1, 2, 3], dim=0).named("ball"),
        (b <= np.inf).named("free"),
        (b >= -1).named("above"),
    ]
    system = System.of(rules, limits=limits)
    residuals, weights = Residuals(system, CPU), drawn(shapes)
    expected = {
        "below": np.where(np.isinf(upper), 0.0, weights["a"] - upper),
        "diamond": np.abs(weights["a"] - 1).sum(axis=1) - 2,
        "ball": np.linalg.norm(weights["a"], axis=0) - np.array([1, 2, 3, 1, 2, 3]),
        "free": np.zeros(6),
        "above": -1 - weights["b"],
    }
    value = residuals.at(tensors(weights)).value.numpy()
    np.testing.assert_allclose(value, np.concatenate([expected[n].ravel() for n in residuals.names]), atol=1e-12)
    y = np.random.default_rng(1).standard_normal(len(value))
    products = transposed(residuals, weights, y)
    h = 1e-6
    for name, product in products.items():
        for place in np.ndindex(product.shape):
            moved = {key: array.copy() for key, array in weights.items()}
            moved[name][place] += h
            after = residuals.at(tensors(moved)).value.numpy()
            # central differences are not needed: the second derivative of a norm here is below 10, so h · 10
            assert product[place] == pytest.approx(y @ (after - value) / h, abs=1e-4)
    free = slice(*residuals.bounds[residuals.names.index("free") :][:2])
    assert not residuals.at(tensors(weights)).squared_norms(frozenset("ab")).numpy()[free].any()


def test_a_large_sum_needs_no_copy_of_the_weights() -> None:
    """Memory: `w.sum(dim=1)` of 4 million float32 entries and its transpose, without a float64 copy or any pairs."""
    w = affinet.weights({"w": (2048, 2048)}).w
    residuals = Residuals(System.of([w.sum(dim=1) == 1]), CPU)
    x = torch.ones(2048, 2048)
    point = residuals.at({"w": x})
    assert torch.equal(point.value, torch.full((2048,), 2047.0, dtype=torch.float64))
    assert torch.equal(point.squared_norms(frozenset("w")), torch.full((2048,), 2048.0, dtype=torch.float64))
    into = torch.zeros(2048, 2048)
    point.add_transposed(torch.arange(2048, dtype=torch.float64), {"w": into})
    assert torch.equal(into, torch.arange(2048.0)[:, None].expand(2048, 2048))
