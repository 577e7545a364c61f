"""What in a row of observations is worth a warning: steps that are undone, multipliers that diverge."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from statistics import median

from affinet.training.movement import Movement

ALMOST_ALL = 0.99
"""The share of a step's squared length from which on it counts as undone."""
CONSECUTIVE = 5
"""As many undone steps one after the other are a sign, and fewer an accident."""
SHORT = 0.1
"""Steps of less than this share of the longest are those of a training that has converged, or is warming up."""
ROUNDINGS = 2.0
"""Steps of fewer roundings of the weights are rounding."""

WINDOW = 100
"""Over as many observations the usual size of multipliers is taken."""
KNOWN = 10
"""After as many it is known."""
GROWN = 1e3
"""Multipliers of so many times their usual size diverge."""
LASTING = 3
"""As many observations one after the other: a single bad batch is no divergence."""
FAINT = 1e-6
"""Rules whose multipliers are less than this share of the largest hold for nothing, and theirs are rounding."""


@dataclass
class Undoing:
    """Follows the steps of one optimizer."""

    longest: float = 0.0
    run: int = 0

    def sees(self, movement: Movement) -> bool:
        """Whether almost all of this step and of those before it was taken back."""
        if movement.finite:
            self.longest = max(self.longest, movement.step)
        real = movement.step > max(ROUNDINGS * movement.rounding, SHORT * self.longest)
        self.run = self.run + 1 if real and movement.undone >= ALMOST_ALL else 0
        return self.run >= CONSECUTIVE


@dataclass(frozen=True)
class Grown:
    """A rule whose multipliers have grown: their norm now, and what it used to be."""

    rule: str
    size: float
    usual: float


@dataclass
class Growth:
    """Follows the norms of the multipliers of each rule."""

    usual: dict[str, deque[float]] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    run: dict[str, int] = field(default_factory=dict)

    def sees(self, sizes: Mapping[str, float]) -> Grown | None:
        """The first rule whose multipliers diverge: far above their median and above all that was usual, for a while.

        Sizes that are far above do not count as usual, so that a divergence stays one. A size that is not finite
        diverges at once; gradients that are not finite are not to be told here.
        """
        medians = {rule: median(past) for rule, past in self.usual.items() if len(past) >= KNOWN}
        faint = FAINT * max(medians.values(), default=0.0)
        for rule, size in sizes.items():
            if not isfinite(size):
                return Grown(rule, size, medians.get(rule, 0.0))
            if rule in medians and size > max(GROWN * max(medians[rule], faint), self.largest[rule]):
                self.run[rule] = self.run.get(rule, 0) + 1
                if self.run[rule] >= LASTING:
                    return Grown(rule, size, medians[rule])
                continue
            self.run[rule] = 0
            if size > 0.0:
                self.usual.setdefault(rule, deque(maxlen=WINDOW)).append(size)
                self.largest[rule] = max(self.largest.get(rule, 0.0), size)
        return None
