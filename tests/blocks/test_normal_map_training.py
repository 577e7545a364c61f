"""Trainings with the normal map around optimizers in NumPy: they end at the optimum, and never leave the set."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi
from typing import NamedTuple

import numpy as np
import pytest

from affinet.blocks.namespace import NumPy
from affinet.blocks.normal_map import NormalMap
from tests.blocks.golden_problems import PROBLEMS, Problem
from tests.blocks.polyhedra import Polyhedron, distance_from_cone

XP = NumPy()
U = 2.0**-53

Step = Callable[[np.ndarray, float], np.ndarray]


def sgd() -> Step:
    """With momentum."""
    velocity: list[np.ndarray] = [np.zeros(1)]

    def step(g: np.ndarray, rate: float) -> np.ndarray:
        velocity[0] = 0.9 * velocity[0] + g
        return rate * velocity[0]

    return step


def adam() -> Step:
    count, mean, square = [0], [np.zeros(1)], [np.zeros(1)]

    def step(g: np.ndarray, rate: float) -> np.ndarray:
        count[0] += 1
        mean[0], square[0] = 0.9 * mean[0] + 0.1 * g, 0.999 * square[0] + 0.001 * g * g
        size = np.sqrt(square[0] / (1 - 0.999 ** count[0])) + 1e-8
        return np.asarray(rate * mean[0] / (1 - 0.9 ** count[0]) / size)

    return step


def rmsprop() -> Step:
    square: list[np.ndarray] = [np.zeros(1)]

    def step(g: np.ndarray, rate: float) -> np.ndarray:
        square[0] = 0.99 * square[0] + 0.01 * g * g
        return np.asarray(rate * g / (np.sqrt(square[0]) + 1e-8))

    return step


class Ended(NamedTuple):
    """The weights at the end, the averaged multipliers, and the largest violation of any step."""

    w: np.ndarray
    y: np.ndarray
    violation: float


def body_of(problem: Problem) -> Polyhedron:
    convex = problem.convex
    return Polyhedron(
        convex.matrix[0], convex.rhs[0], convex.equations, convex.lower[0], convex.upper[0], problem.start
    )


def train(problem: Problem, step: Step, rate: float, steps: int) -> Ended:
    """A training with a rate that falls like a cosine."""
    convex, body, law = problem.convex, body_of(problem), NormalMap(problem.convex)
    w, _ = convex.nearest(XP, problem.start[None])
    state = law.start(XP, problem.gradient(w[0])[None], w, U)
    violation = 0.0
    for k in range(steps):
        g = problem.gradient(w[0])[None]
        pending, projected = law.learn(XP, g, w, state)
        h = law.silenced(XP, projected, g, 32 * U)
        w, state = law.land(XP, w - step(h, rate * 0.5 * (1 + cos(pi * k / steps))), pending, U)
        violation = max(violation, body.violation(w[0]))
    return Ended(w[0], state.y[0], violation)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("optimizer", [adam, rmsprop])
def test_the_optimum(name: str, optimizer: Callable[[], Step]) -> None:
    """To 1e-9 of what there was to gain: the rate has fallen to 1e-6 of its start in the last steps.

    RMSprop, which divides by what it has seen in the last hundred steps alone, runs into bounds again while it does.
    """
    problem = PROBLEMS[name]()
    ended = train(problem, optimizer(), problem.rate, 1_000)
    gain = problem.value(problem.start) - problem.optimum
    # Optima are published with eleven digits, HS86 with ten.
    digits = 1e-10 * abs(problem.optimum)
    assert abs(problem.value(ended.w) - problem.optimum) <= 1e-9 * gain + digits
    assert ended.violation <= 1e-14
    g, body = problem.gradient(ended.w), body_of(problem)
    assert np.linalg.norm(ended.y + g) <= 1e-4 * np.linalg.norm(g)
    active = body.active(ended.w, 1e-13)
    assert distance_from_cone(active, ended.y) <= 1e-12 * np.linalg.norm(g)


@pytest.mark.parametrize("name", ["dense20", "rows =", "rows <="])
def test_the_optimum_by_gradient_descent(name: str) -> None:
    problem = PROBLEMS[name]()
    assert problem.curvature is not None
    ended = train(problem, sgd(), 1.0 / problem.curvature, 1_500)
    assert abs(problem.value(ended.w) - problem.optimum) <= 1e-9 * (problem.value(problem.start) - problem.optimum)
    assert ended.violation <= 1e-14
