"""Each rule is read once: measuring, updating and copying a plan go on from what planning read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.planning import forms
from affinet.planning.forms import reading_of
from affinet.plans.updating import updated
from tests.limits import planned
from tests.oracle import Oracle, oracle

SHAPES = {"a": (9, 6), "b": (6, 9), "s": (8, 8), "c": (12,), "d": (7,), "e": (5, 7), "f": (4, 3)}
FROM_TERMS = {"one_by_one": 0, "fixed_from": 0}
READERS = ("read_fixings", "sections", "read", "read_panel")
DRAW = np.random.default_rng(0)
RULES: dict[str, Callable[[Any], Any]] = {
    "batch": lambda w: w.a @ DRAW.standard_normal((6, 2)) == 1,
    "sums": lambda w: 2 * w.e.sum(dim=0) == np.arange(7.0),
    "sections": lambda w: affinet.concat([w.f.sum(dim=1), 3 * w.c.reshape(4, 3).sum(dim=1)]) == np.arange(8.0),
    "mirror": lambda w: -3 * w.s + 3 * w.s.T == 0,
    "pairs": lambda w: 2 * w.a - w.b.T == np.arange(6.0),
    "panel": lambda w: families.linear([w.c, w.d], DRAW.standard_normal((3, 19)), DRAW.standard_normal(3)),
    "fixed": lambda w: 2 * w.e[:, ::2] == 0.5,
    "of no regular form": lambda w: w.d[np.array([0, 3, 5])] * 2 == w.c[np.array([4, 1, 0])] + 1,
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each reader was called."""
    counts: Counter[str] = Counter()

    def counted(name: str, reader: Callable[..., Any], *given: Any) -> Any:
        counts[name] += 1
        return reader(*given)

    for name in READERS:
        monkeypatch.setattr(forms, name, partial(counted, name, getattr(forms, name)))
    return counts


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_a_planned_rule_is_measured_without_reading_it(name: str, dtype: torch.dtype, read: Counter[str]) -> None:
    w: Any = affinet.weights(SHAPES)
    plan = planned([RULES[name](w), w.a[0, 0] == 3], **FROM_TERMS)
    assert reading_of(plan.system, 0).large
    after_planning = Counter(read)
    assert after_planning["read_fixings"] > 0
    given = {p.name: torch.randn(p.shape, dtype=torch.float64).to(dtype) for p in plan.parameters}
    projector = plan.projector(given)
    found = projector.violation(given)
    assert found == projector.violation(given)
    assert read == after_planning
    arrays = {key: x.double().numpy() for key, x in given.items()}
    truth = oracle(plan.system)
    assert list(found) == list(truth.violation(arrays))
    for rule, gap in truth.violation(arrays).items():
        assert found[rule] == pytest.approx(gap, rel=0, abs=rounding(truth, arrays))


def rounding(truth: Oracle, arrays: dict[str, np.ndarray]) -> float:
    """A sum of n products is off by (n + 1) u of Σ|a_j w_j| + |b| (Higham, 2nd ed., 3.1); each side has its order."""
    w = np.concatenate([arrays[p.name].ravel() for p in truth.layout.parameters])
    sizes = truth.scale * (np.abs(truth.matrix) @ np.abs(w) + np.abs(truth.rhs))
    return float(np.max(sizes)) * 2 * (len(w) + 2) * 2.0**-53


def test_rules_that_stay_are_not_read_again_for_an_updated_plan(read: Counter[str]) -> None:
    w: Any = affinet.weights(SHAPES)
    kept, changed = w.s == w.s.T, w.e.sum(dim=0) == 1
    plan = planned([kept, changed], **FROM_TERMS)
    before = read["read"]
    new = updated(plan, [w.e.sum(dim=0) == 2, kept])
    given = {p.name: torch.zeros(p.shape) for p in new.parameters}
    assert list(new.projector(given).violation(given).values()) == [2.0, 0.0]
    assert read["read"] == before + 1
