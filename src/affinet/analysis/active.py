"""Tell which inequalities of each rule are at their bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from affinet.analysis.lookup.entry_names import counted
from affinet.analysis.rule_values import Weight, at_bound
from affinet.system.system import System

MOST_SHOWN = 6
"""Places that are printed one by one."""


@dataclass(frozen=True, eq=False)
class ActiveBounds:
    """The inequalities of a rule that hold with equality up to rounding: `at_bound`, in the rule's shape."""

    at_bound: np.ndarray

    @property
    def count(self) -> int:
        """How many are at their bound."""
        return int(np.count_nonzero(self.at_bound))

    @property
    def places(self) -> list[tuple[int, ...]]:
        """The indices of those at their bound, in the rule's shape."""
        return [tuple(int(k) for k in place) for place in np.argwhere(self.at_bound)]

    def __str__(self) -> str:
        first = np.argwhere(self.at_bound)[:MOST_SHOWN].tolist()
        shown = [str(tuple(place) if len(place) > 1 else place[0]) for place in first if place]
        more = [f"… ({self.count:,})"] if self.count > MOST_SHOWN else []
        where = f": {', '.join([*shown, *more])}" if shown else ""
        return f"{self.count:,} of {counted(self.at_bound.size, 'inequality')} at the bound{where}"

    def __repr__(self) -> str:
        return f"<{self}>"


def active_bounds(system: System, weights: Mapping[str, Weight]) -> dict[str, ActiveBounds]:
    """Rule name → its inequalities at their bound, for every rule that is an inequality.

    Counted by what is left to the bound, not by which multipliers are positive: at a vertex with more bounds than
    needed, the latter change from step to step although the weights do not move.
    """
    rules = [rule for rule in system.every if rule.sense != "=="]
    return {rule.name: ActiveBounds(at_bound(rule, weights)) for rule in rules}
