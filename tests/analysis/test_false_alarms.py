"""Rules that hold and were once called contradictory: what was left of them was rounding, or had no digits."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.plans.plan import compiled
from affinet.system.system import System

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
SINGLE = np.float32


def test_what_a_fixed_entry_leaves_of_two_equations_is_rounding_of_it() -> None:
    """Both say that the rest is zero; in float32 each is off by its own share of the entry."""
    w = affinet.weights({"x": (4,)}).x
    rules = [
        SINGLE(267.83356) * w[0] == SINGLE(-535.6671),
        np.array([-29.628344, -35.554012, -23.702675, -23.702675], SINGLE) @ w == SINGLE(59.256687),
        np.array([0.00292554, 0.00292554, 0.00195036, 0.00195036], SINGLE) @ w == SINGLE(-0.0058510825),
    ]
    assert affinet.plan(rules).rank == 2
    with pytest.raises(affinet.InfeasibleError, match="cannot hold"):
        affinet.plan([*rules, w[1:].sum() - w[2] / 3 - w[3] / 3 == SINGLE(1e-3)])


@pytest.mark.parametrize("turned", [False, True])
def test_a_value_said_twice_is_compared_at_the_larger_rounding_of_the_two(turned: bool) -> None:
    """Once as it is, once as what is left of larger numbers; whichever comes first."""
    w = affinet.weights({"x": (3,)}).x
    rules = [
        np.array([-24.897, 24.897, -49.793], SINGLE) @ w == SINGLE(-24.897) * SINGLE(3.0) + SINGLE(4e-6),
        SINGLE(3.2715e-04) * w[0] == SINGLE(0.0),
        SINGLE(7.9518e-05) * w[0] + SINGLE(1.5904e-04) * w[2] == SINGLE(0.0),
        SINGLE(-1.2465e-04) * w[1] == SINGLE(3.7395e-04),
    ]
    assert affinet.plan(rules[::-1] if turned else rules).rank == 3


@pytest.mark.parametrize("b", [1e-300, 1e-310, 5e-320])
def test_independent_equations_contradict_nothing_however_small(b: float) -> None:
    w = affinet.weights({"a": (40, 40)}).a
    A = np.random.default_rng(0).standard_normal((5, 40))
    assert affinet.plan(families.linear([w[:, 0]], A, b)).rank == 5
    assert affinet.plan((A[:3, :4] @ w[:4, :3] == b).named("slices")).rank == 9


def test_what_frozen_weights_leave_of_a_right_hand_side_is_judged_beside_them() -> None:
    """Slices of one pattern were compared as if the 9e-16 that ten numbers leave of each other were a value."""
    w, frozen = affinet.weights({"a": (4,), "f": (18,)}), np.random.default_rng(3).standard_normal(18)

    def system(off: float) -> System:
        rules = [w.a[1:].sum() == 0, w.a[1:].sum() + 2 * w.f.sum() == 2 * float(frozen.sum()) + off]
        return System.of(rules).with_constants({"f": frozen}, 2.2e-16)

    for rounding in (0.0, 8.9e-16, -3e-15):
        assert compiled(system(rounding)).rank == 1
    with pytest.raises(affinet.InfeasibleError, match="cannot hold together"):
        compiled(system(1e-6))
