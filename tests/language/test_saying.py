"""How expressions are said, and what rules they make."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from affinet.errors import RuleError, TruthValueError
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, concat, stack
from tests.language.drawn import (
    MASK,
    PLACES,
    ROWS,
    K,
    M,
    N,
    S,
    W,
    b,
    parameter,
)

SAID: dict[str, Expression] = {
    "W.sum(dim=1)": W.sum(dim=1),
    "3 * W[0, 1] - b[2] / 2": 3 * W[0, 1] - b[2] / 2,
    "W[1:, ::-1]": W[1:, ::-1],
    "W[..., None, :2]": W[..., None, :2],
    "(W + 1) * 2": (W + 1) * 2,
    "W - (b[:, None] - 1)": W - (b[:, None] - 1),
    "-(W * 2)": -(W * 2),
    "(-W).T": (-W).T,
    "2 * (3 * W)": 2 * (3 * W),
    "array(3, 6) @ W @ array(8, 2)": M @ W @ N,
    "W[[0, 2], :]": W[[0, 2], :],
    "W[array(9), array(9)]": W[ROWS, PLACES],
    "W[array(6, 8)]": W[MASK],
    "W.reshape(3, -1).mT": W.reshape(3, -1).mT,
    "K.permute(3, 2, 1, 0)": K.permute(3, 2, 1, 0),
    "stack([W, W + 1], dim=1)": stack([W, W + 1], 1),
    "concat([W, 0 * W])": concat([W, 0 * W]),
    "W.sum(dim=(0, 1), keepdim=True)": W.sum((0, 1), True),
    "S.tril(-1) + S.diff(dim=0).sum()": S.tril(-1) + S.diff(0).sum(),
    "W.roll(1, dim=0)": W.roll(1, 0),
    "W[0] + W[1]": sum([W[0], W[1]]),
    "W.mean() * -1.5": W.mean() * -1.5,
}


@pytest.mark.parametrize("text", SAID)
def test_it_is_said_as_it_was_written(text: str) -> None:
    assert str(SAID[text]) == text
    assert repr(SAID[text]) == f"<Expression {text} of shape {SAID[text].shape}>"


def test_a_long_sum_is_said_without_recursion_and_cut_short() -> None:
    text = str(sum(parameter("v", 5000)))
    assert text.startswith("v[0] + v[1] + ")
    assert text.endswith(" …")
    assert len(text) < 700


# Rules


def test_equality_makes_a_rule() -> None:
    rule = W.sum(dim=1) == 1
    assert isinstance(rule, Constraint)
    assert (rule.left, rule.right, rule.text, rule.name) == ("W.sum(dim=1)", "1", "W.sum(dim=1) == 1", None)
    assert (rule.shape, rule.rows, rule.expression.constant) == ((6,), 6, -1.0)
    named = rule.named("rows sum to one")
    assert (named.name, named.text) == ("rows sum to one", rule.text)
    assert str(named) == '"rows sum to one"  W.sum(dim=1) == 1'
    assert repr(rule) == "<Constraint W.sum(dim=1) == 1, 6 equations>"


def test_a_rule_has_no_truth_value() -> None:
    with pytest.raises(TruthValueError, match=r"\(W == 1\) has no truth value.*two rules"):
        bool(W == 1)
    with pytest.raises(TruthValueError, match="has no truth value"):
        W[0] == W[1] == W[2]  # noqa: B015
    with pytest.raises(TruthValueError, match=r"\(W\[0\]\) has no truth value"):
        bool(W[0])


def test_rules_about_constants_only() -> None:
    assert (0 * W == 0).expression.terms == ()
    assert ((W - W) * 0 == 1).expression.constant == -1.0
    assert ((0 * W + 2) * W).terms, "an expression without weights is a constant"


def test_a_name_must_be_text() -> None:
    with pytest.raises(RuleError, match="the name of a rule must be text"):
        (W == 0).named("")
    with pytest.raises(RuleError, match="the name of a rule must be text"):
        (W == 0).named(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(("symbol", "advice"), [("lt", "Write `<=`"), ("gt", "Write `>=`"), ("ne", "written with")])
def test_strict_inequalities_are_refused_with_what_to_write(symbol: str, advice: str) -> None:
    with pytest.raises(RuleError, match=advice):
        getattr(operator, symbol)(W, 1)


def test_a_strict_inequality_of_an_array_is_turned_around() -> None:
    with pytest.raises(RuleError, match=r"\(W\) > … is not a rule.*Write `>=`"):
        np.ones(8) < W  # noqa: B015  # the comparison raises
    with pytest.raises(RuleError, match=r"\(W\) < … is not a rule.*Write `<=`"):
        np.greater(np.ones(8), W)
