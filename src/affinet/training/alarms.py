"""Detect in a sequence of observations what deserves a warning: steps that are undone, multipliers that diverge."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from statistics import median

from affinet.training.movement import Movement

ALMOST_ALL = 0.99
"""The share of a step's squared length from which the step counts as undone."""
UNDONE_STEPS = 5
"""How many undone steps in sequence cause a warning; fewer may be an accident."""
SHORTEST_SHARE = 0.1
"""Steps shorter than this share of the longest step are ignored: the training has converged, or is warming up."""
ROUNDINGS = 2.0
"""Steps shorter than this many roundings of the weights count as rounding."""

WINDOW = 100
"""How many observations determine the usual size of multipliers."""
FEWEST_KNOWN = 10
"""The fewest observations after which the usual size is known."""
DIVERGED = 1e3
"""Multipliers larger than this multiple of their usual size diverge."""
DIVERGED_STEPS = 3
"""How many such observations in sequence cause a warning: a single bad batch is not a divergence."""
ROUNDING_SHARE = 1e-6
"""Multipliers smaller than this share of the largest usual size are rounding."""


@dataclass
class UndoneSteps:
    """Counts the undone steps of one optimizer."""

    longest: float = 0.0
    run: int = 0

    def update(self, movement: Movement) -> bool:
        """Add a step; return whether this step and the ones before it were almost completely undone."""
        if movement.finite:
            self.longest = max(self.longest, movement.step)
        significant = movement.step > max(ROUNDINGS * movement.rounding, SHORTEST_SHARE * self.longest)
        self.run = self.run + 1 if significant and movement.undone >= ALMOST_ALL else 0
        return self.run >= UNDONE_STEPS


@dataclass(frozen=True)
class Divergence:
    """A rule whose multipliers diverge: their present norm, and their usual one."""

    rule: str
    size: float
    usual: float


@dataclass
class MultiplierSizes:
    """Tracks the norms of the multipliers of each rule."""

    usual: dict[str, deque[float]] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    run: dict[str, int] = field(default_factory=dict)

    def update(self, sizes: Mapping[str, float]) -> Divergence | None:
        """Add the norms of one step; return the first rule whose multipliers diverge, None if no rule's do.

        They diverge where they stay far above their median and above all usual norms for some steps. Such norms do not
        count as usual, so that a divergence stays one. A norm that is not finite diverges at once; gradients that are
        not finite are reported elsewhere.
        """
        medians = {rule: median(history) for rule, history in self.usual.items() if len(history) >= FEWEST_KNOWN}
        smallest = ROUNDING_SHARE * max(medians.values(), default=0.0)
        for rule, size in sizes.items():
            if not isfinite(size):
                return Divergence(rule, size, medians.get(rule, 0.0))
            if rule in medians and size > max(DIVERGED * max(medians[rule], smallest), self.largest[rule]):
                self.run[rule] = self.run.get(rule, 0) + 1
                if self.run[rule] >= DIVERGED_STEPS:
                    return Divergence(rule, size, medians[rule])
                continue
            self.run[rule] = 0
            if size > 0.0:
                self.usual.setdefault(rule, deque(maxlen=WINDOW)).append(size)
                self.largest[rule] = max(self.largest.get(rule, 0.0), size)
        return None
