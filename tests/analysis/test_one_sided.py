"""Prices of raising and of lowering right-hand sides: corners by hand, and linear programs that are solved again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import linprog

import affinet
from affinet.analysis import one_sided

SMALL = 1e-6
"""Relative to numbers of size one: HiGHS is asked for 1e-10, and rows are dependent exactly."""


def sides(stated: list[Any], gradient: list[float], at: list[float], **options: Any) -> dict[str, Any]:
    """One-sided prices of rules about one weight `w`."""
    weights = {"w": np.array(at)}
    projector = affinet.plan(stated).projector(weights)
    return projector.one_sided_multipliers({"w": np.array(gradient)}, weights, **options)


def test_a_bound_that_is_stated_twice_costs_only_where_it_is_tightened() -> None:
    """Least −3 w: with w <= 1 and 2 w <= 2, loosening one of them gains nothing, and tightening it costs 3, or 3/2."""
    w = affinet.weights({"w": (1,)}).w
    priced = sides([(w <= 1).named("once"), (2 * w <= 2).named("double")], [-3.0], [1.0])
    assert_allclose([priced["once"].lowered, priced["once"].raised], [[-3.0], [0.0]], atol=SMALL)
    assert_allclose([priced["double"].lowered, priced["double"].raised], [[-1.5], [0.0]], atol=SMALL)


def test_a_corner_of_three_lines_in_the_plane() -> None:
    """Least w0 + 2 w1 over w >= 0, w0 + w1 >= 0: prices a0 + s = 1 and a1 + s = 2, none negative."""
    w = affinet.weights({"w": (2,)}).w
    priced = sides([(w >= 0).named("low"), (w.sum() >= 0).named("sum")], [1.0, 2.0], [0.0, 0.0])
    assert_allclose(priced["low"].lowered, [0.0, 1.0], atol=SMALL)
    assert_allclose(priced["low"].raised, [1.0, 2.0], atol=SMALL)
    assert_allclose([priced["sum"].lowered, priced["sum"].raised], [0.0, 1.0], atol=SMALL)


def test_a_change_that_leaves_no_point_has_an_infinite_price() -> None:
    """Equations that are stated twice have no point once one of them changes."""
    w = affinet.weights({"w": (2,)}).w
    rules = [(w.sum() == 1).named("sum"), (2 * w.sum() == 2).named("again"), (w >= 0).named("low")]
    priced = sides(rules, [1.0, 2.0], [1.0, 0.0])
    for name in ("sum", "again"):
        assert (float(priced[name].lowered), float(priced[name].raised)) == (-np.inf, np.inf)
    assert_allclose(priced["low"].raised, [0.0, 1.0], atol=SMALL)
    assert_allclose(priced["low"].lowered, [0.0, 1.0], atol=SMALL)


def test_prices_that_are_unique_are_those_of_multipliers() -> None:
    w = affinet.weights({"w": (4,)}).w
    rules = [(w >= 0).named("low"), (w.sum() == 1).named("sum")]
    weights, gradient = {"w": np.array([0.6, 0.4, 0.0, 0.0])}, {"w": np.array([-2.0, -2.0, -1.0, 3.0])}
    projector = affinet.plan(rules).projector(weights)
    priced, multipliers = projector.one_sided_multipliers(gradient, weights), projector.multipliers(gradient, weights)
    for name, values in multipliers.items():
        assert np.array_equal(priced[name].lowered, values)
        assert np.array_equal(priced[name].raised, values)
    assert list(projector.one_sided_multipliers(gradient, weights, ["sum"])) == ["sum"]


@pytest.mark.parametrize("seed", range(12))
def test_the_prices_are_the_slopes_of_linear_programs_at_degenerate_corners(seed: int) -> None:
    """The least value is solved again with each right-hand side moved by a little, in both directions."""
    rng = np.random.default_rng(seed)
    n, m = 3, 6
    corner = rng.integers(-2, 3, n).astype(float)
    G, inwards = rng.integers(-2, 3, (m, n)).astype(float), rng.normal(size=n)
    G = G[np.abs(G).sum(1) > 0]
    G *= -np.sign(G @ inwards)[:, None]
    h = G @ corner  # all rows meet in one corner
    loss = -G.T @ rng.integers(0, 3, len(G)).astype(float)
    w = affinet.weights({"w": (n,)}).w

    def least(rhs: np.ndarray) -> float:
        return float(linprog(loss, A_ub=G, b_ub=rhs, bounds=(None, None), method="highs").fun)

    assert_allclose(least(h), loss @ corner, atol=1e-9)
    rule = affinet.families.linear([w], G, h, sense="<=").named("rows")
    weights = {"w": corner}
    projector = affinet.plan(rule).projector(weights)
    priced = projector.one_sided_multipliers({"w": loss}, weights)["rows"]
    between = projector.multipliers({"w": loss}, weights)["rows"]
    moved = 1e-3 * np.eye(len(G))
    raised = [(least(h + step) - least(h)) / 1e-3 for step in moved]
    lowered = [(least(h) - least(h - step)) / 1e-3 for step in moved]
    # Differences of values of size ten, known to 1e-9, over 1e-3.
    assert_allclose(priced.raised, raised, atol=1e-5)
    assert_allclose(priced.lowered, lowered, atol=1e-5)
    assert (between <= priced.raised + SMALL).all()
    assert (between >= priced.lowered - SMALL).all()


@pytest.mark.parametrize("maximize", [False, True])
def test_a_training_gives_them_for_what_it_minimizes_or_maximizes(maximize: bool) -> None:
    model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, maximize=maximize)
    w = affinet.weights(model).weight
    handle = affinet.project(model, optimizer, [(w <= 1).named("once"), (2 * w <= 2).named("double")])
    for _ in range(100):
        optimizer.zero_grad()
        loss = -3.0 * model.weight.sum()
        (-loss if maximize else loss).backward()
        optimizer.step()
    sign = -1.0 if maximize else 1.0
    priced = handle.one_sided_multipliers()
    assert_allclose(float(priced["once"].lowered), sign * -3.0, atol=SMALL)
    assert_allclose(float(priced["double"].lowered), sign * -1.5, atol=SMALL)
    assert abs(float(priced["once"].raised)) <= SMALL


def test_rules_are_named_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_sided, "MOST_PRICED", 1)
    w = affinet.weights({"w": (1,)}).w
    rules = [(w <= 1).named("once"), (2 * w <= 2).named("double")]
    with pytest.raises(affinet.errors.RuleError, match=r"2 rows depend on others.*at most 1"):
        sides(rules, [-3.0], [1.0])
    assert_allclose(sides(rules, [-3.0], [1.0], rules=["once"])["once"].lowered, [-3.0], atol=SMALL)
    with pytest.raises(affinet.errors.RuleError, match="no rule named 'twice'; there are: 'once', 'double'"):
        sides(rules, [-3.0], [1.0], rules=["twice"])
