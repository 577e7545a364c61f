"""The oracle itself, against what can be said by hand."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.system.system import System
from tests.oracle import oracle

W = affinet.weights({"a": (2, 2), "b": ()})


def test_a_tie_meets_in_the_middle() -> None:
    truth = oracle(System.of([W.a[0, 0] == W.b]))
    found = truth.project({"a": np.array([[1.0, 2], [3, 4]]), "b": np.array(3.0)})
    np.testing.assert_allclose(found["a"], [[2, 2], [3, 4]])
    assert found["b"] == pytest.approx(2)
    assert truth.rank == 1


def test_violations_are_in_the_units_of_the_rule() -> None:
    truth = oracle(System.of([(10 * W.a.sum(1) == 5).named("rows"), W.b == 1, 0 * W.b == 0]))
    found = truth.violation({"a": np.ones((2, 2)), "b": np.array(0.25)})
    assert found == pytest.approx({"rows": 15.0, "b == 1": 0.75, "0 * b == 0": 0.0})


def test_scaling_a_rule_changes_nothing_else() -> None:
    given = {"a": np.array([[1.0, 2], [3, 4]]), "b": np.array(3.0)}
    one, other = (oracle(System.of([s * W.a.sum() == s * 1.0, W.a[0, 0] == W.b])) for s in (1.0, 1e-9))
    for verb in ("project", "tangent"):
        for name in given:
            np.testing.assert_allclose(getattr(one, verb)(given)[name], getattr(other, verb)(given)[name], atol=1e-12)


def test_no_rules_move_nothing() -> None:
    truth = oracle(System.of([]))
    assert (truth.rank, truth.project({}), truth.tangent({}), truth.violation({})) == (0, {}, {}, {})
