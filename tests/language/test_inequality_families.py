"""Families of inequalities against their definition in NumPy: what violates them, by how much, how they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import affinet
from affinet import families
from affinet.errors import ConstantError, RuleError, ShapeError
from affinet.language.constraint import Constraint
from affinet.language.evaluation import evaluate, violations
from affinet.language.origin import Family, Linear
from affinet.language.sense import Sense
from affinet.language.weight_groups import Rules

SHAPES = {"a": (3, 4), "b": (5,), "K": (2, 3, 4), "x": ()}
a, b, K, x = affinet.weights(SHAPES)
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([1e-3, 1.0, 1e3])


def values(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape) for name, shape in SHAPES.items()}


def gaps(rule: Constraint, at: dict[str, np.ndarray]) -> np.ndarray:
    found = violations(evaluate(rule.expression, at), rule.sense, rule.norm, rule.radius)
    assert found.shape == rule.shape
    return found


def texts(rules: Iterable[Constraint]) -> list[str]:
    return [rule.text for rule in rules]


def positive(value: Any) -> np.ndarray:
    return np.maximum(value, 0)


@given(SEEDS)
def test_bounds_of_every_entry(seed: int) -> None:
    at = values(seed)
    np.testing.assert_array_equal(gaps(families.nonnegative(a), at), positive(-at["a"]))
    radius = np.array([0.5, 1.0, 2.0, 0.1])
    low, high = families.linf_ball(a, radius)
    np.testing.assert_array_equal(gaps(low, at), positive(-at["a"] - radius))
    np.testing.assert_array_equal(gaps(high, at), positive(at["a"] - radius))
    assert texts([low, high]) == ["a >= [-0.5, -1.0, -2.0, -0.1]", "a <= [0.5, 1.0, 2.0, 0.1]"]
    assert texts(families.linf_ball(b, 2)) == ["b >= -2", "b <= 2"]
    assert texts(families.linf_ball(b, np.float32(0.5))) == ["b >= -0.5", "b <= 0.5"]


@pytest.mark.parametrize("dim", [None, 0, 1, -1, (0, 1)])
def test_simplex_and_budget(dim: Any) -> None:
    total, at = 1.5, values(3)
    sums = at["a"].sum(dim)
    shares, whole = families.simplex(a, dim, total)
    np.testing.assert_array_equal(gaps(shares, at), positive(-at["a"]))
    np.testing.assert_allclose(gaps(whole, at), abs(sums - total), rtol=1e-14)
    shares, budget = families.sum_at_most(a, total, dim)
    np.testing.assert_array_equal(gaps(shares, at), positive(-at["a"]))
    np.testing.assert_allclose(gaps(budget, at), positive(sums - total), rtol=1e-14, atol=1e-15)


def test_the_parts_of_a_family_are_shown_as_they_would_be_written() -> None:
    assert texts(families.simplex(a, dim=1)) == ["a >= 0", "a.sum(dim=1) == 1"]
    assert texts(families.sum_at_most(a, [1, 2, 3], dim=1)) == ["a >= 0", "a.sum(dim=1) <= [1, 2, 3]"]
    assert texts(families.transport(a, [2, 1, 1], 1)) == ["a >= 0", "a.sum(dim=-1) == [2, 1, 1]", "a.sum(dim=-2) == 1"]
    named = families.simplex(a, dim=1).named("shares")
    assert [rule.name for rule in named] == ["shares [nonnegative]", "shares [sum]"]
    group = affinet.weights({"one.w": (2, 3), "two.w": (4, 2)})["*.w"]
    rules = families.simplex(group, dim=1)
    assert isinstance(rules, Rules)
    assert texts(rules) == ["one.w >= 0", "one.w.sum(dim=1) == 1", "two.w >= 0", "two.w.sum(dim=1) == 1"]
    assert len(families.monotone(group)) == 2


def test_transport_has_the_sums_of_rows_and_columns() -> None:
    at, rows, columns = values(4), np.array([[1.0, 2, 3], [0, 0, 4]]), np.array([[1.5], [1.0]])
    cells, of_rows, of_columns = families.transport(K, rows, columns)
    np.testing.assert_array_equal(gaps(cells, at), positive(-at["K"]))
    np.testing.assert_allclose(gaps(of_rows, at), abs(at["K"].sum(-1) - rows), rtol=1e-14)
    np.testing.assert_allclose(gaps(of_columns, at), abs(at["K"].sum(-2) - columns), rtol=1e-14)
    thirds = np.float32(1 / 3)
    families.transport(affinet.weights({"m": (300, 100)}).m, thirds, 300 * thirds / 100)  # totals equal up to rounding


def test_transport_needs_one_total() -> None:
    with pytest.raises(ConstantError, match=r"rows of \(a\) are to sum to 3 in all and the columns to 4, but both"):
        families.transport(a, 1, 1)
    with pytest.raises(ConstantError, match=r"rows of \(K\) are to sum to 4 in all and the columns to 5 in matrix 1"):
        families.transport(K, [[1, 2, 3], [0, 0, 4]], [[1.5], [1.25]])
    with pytest.raises(ShapeError, match="transport is about matrices"):
        families.transport(b, 1, 1)
    with pytest.raises(ShapeError, match="do not fit"):
        families.transport(a, [1, 2], 1)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("gap", [0, 0.5, -0.25])
def test_sequences_in_order(dim: int, gap: float) -> None:
    at = values(5)
    steps = np.diff(at["a"], axis=dim)
    rising, falling = families.monotone(a, dim, gap=gap), families.monotone(a, dim, increasing=False, gap=gap)
    np.testing.assert_allclose(gaps(rising, at), positive(gap - steps), rtol=1e-14)
    np.testing.assert_allclose(gaps(falling, at), positive(steps + gap), rtol=1e-14)
    assert (rising.origin, falling.origin) == (Family("monotone"), Family("monotone"))


def test_gaps_may_differ() -> None:
    at, gap = values(6), np.array([0.1, 0.2, 0.3])
    rule = families.monotone(a, gap=gap)
    np.testing.assert_allclose(gaps(rule, at), positive(gap - np.diff(at["a"])), rtol=1e-14)
    assert rule.text == "monotone(a, dim=-1, gap=[0.1, 0.2, 0.3])"
    falling = families.monotone(a, increasing=False, gap=gap)
    np.testing.assert_allclose(gaps(falling, at), positive(gap + np.diff(at["a"])), rtol=1e-14)
    assert falling.text == "monotone(a, dim=-1, increasing=False, gap=[0.1, 0.2, 0.3])"
    assert families.monotone(a).text == "monotone(a, dim=-1)"


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_curved_sequences(dim: int) -> None:
    at = values(7)
    bends = np.diff(at["K"], 2, axis=dim)
    np.testing.assert_allclose(gaps(families.convex(K, dim), at), positive(-bends), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gaps(families.concave(K, dim), at), positive(bends), rtol=1e-13, atol=1e-15)
    assert (families.convex(K, dim).text, families.concave(K).text) == (f"convex(K, dim={dim})", "concave(K, dim=-1)")


@pytest.mark.parametrize("dim", [None, 0, 1, 2, -1, (0, 2), (2, 1), (0, 1, 2)])
@given(seed=SEEDS, scale=SCALES)
def test_balls_limit_the_norm_of_vectors(dim: Any, seed: int, scale: float) -> None:
    at = {name: scale * value for name, value in values(seed).items()}
    axes = tuple(range(3)) if dim is None else dim
    for family, norm in ((families.l1_ball, 1), (families.l2_ball, 2)):
        rule = family(2 * K - 1, 1.5, dim)
        vectors = 2 * at["K"] - 1
        lengths = abs(vectors).sum(axes) if norm == 1 else np.sqrt((vectors**2).sum(axes))
        assert (rule.norm, rule.sense, rule.origin) == (norm, "<=", Family(family.__name__))  # type: ignore[arg-type]
        assert rule.rows == lengths.size
        np.testing.assert_allclose(gaps(rule, at), positive(lengths - 1.5), rtol=1e-13, atol=1e-13 * (1 + scale))


def test_the_radius_of_a_ball_may_be_an_array() -> None:
    at, radius = values(8), np.array([0.5, 1.0, 2.0])
    rule = families.l2_ball(K, radius, dim=2)
    np.testing.assert_array_equal(np.broadcast_to(rule.radius, (2, 3)), np.broadcast_to(radius, (2, 3)))
    np.testing.assert_allclose(gaps(rule, at), positive(np.linalg.norm(at["K"], axis=2) - radius), rtol=1e-14)
    assert rule.text == "l2_ball(K, radius=[0.5, 1.0, 2.0], dim=2)"
    assert families.l1_ball(K, 1).text == "l1_ball(K, radius=1)"
    assert families.l1_ball(x, 1).rows == 1
    assert families.l2_ball(K, np.float32(0.1)).expression.epsilon == 2.0**-23
    assert families.l1_ball(a[:0], 1, dim=1).rows == 0
    np.testing.assert_array_equal(gaps(families.l1_ball(a[:0], 1, dim=0), at), np.zeros(4))


@pytest.mark.parametrize("family", [families.l1_ball, families.l2_ball, families.linf_ball])
def test_a_radius_is_positive(family: Any) -> None:
    with pytest.raises(ConstantError, match=r"must be positive; it is 0\.0\. For weights at 0 write families.fix"):
        family(a, 0)
    with pytest.raises(ConstantError, match=r"of \(K\) must be positive; it is -1\.0 at 2"):
        family(K, [1, 1, -1, 1])
    for infinite in (np.nan, np.inf):
        with pytest.raises(ConstantError, match="is not finite"):
            family(a, infinite)
    with pytest.raises(RuleError, match=f"{family.__name__} takes weights"):
        family(1, 1)


def test_a_radius_fits_the_vectors() -> None:
    with pytest.raises(ShapeError, match=r"radius of l2_ball has shape \(4,\), and must broadcast to the shape \(3,\)"):
        families.l2_ball(a, np.ones(4), dim=1)
    with pytest.raises(ShapeError, match="there is no axis 2"):
        families.l1_ball(a, 1, dim=2)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("sense", ["<=", ">="])
def test_linear_takes_a_sense(form: Any, sense: Sense) -> None:
    at, random = values(9), np.random.default_rng(9)
    G, h = random.standard_normal((6, 17)), np.array([0.5, np.inf, -1, 2, 0, 1])
    h = h if sense == "<=" else -h
    rule = families.linear([a, b], form(G), h, sense=sense)
    excess = G @ np.concatenate([at["a"].ravel(), at["b"]]) - h
    np.testing.assert_allclose(gaps(rule, at), positive(excess if sense == "<=" else -excess), rtol=1e-12, atol=1e-14)
    assert rule.text.endswith(f", sense='{sense}')")
    assert rule.origin == Linear(("a", "b"), form is not np.asarray)
    assert "sense" not in families.linear([a, b], form(G)).text


def test_linear_refuses_other_senses() -> None:
    with pytest.raises(RuleError, match='"==", "<=" or ">="; got \'<\''):
        families.linear([b], np.ones((1, 5)), sense="<")  # type: ignore[arg-type]
    with pytest.raises(ConstantError, match="NaN or -inf"):
        families.linear([b], np.ones((2, 5)), [0, -np.inf], sense="<=")
    with pytest.raises(ConstantError, match="NaN or infinite"):
        families.linear([b], np.ones((2, 5)), [0, np.inf])


def test_violations_of_weights_that_are_not_finite_are_not_hidden() -> None:
    at = values(10)
    at["b"][1] = np.nan
    for rule in (b <= np.inf, b >= 0, families.l1_ball(b, 1), families.l2_ball(b, 1), b == 0):
        assert np.isnan(gaps(rule, at)).any()
