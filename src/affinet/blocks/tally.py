"""A tally that counts what blocks do: entries fixed, entries tied in pairs or groups, and equations of equal cells."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from affinet.blocks.interval import Interval


class Alike(NamedTuple):
    """The form of a cell: whether its equations are plain sums, the number of equations, and the number of entries."""

    sums: bool
    equations: int
    size: int


@dataclass(frozen=True)
class Tally:
    """Counts of `fixed` entries, `pairs` of tied entries, `grouped` entries tied in `groups`, and `cells` per form.

    There are `equations` without a common form, over `among` entries.
    """

    fixed: int = 0
    pairs: int = 0
    grouped: int = 0
    groups: int = 0
    cells: Counter[Alike] = field(default_factory=Counter)
    equations: Interval = field(default_factory=lambda: Interval(0, 0))
    among: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.fixed + other.fixed,
            self.pairs + other.pairs,
            self.grouped + other.grouped,
            self.groups + other.groups,
            self.cells + other.cells,
            self.equations + other.equations,
            self.among + other.among,
        )
