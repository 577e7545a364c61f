"""What counts as zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet.system.system import System
from affinet.system.tolerance import DOUBLE_EPSILON, Tolerance

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")  # some of these determine all


def test_bounds_grow_with_the_system_and_stay_below_a_tenth() -> None:
    small, large = Tolerance(), Tolerance(epsilon=0.01)
    assert small.rank(3, 4) == 8 * DOUBLE_EPSILON * 4
    assert small.rank(3, 1000) > small.rank(3, 10)
    assert small.consistency(10_000) > small.consistency(4)
    assert large.rank(10, 10) == large.consistency(10) == 0.1


def test_frozen_weights_loosen_consistency_only() -> None:
    plain, frozen = Tolerance(), Tolerance(frozen=1e-3)
    assert frozen.rank(5, 5) == plain.rank(5, 5)
    assert frozen.cancellation == plain.cancellation
    assert frozen.consistency(5) > plain.consistency(5)


def test_the_coarsest_constant_decides() -> None:
    w = affinet.weights({"a": (3,)})
    assert System.of(w.a == 1.5).tolerance.epsilon == DOUBLE_EPSILON
    assert System.of([w.a == np.float32(0.1), w.a.sum() == 1]).tolerance.epsilon == np.finfo(np.float32).eps
    assert System.of(w.a == torch.zeros(3, dtype=torch.bfloat16)).tolerance.epsilon == torch.finfo(torch.bfloat16).eps
    assert System.of(w.a == np.arange(3)).tolerance.epsilon == DOUBLE_EPSILON


@pytest.mark.parametrize("wrong", [0.0, -1e-9, 0.1, 1, float("nan")])
def test_a_tolerance_that_is_none(wrong: float) -> None:
    w = affinet.weights({"a": (3,)})
    with pytest.raises(affinet.RuleError, match=r"give a number between 0 and 0\.1"):
        affinet.plan(w.a == 1, tolerance=wrong)


def test_a_user_decides_what_is_redundant() -> None:
    w = affinet.weights({"a": (4,)})
    rules = [w.a.sum() == 1, w.a @ [1.0, 1.0, 1.0, 1.0 + 1e-6] == 1]
    assert affinet.plan(rules).rank == 2
    assert affinet.plan(rules, tolerance=1e-4).rank == 1


def test_constants_in_float32_that_repeat_up_to_rounding() -> None:
    w = affinet.weights({"a": (4,)})
    third = np.float32(1) / np.float32(3)
    rules = [w.a.sum() * third == third, w.a.sum() == 1, w.a * np.float32(0.1) == w.a[0] * np.float32(0.1)]
    assert affinet.plan(rules).rank == 4
