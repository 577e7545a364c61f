"""A block of many cells whose entries lie between bounds, with at most one equation or inequality in each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from affinet.blocks.copies import renumber
from affinet.blocks.cut_boxes import CutBoxes
from affinet.blocks.entry_bounds import Boxes
from affinet.blocks.interval import Interval
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.phrases import BYTES, many
from affinet.blocks.places import Places, entry_counts, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Alike, Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter


@dataclass(frozen=True, eq=False)
class Cone:
    """`lower ≤ w ≤ upper` in every cell of `width` entries, and `row · w == rhs`; without `equation`, `row · w ≤ rhs`.

    Entries lie cell after cell. `row` is None for bounds alone; otherwise it broadcasts to (cells, width), as `lower`
    and `upper` do, which may be infinite; `rhs` broadcasts to (cells, 1). Every cell has a point, and a nonzero
    coefficient in its row; bounds that are equal are equations, which planning eliminates.

    Of the questions of a block, those about rank, ties and determined entries are about its equations alone.
    """

    entries: Places
    cells: int
    width: int
    row: Floats | None
    rhs: Floats
    equation: bool
    lower: Floats
    upper: Floats
    rules: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.cells * self.width

    @property
    def rank(self) -> int:
        return self.cells if self._equation_row is not None else 0

    @property
    def ambiguous(self) -> int:
        return 0

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        if self._equation_row is None:
            return 1.0
        cell, within = divmod(place, self.width)
        row = np.broadcast_to(self._equation_row, (self.cells, self.width))[cell]
        return float(1.0 - row[within] ** 2 / (row @ row))

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return np.array([place], np.int64), None

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return iter(())

    def taken(self) -> dict[Parameter, Interval]:
        """The rank, for one parameter; each of several has the equations of the cells that are entirely in it."""
        sizes = self.sizes()
        if len(sizes) == 1:
            return dict.fromkeys(sizes, Interval.of(self.rank))
        return {parameter: Interval(0, min(self.rank, size // self.width)) for parameter, size in sizes.items()}

    def fixed(self) -> dict[Parameter, int]:
        return {}

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        row = self._equation_row
        if row is None:
            return Tally()
        sums = bool((row == row.flat[0]).all())
        return Tally(cells=Counter({Alike(sums, 1, self.width): self.cells}))

    def describe(self) -> str:
        if self.row is None:
            return f"{many(self.size, 'entry', 'entries')} between bounds"
        groups = f"{many(self.cells, 'group')} of {many(self.width, 'entry', 'entries')} between bounds"
        return f"{groups}, {'1 equation' if self.equation else '1 inequality'}{' each' if self.cells > 1 else ''}"

    def bytes_a_step(self) -> int:
        # The gradient, the weights and the multipliers are read and written, and the face, a byte per entry and bound.
        return 6 * BYTES * self.size + 4 * self.size

    def renumbered(self, numbers: Mapping[int, int]) -> Cone:
        return replace(self, rules=renumber(self.rules, numbers))

    @cached_property
    def set(self) -> Boxes | CutBoxes:
        """The convex set of its entries, as an array (cells, width)."""
        shape = (self.cells, self.width)
        if self.row is None:
            return Boxes(shape, self.lower, self.upper)
        return CutBoxes(shape, self.row, self.rhs, self.equation, self.lower, self.upper)

    def law(self) -> NormalMap[Any]:
        """The law over its entries, cell by cell."""
        return NormalMap(self.set)

    @property
    def _equation_row(self) -> Floats | None:
        return self.row if self.equation else None
