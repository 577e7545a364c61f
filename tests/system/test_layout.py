"""Columns number the entries of all parameters laid end to end, whichever rule spoke of them first."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.errors import RuleError
from affinet.language.calculus.terms import Parameter
from affinet.system.layout import Layout

A, B, C = Parameter("a", (2, 3)), Parameter("b", ()), Parameter("c.weight", (4,))
LAYOUT = Layout.of([C, A, C, B, A])


def test_parameters_stand_by_name_each_once() -> None:
    assert LAYOUT.parameters == (A, B, C)
    assert LAYOUT.starts == (0, 6, 7)
    assert LAYOUT.size == 11
    assert [LAYOUT.start(p) for p in (A, B, C)] == [0, 6, 7]


def test_one_name_with_two_shapes_is_refused() -> None:
    with pytest.raises(RuleError, match=r"two weights named .a., of shapes \(2, 3\) and \(3, 2\)"):
        Layout.of([A, C, Parameter("a", (3, 2))])


def test_rules_of_two_models_are_refused() -> None:
    small, large = affinet.weights({"a": (2,)}), affinet.weights({"a": (3,)})
    with pytest.raises(RuleError, match=r"two weights named 'a', of shapes \(2,\) and \(3,\)"):
        affinet.plan([small.a.sum() == 1, large.a.sum() == 1])


def test_a_column_is_described_as_the_user_writes_it() -> None:
    assert [LAYOUT.describe(column) for column in (0, 5, 6, 7, 10)] == [
        "a[0, 0]",
        "a[1, 2]",
        "b",
        "c.weight[0]",
        "c.weight[3]",
    ]


def test_columns_know_their_parameter() -> None:
    numbers = [LAYOUT.number(column) for column in range(11)]
    assert numbers == [0] * 6 + [1] + [2] * 4
    np.testing.assert_array_equal(LAYOUT.numbers(np.arange(11)), numbers)


def test_a_parameter_without_entries_owns_no_column() -> None:
    layout = Layout((A, Parameter("empty", (0, 5)), C))
    assert [layout.number(column) for column in (5, 6, 9)] == [0, 2, 2]
    assert layout.describe(6) == "c.weight[0]"


def test_splitting_columns_keeps_their_order_and_covers_each_once() -> None:
    columns = np.array([9, 0, 6, 8, 5, 0])
    parts = LAYOUT.split(columns)
    assert [(p.name, places.tolist(), positions.tolist()) for p, places, positions in parts] == [
        ("a", [1, 4, 5], [0, 5, 0]),
        ("b", [2], [0]),
        ("c.weight", [0, 3], [2, 1]),
    ]
    assert LAYOUT.split(np.zeros(0, np.int64)) == []


def test_columns_of_large_models_do_not_overflow() -> None:
    layout = Layout(tuple(Parameter(f"p{k}", (65536, 65536)) for k in range(3)))
    assert layout.start(layout.parameters[2]) == 2**33
    assert layout.describe(2**33 + 65537) == "p2[1, 1]"
    assert layout.numbers(np.array([2**33 - 1, 2**33])).tolist() == [1, 2]
