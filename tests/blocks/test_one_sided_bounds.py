"""Bounds on one side alone take the steps of bounds on both sides of which one is far away, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from affinet.blocks.entry_bounds import Boxes
from affinet.blocks.namespace import NumPy
from affinet.blocks.normal_map import NormalMap

XP, SHAPE, UNIT, FAR = NumPy(), (40, 25), 2.0**-53, 1e30
SIDES = {
    "lower": ((0.0, np.inf), (0.0, FAR)),
    "upper": ((-np.inf, 0.25), (-FAR, 0.25)),
    "lower, a few entries": ((np.where(np.arange(25) < 5, 0.0, -np.inf), np.inf), None),
}


def boxes(lower: Any, upper: Any) -> Boxes:
    return Boxes(SHAPE, *(np.broadcast_to(np.asarray(bound, float), (1, np.size(bound))) for bound in (lower, upper)))


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_steps_are_those_of_a_far_bound(side: str) -> None:
    """Gradients that change their sign, steps that do not move some entries, and one that is not finite."""
    ends = [trained(NormalMap(boxes(*bounds))) for bounds in SIDES[side]]
    for one_sided, two_sided in zip(*ends, strict=True):
        np.testing.assert_array_equal(one_sided, two_sided)


def test_marks_are_kept_on_the_side_with_bounds() -> None:
    w, _, lower, upper, _ = trained(NormalMap(boxes(*SIDES["lower, a few entries"][0])))
    assert (w[:, :5] >= 0.0).all()
    assert (w[:, 5:] < 0.0).any()
    assert lower[:, :5].any()
    assert not lower[:, 5:].any()
    assert not upper.any()


def test_tangents_of_bounds_are_no_noise() -> None:
    """The part of a gradient along bounds is the gradient itself, or zero: however small, it is no rounding."""
    law, random = NormalMap(boxes(-1.0, 1.0)), np.random.default_rng(0)
    g = random.normal(size=SHAPE) * 10.0 ** random.integers(-300, 300, SHAPE)
    face = law.face_at(XP, random.normal(size=SHAPE))
    projected = law.tangent_part(XP, g, face)
    np.testing.assert_array_equal(projected, np.where(face.lower | face.upper, 0.0, g))
    np.testing.assert_array_equal(law.silenced(XP, projected, g, 32.0 * UNIT), projected)
    with np.errstate(under="ignore"):
        noise = 32.0 * UNIT * (abs(g) + law.norm(XP, g))
    assert (abs(projected) > noise)[projected != 0.0].all()


def trained(law: NormalMap[Any]) -> tuple[np.ndarray, ...]:
    """The weights, averaged multipliers, marks and last gradient along the face after steps of gradient descent."""
    random = np.random.default_rng(0)
    w = law.nearest(XP, random.normal(size=SHAPE))
    target, known, tangent = random.normal(size=SHAPE), None, w
    for number in range(30):
        g = w - target + 0.3 * random.normal(size=SHAPE)
        known = law.start(XP, g, w, UNIT) if known is None else known
        underway, tangent = law.learn(XP, g, w, known)
        tangent = law.silenced(XP, tangent, g, 32.0 * UNIT)
        step = np.where(random.random(SHAPE) < 0.1, 0.0, 0.2 * tangent)
        step[0, 0] = np.nan if number == 7 else step[0, 0]
        stepped = w - step
        w_next, known = law.land(XP, stepped, underway, UNIT)
        w = np.where(np.isfinite(w_next), w_next, w)
    return w, known.y, known.face.lower, known.face.upper, tangent
