"""`<=` and `>=` between weights, numbers and arrays: what the rule states, how it is shown, which bounds it takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import affinet
from affinet import families
from affinet.errors import ConstantError, RuleError, ShapeError, TooLargeError, TruthValueError
from affinet.language.constraint import Constraint
from affinet.language.evaluation import evaluate
from affinet.language.weight_groups import Rules
from affinet.system.magnitudes import all_between
from affinet.system.system import System
from tests.language.drawn import VALUES, W, b

TURNED = {"<=": ">=", ">=": "<="}
WRITTEN: dict[str, Callable[[Any, Any], Any]] = {"<=": lambda x, y: x <= y, ">=": lambda x, y: x >= y}


def holds(rule: Constraint) -> np.ndarray:
    """Where the rule holds at the drawn values, by its expression and its sense."""
    value = evaluate(rule.expression, VALUES)
    return value <= 0 if rule.sense == "<=" else value >= 0


BOUNDS = st.one_of(
    st.floats(-2, 2),
    arrays.arrays(np.float64, st.sampled_from([(8,), (6, 8), (6, 1), (1,)]), elements=st.floats(-2, 2)),
)


@pytest.mark.parametrize("sense", WRITTEN)
@given(bound=BOUNDS)
def test_an_inequality_holds_where_it_holds_in_numpy(sense: str, bound: Any) -> None:
    rule, turned = WRITTEN[sense](W, bound), WRITTEN[TURNED[sense]](bound, W)
    expected = WRITTEN[sense](VALUES["W"], bound)
    for written in (rule, turned):
        assert written.sense == sense
        assert written.text == rule.text
        np.testing.assert_array_equal(holds(written), expected)


@pytest.mark.parametrize("sense", WRITTEN)
def test_expressions_are_compared_with_each_other(sense: str) -> None:
    rule = WRITTEN[sense](2 * W[:, 0] - 1, b)
    np.testing.assert_array_equal(holds(rule), WRITTEN[sense](2 * VALUES["W"][:, 0] - 1, VALUES["b"]))
    assert rule.text == f"2 * W[:, 0] - 1 {sense} b"


def test_numpy_and_torch_compare_with_weights() -> None:
    ones = np.ones(8)
    for rule in (ones >= W, torch.ones(8) >= W, np.less_equal(W, ones), torch.le(W, torch.ones(8)), W <= [1] * 8):
        assert (rule.sense, rule.rows) == ("<=", 48)
        np.testing.assert_array_equal(np.broadcast_to(rule.expression.constant, (6, 8)), -np.ones((6, 8)))
    with pytest.raises(ConstantError, match="is sparse"):
        W >= scipy.sparse.eye_array(6, 8)  # noqa: B015  # the comparison raises


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_infinite_bound_is_no_bound_and_keeps_its_place(dtype: type[np.floating[Any]]) -> None:
    upper = np.array([1, np.inf, -3, np.inf, 0, 2, 0.1, np.inf], dtype)
    rule = W + VALUES["W"] <= upper
    assert rule.shape == (6, 8)
    constant = np.broadcast_to(rule.expression.constant, (6, 8))
    np.testing.assert_array_equal(constant, VALUES["W"] - upper.astype(np.float64))
    np.testing.assert_array_equal(np.isneginf(constant), np.broadcast_to(np.isinf(upper), (6, 8)))
    assert (W >= -upper).expression.constant[0, 1] == np.inf


def test_a_rule_may_have_no_bound_at_all() -> None:
    for rule in (W <= np.inf, W >= -np.inf, W <= np.full(8, np.inf)):
        assert holds(rule).all()
        assert System.of(rule).inequalities == 48


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        (-np.inf, "-inf cannot be a bound. An upper bound must be a finite number, or inf"),
        (np.nan, "nan cannot be a bound"),
        (np.float32(np.nan), "nan cannot be a bound"),
        (np.array([0, np.inf, -np.inf, np.nan] * 2), r"array\(8\) has 4 entries that are NaN or -inf, the first at 2"),
        (torch.tensor([[0.0], [np.nan]] * 3), r"1 at \(1, 0\)|the first at \(1, 0\)"),
    ],
)
def test_a_bound_that_leaves_no_weights_is_refused(bound: Any, message: str) -> None:
    with pytest.raises(ConstantError, match=message):
        W <= bound  # noqa: B015  # the comparison raises


def test_infinities_stay_refused_elsewhere() -> None:
    for write in (lambda: W == np.inf, lambda: W * np.inf <= 1, lambda: W + np.inf >= 0, lambda: np.inf * b):
        with pytest.raises(ConstantError, match="is not finite"):
            write()
    with pytest.raises(ConstantError, match="beyond the range of float64"):  # and not taken for a missing bound
        (W - 1e308).sum() <= 0  # noqa: B015
    with pytest.raises(ConstantError, match="numbers beyond 1e"):
        System.of(W <= -1e200)


def test_a_shape_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="do not fit"):
        W <= np.zeros(7)  # noqa: B015


def test_an_inequality_says_what_it_is() -> None:
    rule = (W.sum(dim=1) <= 1).named("budget")
    assert str(rule) == '"budget"  W.sum(dim=1) <= 1'
    assert repr(rule) == '<Constraint "budget"  W.sum(dim=1) <= 1, 6 inequalities>'
    assert repr(b[0] >= 0) == "<Constraint b[0] >= 0, 1 inequality>"
    assert repr(b == 0) == "<Constraint b == 0, 6 equations>"


def test_a_chain_of_bounds_says_what_to_write() -> None:
    for chain in (lambda: 0 <= W <= 1, lambda: 1 >= W >= 0):
        with pytest.raises(TruthValueError, match=r"affinet\.between\(0, a, 1\)"):
            chain()


def test_groups_are_compared_weight_by_weight() -> None:
    group = affinet.weights({"one.weight": (2, 3), "two.weight": (4,)})["*.weight"]
    for rules in (group >= 0, 0 <= group):
        assert [rule.text for rule in rules] == ["one.weight >= 0", "two.weight >= 0"]
    assert repr(group >= 0) == "<2 Rules, 10 equations and inequalities>"
    with pytest.raises(TruthValueError, match="between"):
        0 <= group <= 1  # noqa: B015


@given(lower=st.floats(-2, 0), width=st.floats(0, 2))
def test_between_is_two_rules(lower: float, width: float) -> None:
    low, high = affinet.between(lower, W, lower + width)
    assert (low.text, high.text) == (f"W >= {lower!r}", f"W <= {lower + width!r}")
    np.testing.assert_array_equal(holds(low) & holds(high), (VALUES["W"] >= lower) & (VALUES["W"] <= lower + width))


def test_between_takes_arrays_expressions_and_missing_bounds() -> None:
    low, high = affinet.between([-np.inf, 0, 0, 1, 1, 1], b, W[:, 0])
    assert (low.text, high.text) == ("b >= [-inf, 0.0, 0.0, 1.0, 1.0, 1.0]", "b <= W[:, 0]")
    assert [rule.text for rule in affinet.between(0, b, np.inf)] == ["b >= 0"]
    assert [rule.text for rule in affinet.between(np.full(6, -np.inf), b, 2)] == ["b <= 2"]
    assert len(affinet.between(-np.inf, b, np.inf)) == 0
    assert affinet.between is families.between


def test_between_has_one_name() -> None:
    assert [rule.name for rule in affinet.between(0, b, 1).named("share")] == ["share [lower]", "share [upper]"]
    group = affinet.weights({"one.weight": (2, 3), "two.weight": (4,)})["*.weight"]
    rules = affinet.between(0, group, 1)
    assert isinstance(rules, Rules)
    assert rules.labels == ("one.weight, lower", "one.weight, upper", "two.weight, lower", "two.weight, upper")


def test_a_lower_bound_above_the_upper_is_refused_by_its_entry() -> None:
    lower = np.zeros((6, 8))
    lower[2, 1] = 0.5
    with pytest.raises(ConstantError, match=r"lower bound of \(W\) is above its upper bound at \(2, 1\): 0.5 > 0.25"):
        affinet.between(lower, W, np.full(8, 0.25))
    with pytest.raises(ConstantError, match=r"above its upper bound: 1.0 > 0.0"):
        affinet.between(1, W, 0)
    with pytest.raises(ConstantError, match="nan cannot be a bound"):
        affinet.between(0, W, np.nan)
    with pytest.raises(RuleError, match=r"then weights, then an upper bound: .* Got \(W\), \(0\), \(1\)"):
        affinet.between(W, 0, 1)  # type: ignore[arg-type]


def test_a_system_counts_equations_and_inequalities_apart() -> None:
    system = System.of([W.sum(dim=1) == 1, W >= 0, b <= np.inf])
    assert (system.equations, system.inequalities) == (6, 54)
    assert [(rule.sense, rule.shape, rule.equations) for rule in system.rules] == [
        ("==", (6,), 6),
        (">=", (6, 8), 48),
        ("<=", (6,), 6),
    ]
    frozen = system.with_constants({"W": VALUES["W"]}, 2.0**-52)
    assert [rule.sense for rule in frozen.rules] == ["==", ">=", "<="]


def test_bounds_of_rows_and_columns_are_compared_without_their_pairs() -> None:
    large = affinet.weights({"large": (10**6, 10**6)}).large
    rows, columns = np.linspace(-2, -1, 10**6)[:, None], np.linspace(0, 1, 10**6)
    tracemalloc.start()
    low, high = affinet.between(rows, large, columns)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 10**6  # some copies of 8 MB each; a byte for each pair would be 10¹²
    assert (low.rows, high.rows) == (10**12, 10**12)
    with pytest.raises(TooLargeError, match=r"the bounds of \(large\) would take"):
        affinet.between(rows + 1.5, large, columns)


def test_a_missing_bound_counts_as_no_number_of_a_rule() -> None:
    rule = System.of(b <= [1, np.inf, 2, 1, 1, np.inf]).rules[0]
    assert all_between(0.5, 2, [rule.expression])
    assert not all_between(0.5, 1.5, [rule.expression])


@pytest.mark.parametrize("make", [
    lambda w, bound: w <= bound,
    lambda w, bound: w >= bound,
    lambda w, bound: bound >= w,
    lambda w, bound: affinet.between(bound, w, 2.0),
    lambda w, bound: affinet.between(-1.0, w, bound),
    lambda w, bound: families.linf_ball(w, bound),
    lambda w, bound: 2 * w + 1 <= bound,
])  # fmt: skip
def test_a_bound_that_repeats_the_weights_and_is_repeated_is_refused(make: Callable[[Any, Any], Any]) -> None:
    w = affinet.weights({"b": (5,), "W": (4, 5)})
    with pytest.raises(ShapeError, match=r"\(5,\) and its bound has shape \(5, 1\).* shape \(5, 5\), 25 inequalities"):
        make(w.b, np.ones((5, 1)))
    with pytest.raises(ShapeError, match=r"W.sum\(dim=1\).* shape \(4,\) and its bound has shape \(4, 1\)"):
        make(w.W.sum(dim=1), np.ones((4, 1)))
    for weights, shape in ((w.W, (4, 1)), (w.W, (5,)), (w.W, (1, 5)), (w.b, (1, 5)), (w.b[:1], (5, 1)), (w.b[0], (7,))):
        make(weights, np.ones(shape))


def test_the_bounds_of_a_repeated_number_may_be_many() -> None:
    w = affinet.weights({"b": (5,)}).b
    plan = affinet.plan(w[0] <= np.arange(7.0) + 1.0)
    assert plan.projector({"b": np.zeros(5)}).project({"b": np.full(5, 9.0)})["b"].tolist() == [1.0, 9.0, 9.0, 9.0, 9.0]


@pytest.mark.parametrize("make", [
    lambda w, bound: w <= bound,
    lambda w, bound: affinet.between(-np.inf, w, bound),
    lambda w, bound: families.linear([w], np.eye(3), bound, sense="<="),
])  # fmt: skip
def test_a_bound_that_is_no_number_names_its_weights(make: Callable[[Any, Any], Any]) -> None:
    w = affinet.weights({"layer": (3,)}).layer
    subject = r"layer|A @ w"  # families.linear bounds a product
    with pytest.raises(ConstantError, match=rf"the upper bound of \(({subject})\): .*1 entry that is NaN.*first at 1"):
        make(w, np.array([1.0, np.nan, 2.0]))
    with pytest.raises(ConstantError, match=rf"the upper bound of \(({subject})\): nan cannot be a bound"):
        make(w, float("nan"))


@pytest.mark.parametrize("order", [("w", 0, 1), (0, 1, "w")])
def test_between_with_its_arguments_in_another_order_shows_the_right_one(order: tuple[Any, ...]) -> None:
    weights = affinet.weights({"layer": (3,)})
    arguments = [weights.layer if each == "w" else each for each in order]
    with pytest.raises(RuleError, match=r"affinet\.between\(lower, w, upper\)\. Got .*\(layer\)"):
        affinet.between(*arguments)
    with pytest.raises(RuleError, match="between takes weights"):
        affinet.between(0, 1, 2)


@pytest.mark.parametrize("magnitude", [abs, np.abs, torch.abs, lambda w: w.abs()])
def test_the_magnitude_of_weights_leads_to_bounds_and_balls(magnitude: Callable[[Any], Any]) -> None:
    w = affinet.weights({"layer": (3,)}).layer
    with pytest.raises(affinet.NotAffineError, match=r"write between\(-1, w, 1\), or linf_ball.*l1_ball\(w, radius\)"):
        magnitude(w)
    with pytest.raises(
        affinet.ParseError, match=r"column 1: abs is not a function that rules can have.*between\(-1, w, 1\)"
    ):
        affinet.parse("abs(layer) <= 1", affinet.weights({"layer": (3,)}))
