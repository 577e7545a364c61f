"""Trainings on NumPy alone: an optimizer by hand between the two verbs of the normal map."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi
from typing import Any

import numpy as np

from affinet.blocks.convex import ConvexSet
from affinet.blocks.namespace import NumPy
from affinet.blocks.normal_map import Learned, NormalMap

UNIT = 2.0**-53
OPTIMIZERS = ("gradient descent", "Adam")
Step = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def gradient_steps(rate: float) -> Step:
    """Gradient descent."""
    return lambda w, g, schedule: w - rate * schedule * g


def adam_steps(rate: float = 0.1) -> Step:
    """Adam (D. Kingma, J. Ba 2015), with the usual constants."""
    first: Any = 0.0
    second: Any = 0.0
    count = 0

    def step(w: np.ndarray, g: np.ndarray, schedule: float) -> np.ndarray:
        nonlocal first, second, count
        count += 1
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g * g
        root = np.sqrt(second / (1.0 - 0.999**count)) + 1e-8
        return w - rate * schedule * first / (1.0 - 0.9**count) / root

    return step


def optimizer_of(name: str, curvature: float) -> tuple[Step, int]:
    """An optimizer, and a number of steps in which it comes to an optimum of such a curvature."""
    return (adam_steps(), 300) if name == "Adam" else (gradient_steps(1.0 / curvature), 3000)


def trained(
    convex: ConvexSet[Any],
    gradient: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    step: Step,
    steps: int,
    visited: Callable[[np.ndarray, Learned[Any]], None] = lambda w, state: None,
) -> tuple[np.ndarray, Learned[Any]]:
    """The weights after so many steps under a cosine schedule, and what is known there; `visited` sees every step."""
    xp, law = NumPy(), NormalMap(convex)
    with np.errstate(all="ignore"):
        w, _ = convex.nearest(xp, start)
        state = law.start(xp, gradient(w), w, UNIT)
        for number in range(steps):
            g = gradient(w)
            underway, projected = law.learn(xp, g, w, state)
            stepped = step(w, law.silenced(xp, projected, g, 32 * UNIT), 0.5 + 0.5 * cos(pi * number / steps))
            w, state = law.land(xp, stepped, underway, UNIT)
            visited(w, state)
    return w, state
