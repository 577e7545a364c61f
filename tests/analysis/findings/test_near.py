"""Rules that nearly agree or nearly contradict are named as a pair; well-conditioned ones never are."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.analysis.findings import near
from affinet.analysis.findings.near import NearlyContradictory, NearlyRedundant, smallest_reported
from affinet.system.tolerance import Tolerance

W = affinet.weights({"a": (4, 6), "c": (8,), "s": (300, 300), "long": (200,)})
EVEN = np.ones(8)
TILTED = EVEN + 1e-9 * np.arange(8.0)


def found(*rules: affinet.Constraint) -> list[NearlyContradictory | NearlyRedundant]:
    kinds = NearlyContradictory | NearlyRedundant
    return [finding for finding in affinet.plan(rules).findings if isinstance(finding, kinds)]


def test_rules_that_hold_only_far_away() -> None:
    (one,) = found((W.c @ EVEN == 1).named("even"), (W.c @ TILTED == 2).named("tilted"), W.c[0] + W.c[3] == 0)
    assert isinstance(one, NearlyContradictory)
    assert one.rules == ("even", "tilted")
    assert one.alone == pytest.approx(2 / np.sqrt(8), rel=1e-6)
    far = np.linalg.pinv(np.stack([EVEN, TILTED, np.eye(8)[0] + np.eye(8)[3]]), rcond=1e-14) @ [1, 2, 0]
    assert one.distance == pytest.approx(np.linalg.norm(far), rel=1e-4)
    assert 'nearly contradictory: the rules "even" and "tilted" together hold for c only far away' in str(one)


def test_rules_that_say_almost_the_same() -> None:
    (one,) = found((W.c @ EVEN == 1).named("even"), (W.c @ TILTED == 1).named("tilted"))
    assert isinstance(one, NearlyRedundant)
    sizes = np.linalg.svd(np.stack([EVEN, TILTED]) / np.sqrt(8), compute_uv=False)
    assert one.condition == pytest.approx(sizes[0] / sizes[1], rel=1e-3)
    assert one.rules == ("even", "tilted")
    assert "say almost the same twice about c (condition number" in str(one)


def test_a_few_equations_on_top_of_large_rules() -> None:
    almost = np.ones(300)
    almost[0] += 3e-8
    (one,) = found((W.s.sum(dim=1) == 1).named("rows"), (W.s[5] @ almost == 1).named("almost a row"))
    assert isinstance(one, NearlyRedundant)
    assert one.rules == ("rows", "almost a row")


def test_one_matrix_over_large_slices() -> None:
    matrix = np.ones((2, 300))
    matrix[1, 0] += 3e-7
    (one,) = found((matrix @ W.s == np.array([[1], [2]])).named("M"))
    assert isinstance(one, NearlyContradictory)
    assert one.rules == ("M",)


@pytest.mark.parametrize(
    "rules",
    [
        [W.long.diff() == 1],
        [W.long.diff().diff() == 0, W.long[0] == 1],
        [W.long.cumsum(0)[10:] == 1],
        [W.a.sum(dim=1) == 1, W.a.sum(dim=0) == 4 / 6],
        [1e-6 * W.c[0] + 1e6 * W.c[1] == 1, W.c.sum() == 1],
        [families.linear([W.c], np.vander(np.linspace(0, 1, 8), 5).T, 1)],
        [families.linear([W.long], np.random.default_rng(0).standard_normal((50, 200)), 1)],
        [families.linear([W.c], np.random.default_rng(0).standard_normal((7, 8)).astype(np.float32), 1)],
        [W.s.sum(dim=1) == 1, W.s.sum(dim=0) == 1],
        [1e-200 * (W.c[0] + W.c[1]) == 1e-200, W.c[1] + W.c[2] == 1],
    ],
    ids=str,
)
def test_ordinary_rules_are_not_told(rules: list[affinet.Constraint]) -> None:
    assert found(*rules) == []


def test_the_bound_is_half_the_digits_of_the_constants() -> None:
    assert smallest_reported(Tolerance()) == pytest.approx(2.0**26)
    assert smallest_reported(Tolerance(epsilon=2.0**-23)) == 1e4


@pytest.mark.parametrize("small", [1e-6, 1e-20, 1e-300])
def test_rules_that_only_a_tiny_coefficient_tells_apart(small: float) -> None:
    rules = [(small * W.c[0] + W.c[1] == 2).named("tiny"), (W.c[1] == 1).named("one")]
    (one,) = found(*rules)
    assert isinstance(one, NearlyContradictory)
    assert one.rules == ("tiny", "one")
    assert one.distance == pytest.approx(1 / small)
    assert one.condition == pytest.approx(2 / small)


@pytest.mark.parametrize("small", [1e-5, 1e-6])
def test_a_matrix_in_float32_is_told_of_like_one_in_float64(small: float) -> None:
    matrix = np.array([[small, 1, 0, 0], [0, 1, 0, 0]], np.float32)
    (one,) = found(families.linear([W.c[:4]], matrix, np.array([2, 1], np.float32)))
    assert isinstance(one, NearlyContradictory)
    assert one.distance == pytest.approx(1 / small, rel=1e-5)


def test_rules_that_agree_beside_a_tiny_coefficient_are_not_far_away() -> None:
    (one,) = found(1e-20 * W.c[0] + W.c[1] == 1, W.c[1] == 1)
    assert isinstance(one, NearlyRedundant)
    assert one.condition == pytest.approx(2e20)


def test_the_distance_is_that_of_the_nearest_solution_where_entries_stay_free() -> None:
    (one,) = found(1e-18 * W.c[0] + 1e-18 * W.c[3] + W.c[1] + W.c[2] == 2, W.c[1] + W.c[2] == 1)
    assert isinstance(one, NearlyContradictory)
    assert one.distance == pytest.approx(1e18 / np.sqrt(2))


def test_a_matrix_of_which_rounding_takes_a_rank_holds_far_away() -> None:
    """The Hilbert matrix has an inverse, and what it asks for lies where its coefficients are not known well enough."""
    k = np.arange(12)
    plan = affinet.plan(families.linear([W.long[:12]], 1.0 / (k[:, None] + k + 1), np.ones(12)))
    (one,) = plan.findings
    assert isinstance(one, NearlyContradictory)
    assert one.distance > 1e6
    assert "was decided close to the tolerance" in str(plan)


def test_the_condition_number_is_of_the_largest_and_the_smallest_that_counts() -> None:
    assert near._condition(np.diag([8.0, 4.0, 2.0, 1e-16])) == pytest.approx(4.0)
