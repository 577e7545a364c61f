"""The runner of the 216 starts: problems that arrive, that do not yet, and that have no way to the equations."""

from __future__ import annotations

import pytest

from benchmarks import starts
from benchmarks.hock_schittkowski import PROBLEMS, Problem


@pytest.fixture
def circle() -> Problem:
    return Problem("HS1", (2.0, 1.0), lambda x, y: x, lambda x, y: [x**2 + y**2 - 1], -1.0)


def test_all_starts_of_a_circle_arrive(circle: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "RATES", (0.1,))
    outcomes = starts.outcomes(circle, steps=300)
    assert [outcome.start for outcome in outcomes] == list(range(12))
    assert all(outcome.kkt and outcome.optimal and not outcome.reason for outcome in outcomes)


def test_what_has_not_arrived_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "RATES", (1e-3,))
    (problem,) = (each for each in PROBLEMS if each.name == "HS39")
    outcomes = starts.outcomes(problem, steps=2)
    assert not any(outcome.kkt for outcome in outcomes)
    assert all(outcome.reason.startswith("not at rest yet") for outcome in outcomes)


def test_starts_without_a_way_to_the_equations_are_told() -> None:
    nowhere = Problem("HS2", (1.0,), lambda x: x, lambda x: [x**2 + 1], 0.0)
    outcomes = starts.outcomes(nowhere, steps=1)
    assert {outcome.reason for outcome in outcomes} == {"no way to the equations was found"}
