"""`explain` tells entries that nonlinear equations leave isolated values only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import affinet
from affinet.plans.explanation import Explanation
from tests.limits import planned

Rules = Callable[[Any], list[Any]]
ISOLATED: dict[str, tuple[Rules, int]] = {
    "a circle and a line": (lambda w: [w[0] ** 2 + w[1] ** 2 == 1, w[0] == w[1]], 0),
    "a product that another one contains": (lambda w: [w[0] * w[1] == 1, w[0] * w[1] * w[2] == 3], 2),
    "a power": (lambda w: [w[0] ** 3 == 8], 0),
    "a length of one number": (lambda w: [w[:1].norm() == 1], 0),
}
MOVING: dict[str, tuple[Rules, int]] = {
    "a circle": (lambda w: [w[0] ** 2 + w[1] ** 2 == 1], 0),
    "a factor": (lambda w: [w[0] * w[1] == 1, w[0] * w[1] * w[2] == 3], 0),
    "orthonormal rows": (lambda w: [w[:4].reshape(2, 2) @ w[:4].reshape(2, 2).T == np.eye(2)], 0),
    "no solution": (lambda w: [w[0] ** 2 == -1], 0),
    "a circle within bounds": (lambda w: [w[0] ** 2 + w[1] ** 2 == 1, w[0] == w[1], w[0] >= 0], 0),
}
ROADS: dict[str, dict[str, int]] = {"dense": {}, "sparse": {"dense_curved": 0}}


def explained(rules: Rules, entry: int, **limits: int) -> Explanation:
    w = affinet.weights({"w": (6,)}).w
    explanation = affinet.explain(planned(rules(w), **limits), w[entry])
    assert isinstance(explanation, Explanation)
    return explanation


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("case", ISOLATED)
def test_isolated_entries_are_told(case: str, road: str) -> None:
    explanation = explained(*ISOLATED[case], **ROADS[road])
    assert explanation.isolated
    assert "can take isolated values only: along its equations it cannot move." in str(explanation)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("case", MOVING)
def test_entries_that_may_move_or_are_not_known_are_held(case: str, road: str) -> None:
    explanation = explained(*MOVING[case], **ROADS[road])
    assert not explanation.isolated
    assert "isolated" not in str(explanation)


def test_each_entry_is_told_by_its_equations() -> None:
    """Entries of several cells in an order that is not that of the weight."""
    w = affinet.weights({"a": (3,), "b": (3,)})
    plan = affinet.plan([w.a[::-1] ** 2 + w.b**2 == 2, w.b[0] == 1, w.a[1] * w.b[1] == 0.5])
    isolated = {
        f"{name}[{k}]"
        for name in ("a", "b")
        for k in range(3)
        if getattr(affinet.explain(plan, f"{name}[{k}]"), "isolated", False)
    }
    # b[0] is fixed by its own equation, and then a[2]; a[1] and b[1] are where a circle meets a hyperbola.
    assert isolated == {"a[2]", "a[1]", "b[1]"}
