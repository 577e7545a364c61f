"""What `affinet check` counts."""

from __future__ import annotations

import pytest

import affinet
from affinet.cli.checking import _rows_text
from affinet.system.system import System

a, b = affinet.weights({"a": (40, 50), "b": (3,)})


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([], "0 equations"),
        ([b.sum() == 1], "1 equation"),
        ([b == 0, b[0] >= 0], "3 equations, 1 inequality"),
        ([a >= 0, affinet.families.l2_ball(b, 1)], "2,001 inequalities"),
    ],
)
def test_equations_and_inequalities_are_counted_apart(rules: list[affinet.Constraint], text: str) -> None:
    assert _rows_text(System.of(rules)) == text
