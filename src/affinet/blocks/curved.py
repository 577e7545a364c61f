"""A block of nonlinear equations, in cells of one form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from affinet.blocks.classes import Classes
from affinet.blocks.copies import renumber
from affinet.blocks.curved_set import CurvedSet
from affinet.blocks.interval import Interval
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.phrases import BYTES, many
from affinet.blocks.places import Places, entry_counts, no_places
from affinet.blocks.reduced_set import ReducedSet
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter


@dataclass(frozen=True, eq=False)
class Curved:
    """Cells whose entries satisfy the equations of `set`, one of them after the other.

    `order` says in which cell and place each entry lies where the entries are not in the order of the cells. `rank` is
    the generic one, of the derivatives at random points: at single points it may be lower.
    """

    entries: Places
    set: CurvedSet
    order: Classes | None
    rank: int
    rules: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.set.program.cells * self.set.program.width

    @property
    def ambiguous(self) -> int:
        return 0

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        return None

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return np.array([place], np.int64), None

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return iter(())

    def taken(self) -> dict[Parameter, Interval]:
        sizes = self.sizes()
        if len(sizes) == 1:
            return dict.fromkeys(sizes, Interval(self.rank, self.rank))
        return {parameter: Interval(0, min(self.rank, size)) for parameter, size in sizes.items()}

    def fixed(self) -> dict[Parameter, int]:
        return {}

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return None

    def tally(self) -> Tally:
        return Tally(equations=Interval(self.rank, self.rank), among=self.size)

    def describe(self) -> str:
        program = self.set.program
        equations = many(program.outputs.rows, "nonlinear equation")
        among = many(program.width, "entry", "entries")
        return f"{many(program.cells, 'group')} of {equations} in {among}, followed along their tangent planes"

    def bytes_a_step(self) -> int:
        # The gradient, the weights, the multipliers, and the derivatives and the products of each return.
        program = self.set.program
        return BYTES * self.size * (6 + 8 * program.outputs.rows)

    def renumbered(self, numbers: Mapping[int, int]) -> Curved:
        return replace(self, rules=renumber(self.rules, numbers))

    def law(self) -> NormalMap[Any]:
        """The law over its entries."""
        return NormalMap(self.set if self.order is None else ReducedSet(self.order, self.set))
