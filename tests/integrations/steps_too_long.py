"""A nonlinear equation with a cusp, and steps of gradient descent that lead beyond it, where it has no points."""

from __future__ import annotations

from typing import Any

import numpy as np

import affinet

START, GRADIENT = np.array([1.0, 1.0]), np.array([1.0, 0.0])
RATE, STEPS = 0.3125, 10
"""A rate that float32 holds: TensorFlow rounds it."""


def rules_of(w: Any) -> list[affinet.Constraint]:
    return [(w["w"][1] ** 2 == w["w"][0] ** 3).named("cusp")]
