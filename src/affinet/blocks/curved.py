"""A block of nonlinear equations, in cells of one form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from affinet.blocks.copies import renumber
from affinet.blocks.curved_set import CurvedSet
from affinet.blocks.interval import Interval
from affinet.blocks.large_curved_set import LargeCurvedSet
from affinet.blocks.mixed_map import MixedMap
from affinet.blocks.mixed_set import MixedSet
from affinet.blocks.phrases import BYTES, many
from affinet.blocks.places import Places, entry_counts, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.sphere_cells import SphereCells
from affinet.blocks.stiefel_cells import StiefelCells
from affinet.blocks.tally import Tally
from affinet.blocks.tangent_map import TangentMap
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter


@dataclass(frozen=True, eq=False)
class Curved:
    """Cells whose entries satisfy the equations of `set`, one cell after the other.

    Entry k of the cells is entry `order[k]` of the block; None where both have one order. `rank` is the generic one, of
    the derivatives at random points: at single points it may be lower.
    """

    entries: Places
    set: CurvedSet | SphereCells | StiefelCells | LargeCurvedSet | MixedSet
    order: Integers | None
    rank: int | Interval
    rules: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.set.shape)

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
        sizes, rank = self.sizes(), Interval.of(self.rank)
        if len(sizes) == 1:
            return dict.fromkeys(sizes, rank)
        return {parameter: Interval(0, min(rank.high, size)) for parameter, size in sizes.items()}

    def fixed(self) -> dict[Parameter, int]:
        return {}

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return None

    def tally(self) -> Tally:
        return Tally(equations=Interval.of(self.rank), among=self.size)

    def describe(self) -> str:
        cells, width = self.set.shape[0], prod(self.set.shape[1:])
        match self.set:
            case SphereCells():
                return f"{many(cells, 'sphere')} in {many(width, 'entry', 'entries')}, returned to by scaling"
            case StiefelCells(shape=(_, rows, columns), of_columns=of_columns):
                what = "columns" if of_columns else "rows"
                return f"{many(cells, 'matrix', 'matrices')} {rows} × {columns} with orthonormal {what}"
            case LargeCurvedSet(written=written, factors=factors):
                how = "a factor of their derivatives" if factors else "conjugate gradients"
                products = "" if written is not None else ", multiplied as matrices"
                equations = many(self.set.equations, "nonlinear equation")
                return f"{equations} in {many(width, 'entry', 'entries')}{products}, solved by {how}"
            case MixedSet(lower=lower, upper=upper, rhs=rhs, inequalities=nonlinear):
                bounds = int(np.isfinite(lower).sum() + np.isfinite(upper).sum())
                inequalities = many(rhs.size + bounds + cells * nonlinear, "inequality", "inequalities")
                equations = many(cells * self.set.equations, "equation") + " and " if self.set.equations else ""
                return f"{equations}{inequalities}, some nonlinear, by the polyhedra of moves from the weights"
        equations = many(self.set.equations, "nonlinear equation")
        among = many(width, "entry", "entries")
        return f"{many(cells, 'group')} of {equations} in {among}, by tangent planes"

    def bytes_a_step(self) -> int:
        # The gradient, the weights, the multipliers and the steps; and of a program, the derivatives of each return.
        match self.set:
            case CurvedSet(equations=equations):
                return BYTES * self.size * (10 + 8 * equations)
            case LargeCurvedSet(equations=equations, written=written):
                matrix = 0 if written is None else len(written.columns)
                return BYTES * (10 * (self.size + equations) + 4 * matrix)
        return BYTES * self.size * 10

    def renumbered(self, numbers: Mapping[int, int]) -> Curved:
        return replace(self, rules=renumber(self.rules, numbers))

    def law(self) -> TangentMap[Any] | MixedMap:
        """The law over its entries, cell after cell."""
        if isinstance(self.set, MixedSet):
            return MixedMap(self.set, self.order)
        return TangentMap(self.set, self.order)
