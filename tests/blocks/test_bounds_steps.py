"""Steps under bounds with multipliers as the only state are those of the normal map, for every kind of bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from affinet.blocks.bounds_steps import BoundsSteps
from affinet.blocks.entry_bounds import Boxes
from affinet.blocks.namespace import NumPy
from affinet.blocks.normal_map import NormalMap

COUNT, STEPS = 50, 120
XP, RANDOM = NumPy(), np.random.default_rng(0)
SOME = RANDOM.random(COUNT) < 0.5
ROUNDINGS = 16.0
"""A division, products and sums of numbers up to four, rounded in another order; steps contract what came before."""
BOUNDS: dict[str, tuple[Any, Any]] = {
    "at least zero": (0.0, np.inf),
    "at most zero": (-np.inf, 0.0),
    "at least another number": (0.1, np.inf),
    "on both sides": (-0.5, 0.25),
    "of some entries": (np.where(SOME, -0.2, -np.inf), np.where(RANDOM.random(COUNT) < 0.5, 0.3, np.inf)),
    "that leave nothing free": (0.2, np.where(SOME, 0.2, 0.4)),
}


def boxes(name: str) -> Boxes:
    lower, upper = (np.broadcast_to(np.asarray(bound, float), (COUNT,)).copy() for bound in BOUNDS[name])
    return Boxes((COUNT,), lower, upper)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", BOUNDS)
def test_steps_are_those_of_the_normal_map(name: str, dtype: Any) -> None:
    """With momentum, targets that move across bounds, and steps that move nothing."""
    each, steps = NormalMap(boxes(name)), BoundsSteps(boxes(name))
    random, u = np.random.default_rng(1), each.roundoff(float(np.finfo(dtype).eps) / 2.0, float(np.finfo(dtype).eps))
    target = random.normal(size=COUNT).astype(dtype)
    w = one = each.nearest(XP, random.normal(size=COUNT).astype(dtype)).astype(dtype)
    known, learned = each.start(XP, w - target, w, u), steps.start(XP, w - target, w, u)
    momentum, other = np.zeros(COUNT, dtype), np.zeros(COUNT, dtype)
    releases = 0
    for number in range(STEPS):
        target = target + (0.3 * random.normal(size=COUNT)).astype(dtype)
        one, learned = steps.resumed(XP, one, learned.y, np.array(True), u)
        step, projected = each.learn(XP, w - target, w, known)
        begun, along = steps.learn(XP, one - target, one, learned)
        momentum, other = (dtype(0.8) * sum_ + part for sum_, part in ((momentum, projected), (other, along)))
        rate = dtype(0.0 if number % 17 == 3 else 0.1)
        former = known.face
        with np.errstate(all="ignore"):
            w, known = each.land(XP, w - rate * momentum, step, u)
            one, learned = steps.land(XP, one - rate * other, begun, u)
        releases += int((former.lower & ~known.face.lower).sum() + (former.upper & ~known.face.upper).sum())
        assert one.dtype == learned.y.dtype == dtype
        rounding = ROUNDINGS * np.finfo(dtype).eps
        np.testing.assert_allclose(one, w, rtol=0, atol=rounding)
        np.testing.assert_allclose(learned.y, known.y, rtol=0, atol=rounding)
        np.testing.assert_array_equal(learned.y < 0.0, known.face.lower)
        np.testing.assert_array_equal(learned.y > 0.0, known.face.upper)
    assert releases > 0


@pytest.mark.parametrize("name", BOUNDS)
def test_entries_changed_from_outside_lose_their_multipliers(name: str) -> None:
    steps, u = BoundsSteps(boxes(name)), 4.0 * 2.0**-53
    lower, upper = steps.set.bounds()
    w = np.where(np.isfinite(lower), lower, np.where(np.isfinite(upper), upper, 0.0))
    y = np.where(np.isfinite(lower), -1.0, np.where(np.isfinite(upper), 1.0, 0.0))
    moved = np.where(np.arange(COUNT) % 2, w, np.where(np.isfinite(lower), w + 1e-3, w - 1e-3))
    start, known = steps.resumed(XP, moved, y, np.array(True), u)
    np.testing.assert_array_equal(start, np.clip(moved, lower, upper))
    np.testing.assert_array_equal(known.y, np.where(start == w, y, 0.0))


def test_rounding_of_an_update_leaves_entries_at_their_bound() -> None:
    steps, rounding = BoundsSteps(boxes("at least another number")), np.full(COUNT, 1e-6)
    start, known = steps.resumed(XP, np.full(COUNT, 0.1 + 1e-7), np.full(COUNT, -1.0), np.array(True), 1e-15, rounding)
    assert (start == 0.1).all()
    assert (known.y == -1.0).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_changes_no_multiplier(value: float) -> None:
    steps, u = BoundsSteps(boxes("on both sides")), 1e-15
    w = np.where(SOME, -0.5, 0.0)
    known = steps.start(XP, np.ones(COUNT), w, u)
    begun, along = steps.learn(XP, np.full(COUNT, value), w, known)
    np.testing.assert_array_equal(along, np.where(SOME, 0.0, value))
    with np.errstate(all="ignore"):
        landed, after = steps.land(XP, np.where(SOME, w - 0.1, value), begun, u)
    np.testing.assert_array_equal(landed, np.where(SOME, w, value))
    np.testing.assert_array_equal(after.y, known.y)
