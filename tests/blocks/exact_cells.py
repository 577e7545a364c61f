"""The nearest point of a box cut by one row, in rational numbers: every breakpoint of the multiplier is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite

import numpy as np


@dataclass(frozen=True)
class ExactCell:
    """`argmin Σ d (x − v)²` with `lower ≤ x ≤ upper` and `a·x = rhs`, or `≤` without `equation`; `t` multiplies `a`."""

    x: list[Fraction]
    t: Fraction

    def floats(self) -> np.ndarray:
        return np.array([float(number) for number in self.x])


def exact_cell(
    v: Sequence[Fraction | float],
    d: Sequence[float],
    a: Sequence[float],
    rhs: Fraction | float,
    lower: Sequence[Fraction | float],
    upper: Sequence[Fraction | float],
    *,
    equation: bool,
) -> ExactCell:
    """The solution; AssertionError where there is none."""
    point, coefficients = [Fraction(number) for number in v], [Fraction(number) for number in a]
    slope = [c / Fraction(weight) for c, weight in zip(coefficients, d, strict=True)]
    target = Fraction(rhs)

    def clipped(t: Fraction) -> list[Fraction]:
        moved = (number - t * rate for number, rate in zip(point, slope, strict=True))
        return [
            Fraction(low) if number < low else Fraction(high) if number > high else number
            for number, low, high in zip(moved, lower, upper, strict=True)
        ]

    def gap(t: Fraction) -> Fraction:
        return sum((c * x for c, x in zip(coefficients, clipped(t), strict=True)), start=-target)

    if not equation and gap(Fraction(0)) <= 0:
        return ExactCell(clipped(Fraction(0)), Fraction(0))
    turns = sorted(
        (number - Fraction(bound)) / rate
        for number, rate, bounds in zip(point, slope, zip(lower, upper, strict=True), strict=True)
        for bound in bounds
        if rate != 0 and isfinite(bound)
    )
    turns = [turns[0] - 1, *turns, turns[-1] + 1] if turns else [Fraction(0), Fraction(1)]
    gaps = [gap(t) for t in turns]
    # The gap falls as t grows, and is linear between two breakpoints and beyond the last.
    for number in range(len(turns) - 1):
        (t, g), (s, h) = (turns[number], gaps[number]), (turns[number + 1], gaps[number + 1])
        first, last = number == 0, number == len(turns) - 2
        if g != h and (h <= 0 or last) and (g >= 0 or first):
            root = t + (s - t) * g / (g - h)
            assert gap(root) == 0
            return ExactCell(clipped(root), root)
    at = next(number for number, value in enumerate(gaps) if value == 0)  # only one point satisfies the row
    return ExactCell(clipped(turns[at]), turns[at])
