"""A block of boxes of several parameters, side by side as one matrix that carries the equations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from affinet.blocks.commuting import Commuting
from affinet.blocks.entry_sets import View
from affinet.blocks.interval import Interval
from affinet.blocks.law import BaseProjection, Linear, Rounds
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.phrases import BYTES
from affinet.blocks.places import Adjacent, entry_counts
from affinet.blocks.resolution import Resolution
from affinet.blocks.slices import Slices
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system import lapack
from affinet.system.tolerance import Tolerance


@dataclass(frozen=True, eq=False)
class Joined:
    """Boxes of several parameters side by side as one matrix (cells, columns), and the equations of that matrix.

    Each of `members` has its loops over cells first; its columns in the matrix follow those of the members before it.
    `base` holds the equations on one weight that represents the matrix, row-major.
    """

    members: tuple[View, ...]
    cells: int
    base: Slices | Commuting

    @property
    def rules(self) -> tuple[int, ...]:
        return self.base.rules

    @property
    def size(self) -> int:
        return self.base.size

    @property
    def rank(self) -> int:
        return self.base.rank

    @property
    def condition(self) -> float:
        return self.base.condition

    @property
    def within(self) -> Slices:
        """The equations of each cell."""
        return self._sides[0]

    @property
    def across(self) -> Slices | None:
        """The equations of each column, None where columns have no equations."""
        return self._sides[1]

    @property
    def _sides(self) -> tuple[Slices, Slices | None]:
        sides = self.base.rows_and_columns
        assert sides is not None, "the base of joined boxes is about one matrix"
        return sides

    @cached_property
    def entries(self) -> Adjacent:
        """The places of its entries."""
        return Adjacent(self.members, self.cells)

    @property
    def columns(self) -> tuple[int, ...]:
        """The first column of each member in the matrix, and the number of columns in total."""
        return self.entries.bounds

    @property
    def ambiguous(self) -> int:
        return self.base.ambiguous

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        return self.base.freedom(place)

    def value(self, place: int) -> float | None:
        return self.base.value(place)

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return self.base.mates(place)

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return self.base.determined(most)

    def tied(self, most: int) -> Iterator[Tied]:
        return self.base.tied(most)

    def taken(self) -> dict[Parameter, Interval]:
        """The rank minus the rank of the equations over the columns of the other members.

        With r equations per cell and s per column the rank is `cells · r + columns · s − r · s`.
        """
        names = np.repeat([view.parameter.name for view in self.members], np.diff(self.columns))
        within, across = self.within.basis, len(self.across.basis) if self.across is not None else 0
        counts = {}
        for parameter in self.sizes():
            other_columns = lapack.singular_values(within[:, names != parameter.name])
            rank_per_cell = len(within) - int((other_columns > 1e-9).sum())
            columns = int((names == parameter.name).sum())
            counts[parameter] = Interval.of((self.cells - across) * rank_per_cell + across * columns)
        return counts

    def fixed(self) -> dict[Parameter, int]:
        return self.sizes() if self.rank == self.size else {}

    def resolution(self) -> Resolution:
        return self.base.resolution()

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return self.base.solves_in_metric()

    def tally(self) -> Tally:
        return self.base.tally()

    def describe(self) -> str:
        names = " and ".join(dict.fromkeys(view.parameter.name for view in self.members))
        return f"{self.base.describe()}, {names} side by side"

    def bytes_a_step(self) -> int:
        return 8 * BYTES * self.size

    def renumbered(self, numbers: Mapping[int, int]) -> Joined:
        return replace(self, base=self.base.renumbered(numbers))

    def homogeneous(self) -> Joined:
        return replace(self, base=self.base.homogeneous())

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        return self.base.projected(vectors, affine=affine)

    def gram(self, rows: sparse.csr_array) -> Floats:
        return self.base.gram(rows)

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        return self.base.unsure(vectors, tolerance)

    def partners(self, place: int) -> list[tuple[int, float]]:
        return self.base.partners(place)

    def pinned_value(self, place: int) -> float | None:
        return self.base.pinned_value(place)

    def law(self) -> Linear[SideBySide]:
        """The law over its entries, as one matrix (cells, columns)."""
        return Linear(SideBySide((self.cells, self.columns[-1]), self.base.law().projection))


@dataclass(frozen=True, eq=False)
class SideBySide:
    """The projection of boxes side by side: the base's projection of the joined matrix."""

    shape: tuple[int, int]
    base: BaseProjection

    @property
    def wide(self) -> bool:
        """As for the base."""
        return self.base.wide

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        return self._matrix(xp, (yield from self.base.nearest(xp, self._read(xp, x))), x)

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        return self._matrix(xp, (yield from self.base.tangent(xp, self._read(xp, x), floor=floor)), x)

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """As for the base; raises AttachError where the base is a product."""
        moved = yield from self.base.nearest_in_metric(xp, self._read(xp, x), self._read(xp, metric))
        return self._matrix(xp, moved, x)

    def noise(self, xp: Namespace, x: Array) -> Array:
        return self._matrix(xp, self.base.noise(xp, self._read(xp, x)), x)

    def _read(self, xp: Namespace, x: Array) -> Array:
        return xp.reshape(x, (*x.shape[:-2], *self.base.shape))

    def _matrix(self, xp: Namespace, y: Array, like: Array) -> Array:
        return xp.reshape(y, tuple(like.shape))
