"""Two boxes of entries that are tied entry by entry."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from affinet.blocks.entry_sets import View
from affinet.blocks.places import Following, box, no_places
from affinet.language.calculus.terms import Floats, Integers


@dataclass(frozen=True, eq=False)
class Pairs:
    """`first == ratio · second + shift`, entry by entry of two boxes that share no entry.

    `without` are places of the flattened boxes, rising, that belong to another block on both sides.
    """

    first: View
    second: View
    ratio: float
    shift: Floats
    rules: tuple[int, ...]
    without: Integers = field(default_factory=no_places)

    @property
    def entries(self) -> Following:
        """Where its entries lie."""
        return Following(
            (box(self.first), box(self.second)), np.concatenate([self.without, self.without + self.first.size])
        )

    @property
    def condition(self) -> float:
        return 1.0  # no two of its equations share an entry

    @property
    def size(self) -> int:
        return 2 * self.rank

    @property
    def rank(self) -> int:
        return self.first.size - len(self.without)
