"""Rules priced by parts: each equation is in one part, parts share no entry, and prices are those of all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

import affinet
from affinet.analysis.independent_parts import Part, parts_of
from affinet.analysis.prices import Prices, prices, rules_that_share
from affinet.analysis.rule_values import Rounding, Weight
from affinet.language.constraint import Constraint
from affinet.language.weights import Weights
from affinet.system.system import System
from tests.contract.building import PATHS, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.planning.inequalities.random_sets import RandomRules

DOUBLE = Rounding(float(np.finfo(np.float64).eps), float(np.finfo(np.float64).smallest_subnormal))


def in_parts(system: System, pairs: int = 1) -> System:
    return replace(system, limits=replace(system.limits, pairs_at_once=pairs))


def parts(system: System, pairs: int = 1) -> list[Part]:
    linear = [number for number, rule in enumerate(system.rules) if rule.norm is None]
    return list(parts_of(in_parts(system, pairs), linear))


def check_parts(system: System) -> None:
    """Each equation is in one part, with the coefficients that it has there, and no entry is read by two parts."""
    counts = [np.zeros(rule.shape, int) for rule in system.rules]
    owner = np.full(system.layout.size, -1)
    for number, part in enumerate(parts(system)):
        rows = part.system.rows(range(len(part.numbers)))
        assert np.isin(owner[rows.columns], [-1, number]).all()
        owner[rows.columns] = number
        for k, box in enumerate(part.boxes):
            counts[part.numbers[k]][box] += 1
            every = np.arange(system.rules[part.numbers[k]].equations).reshape(counts[part.numbers[k]].shape)
            whole = system.rows([part.numbers[k]]).select(every[box].ravel()).matrix(system.layout.size)
            cut = part.system.rows([k]).matrix(system.layout.size)
            assert abs(whole - cut).nnz == 0
    for rule, count in zip(system.rules, counts, strict=True):
        assert (count == (rule.norm is None)).all()


def check_prices(system: System, gradient: np.ndarray, weights: dict[str, Weight]) -> Prices:
    whole, cut = prices(system, gradient, weights), prices(in_parts(system), gradient, weights)
    np.testing.assert_array_equal(whole.active, cut.active)
    np.testing.assert_array_equal(whole.shared, cut.shared)
    assert rules_that_share(whole) == rules_that_share(cut)
    # Components are the same; batches of other sizes may round sums of some dozen numbers otherwise, by 1e-14 of them,
    # which matrices of a condition below 1e3 turn into 1e-11.
    scale = 1.0 + np.abs(whole.values).max(initial=0.0)
    np.testing.assert_allclose(cut.values, whole.values, rtol=0.0, atol=1e-11 * scale)
    np.testing.assert_allclose(cut.residual, whole.residual, rtol=0.0, atol=1e-11 * scale)
    return cut


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equations_of_the_contract_have_the_same_multipliers_in_parts(case: Case) -> None:
    system = plan_of(case.name, PATHS[0]).system
    if system.kinds_at_weights:
        pytest.skip("these rules are inequalities or not linear")
    check_parts(system)
    check_prices(system, np.random.default_rng(0).standard_normal(system.layout.size), {})


@pytest.mark.parametrize("seed", range(100))
def test_random_inequalities_have_the_same_prices_in_parts(seed: int) -> None:
    generator = RandomRules(seed)
    system = System.of(generator.rules())
    weights = {p.name: Weight(generator.point[p.name].ravel(), DOUBLE) for p in system.layout.parameters}
    check_parts(system)
    check_prices(system, generator.random.normal(size=system.layout.size), weights)


Rules = Callable[[Weights], Sequence[Constraint]]

SLICED: dict[str, tuple[Rules, int]] = {
    "a simplex in each row": (lambda w: [w["a"] >= 0, w["a"].sum(dim=1) == 1], 6),
    "columns": (lambda w: [w["a"].sum(dim=0) == 1, w["a"][2:] >= 0], 8),
    "parts of rows at other offsets": (lambda w: [w["a"][2:5].sum(dim=1) == 1, w["a"][1:4, 2:] >= 0], 4),
    "rows of two weights": (lambda w: [w["a"] == 2 * w["b"], w["b"].sum(dim=1) == 0, w["a"][:, 0] >= 0], 6),
    "two halves of one weight": (lambda w: [w["a"][:3] == w["a"][3:], w["a"][:2].sum(dim=1) == 1], 3),
    "a weight and its transpose": (lambda w: [w["c"].T == w["a"][:, :5], w["c"].sum(dim=0) == 1], 6),
    "one row and bounds of all": (lambda w: [w["a"][3].sum() == 1, w["a"] >= 0], 6),
    "channels": (lambda w: [w["d"].sum(dim=(0, 2)) == 0, w["d"] >= -1], 3),
    "monotone rows": (lambda w: [w["a"][:, 1:] >= w["a"][:, :-1]], 6),
    "repeated equations": (lambda w: [w["a"].sum(dim=1) == 1, 2 * w["a"].sum(dim=1) == 2, w["a"][:, 0] == 0], 6),
    "groups that share no entry": (lambda w: [w["a"].sum() == 1, w["b"].sum() == 1], 2),
}
WHOLE: dict[str, Rules] = {
    "rows and columns": lambda w: [w["a"].sum(dim=1) == 1, w["a"].sum(dim=0) == 0.75],
    "neighbouring rows": lambda w: [w["a"][1:, :5] == w["a"][:-1, 3:]],
    "rows that are tied to others": lambda w: [w["a"][:3] == w["a"][1:4], w["a"].sum(dim=1) == 0],
    "a symmetric weight": lambda w: [w["c"][:, :5] == w["c"][:, :5].T],
    "one row for all": lambda w: [w["a"] == w["b"][0], w["a"].sum(dim=1) == 0],
    "rows flipped": lambda w: [w["a"] == w["b"][::-1], w["a"].sum(dim=1) == 0, w["b"].sum(dim=1) == 0],
}


def shaped() -> Weights:
    shapes = {"a": (6, 8), "b": (6, 8), "c": (5, 6), "d": (2, 3, 4)}
    return affinet.weights({name: np.zeros(shape) for name, shape in shapes.items()})


@pytest.mark.parametrize("name", SLICED)
def test_large_groups_are_cut_along_an_axis(name: str) -> None:
    rules, count = SLICED[name]
    system = System.of(rules(shaped()))
    assert len(parts(system)) == count
    check_parts(system)
    random = np.random.default_rng(0)
    # Bounds of entries hold with equality at half of the entries, and the other rules hold or are equations.
    at = {p.name: np.where(random.random(p.shape) < 0.5, 0.0, 0.5) for p in system.layout.parameters}
    at = {name: np.sort(values, axis=-1) for name, values in at.items()}
    weights = {name: Weight(values.ravel(), DOUBLE) for name, values in at.items()}
    check_prices(system, random.standard_normal(system.layout.size), weights)


@pytest.mark.parametrize("name", WHOLE)
def test_groups_whose_rows_meet_across_every_axis_stay_whole(name: str) -> None:
    system = System.of(WHOLE[name](shaped()))
    assert len(parts(system)) == 1
    check_parts(system)


def test_small_rules_are_one_part_and_slices_have_the_size_that_is_asked_for() -> None:
    w = shaped()
    system = System.of([w["a"].sum(dim=1) == 1, w["b"] >= 0, w["c"] >= 0])
    assert len(parts(system, 10**6)) == 1
    assert [len(part.numbers) for part in parts(system, 78)] == [1, 2]
    assert [part.system.rules[0].equations for part in parts(System.of([w["b"] >= 0]), 16)] == [16, 16, 16]


def test_a_group_of_many_rules_stays_whole() -> None:
    w = affinet.weights({"w": np.zeros((200, 4))})["w"]
    rules = [w.sum(dim=1) == 1, *(w[k, 0] >= 0 for k in range(200))]
    assert len(parts(System.of(rules))) == 1
    check_parts(System.of(rules[:20]))
    assert len(parts(System.of(rules[:20]))) == 200
