"""Entries in the user's words."""

from __future__ import annotations

import numpy as np
import pytest

from affinet.analysis.lookup.entry_names import by_rules, counted, cut, named, named_columns, quoted
from affinet.language.calculus.terms import Parameter
from affinet.system.layout import Layout

P = Parameter("w", (4, 6))
PLACES = np.arange(24).reshape(4, 6)


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        (PLACES, "w"),
        (PLACES[0], "w[0, :]"),
        (PLACES[:, 5], "w[:, 5]"),
        (PLACES[1:3, ::2], "w[1:3, :5:2]"),
        (PLACES[2:, 3:], "w[2:, 3:]"),
        (PLACES[[0, 1, 3]], "w[[0, 1, 3], :]"),
        (PLACES[2, 3], "w[2, 3]"),
        (np.array([0, 7]), "w[0, 0], w[1, 1]"),
        (np.array([0, 7, 14, 21]), "w[0, 0], w[1, 1], w[2, 2], w[3, 3]"),
        (np.array([0, 7, 14, 21, 22]), "w[0, 0], w[1, 1], w[2, 2], … (5 entries)"),
        (np.zeros(0, np.int64), "nothing of w"),
    ],
    ids=str,
)
def test_positions(positions: np.ndarray, said: str) -> None:
    assert named(P, np.ravel(positions)) == said


@pytest.mark.parametrize("said", ["w[1:3, :5:2]", "w[2:, 3:]", "w[[0, 1, 3], :]", "w[0, :]", "w[2, 3]"])
def test_what_is_said_selects_the_entries(said: str) -> None:
    found = eval(said, {"w": PLACES})
    assert named(P, np.ravel(found)) == said


def test_scalars_and_several_weights() -> None:
    layout = Layout((Parameter("a", (3,)), Parameter("x", ()), Parameter("y", (1,)), Parameter("z", (2,))))
    assert named(layout.parameters[1], np.array([0])) == "x"
    assert named(layout.parameters[2], np.array([0])) == "y[0]"
    assert named_columns(layout, np.array([0, 1, 2, 3, 4, 6])) == "a, x, y[0] and 1 more weights"


def test_rules_and_counts() -> None:
    assert quoted([]) == "no rule"
    assert quoted(["a"]) == '"a"'
    assert quoted(["a", "b", "c"]) == '"a", "b" and "c"'
    assert quoted(list("abcdefg"), 2) == '"a", "b", … (7 rules)'
    assert by_rules(["a"]) == 'the rule "a"'
    assert by_rules(["a", "b"]) == 'the rules "a" and "b" together'
    assert (counted(1, "entry"), counted(2, "entry"), counted(1_000, "rule")) == ("1 entry", "2 entries", "1,000 rules")
    assert cut("a  b\nc") == "a b c"
    assert cut("x" * 70) == "x" * 59 + "…"
