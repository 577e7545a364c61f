"""The benchmark of multipliers trains rows together as each is trained alone, whatever the scale of the loss."""

from __future__ import annotations

import pytest

from benchmarks.hock_schittkowski import PROBLEMS
from benchmarks.multipliers import trained, trained_together

PENALTY, DUAL_RATE = 30.0, 0.03


@pytest.mark.parametrize("name", ["HS39", "HS60"])
def test_rows_end_where_each_ends_alone(name: str) -> None:
    """ρ grows over the first ten steps of a row alone, and is what it grows to from the first step on among others."""
    problem = next(each for each in PROBLEMS if each.name == name)
    starts = problem.starts()[:2]
    together = trained_together(problem, starts, 1.0, [0.1], PENALTY, DUAL_RATE)
    for start, (row,) in zip(starts, together, strict=True):
        alone = trained(problem, start, 1.0, 0.1, PENALTY, DUAL_RATE)
        assert row.is_kkt
        assert alone.is_kkt
        assert row.gap == pytest.approx(alone.gap, abs=1e-5)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_rows_end_at_the_same_points_whatever_the_scale_of_the_loss(scale: float) -> None:
    """Adam's ε is all that differs: 1e-8 of gradients of this size, times 100."""
    problem = next(each for each in PROBLEMS if each.name == "HS40")
    points = [trained_together(problem, problem.starts()[:3], s, [0.1], PENALTY, DUAL_RATE) for s in (1.0, scale)]
    for (plain,), (scaled,) in zip(*points, strict=True):
        assert plain.is_kkt
        assert scaled.is_kkt
        assert plain.gap == pytest.approx(scaled.gap, abs=1e-5)
