"""A block of many cells whose l1 or l2 norm is at most a radius."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from affinet.blocks.absolute_sums import AbsoluteSums
from affinet.blocks.copies import renumber
from affinet.blocks.interval import Interval
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.phrases import BYTES, many
from affinet.blocks.places import Places, entry_counts, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.round_cells import RoundCells
from affinet.blocks.spectral_cells import PositiveCone, SpectralBall, SpectralCells
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.language.sense import Norm, Spectrum


@dataclass(frozen=True, eq=False)
class Ball:
    """`Σ |w| ≤ radius` (`order` 1) or `Σ w² ≤ radius²` (`order` 2) in every cell of `width` entries, or a `Spectrum`.

    Entries lie cell after cell; `radius` > 0 broadcasts to (cells, 1). A cell with a spectrum is a matrix. A ball has
    no equations, so that its rank is zero and all entries are free; but positive semidefinite matrices are symmetric.
    """

    entries: Places
    cells: int
    width: int
    order: Norm
    radius: Floats
    rules: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.cells * self.width

    @property
    def rank(self) -> int:
        return self.cells * self._symmetric * (self._symmetric - 1) // 2

    @property
    def ambiguous(self) -> int:
        return 0

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        row, column = divmod(place % self.width, self._symmetric) if self._symmetric else (0, 0)
        return 1.0 if row == column else 0.5

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return np.array([place], np.int64), None

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return iter(())

    def taken(self) -> dict[Parameter, Interval]:
        return dict.fromkeys(self.sizes(), Interval(self.rank, self.rank))

    def fixed(self) -> dict[Parameter, int]:
        return {}

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return None if isinstance(self.order, Spectrum) else 0

    def tally(self) -> Tally:
        return Tally()

    def describe(self) -> str:
        if isinstance(self.order, Spectrum):
            size = f"{self.order.rows} × {self.order.columns}"
            what = "bounded singular values" if self.order.kind == "spectral" else "no negative eigenvalue"
            return f"{many(self.cells, 'matrix', 'matrices')} {size} with {what}"
        return f"{many(self.cells, f'l{self.order} ball')} of {many(self.width, 'entry', 'entries')}"

    def bytes_a_step(self) -> int:
        # The gradient, the weights and the multipliers are read and written, and the face.
        return 6 * BYTES * self.size + (4 if self.order == 1 else 2 * BYTES) * self.size

    @property
    def _symmetric(self) -> int:
        """The size of symmetric matrices; 0 for other cells."""
        return self.order.rows if isinstance(self.order, Spectrum) and self.order.kind == "negative" else 0

    def renumbered(self, numbers: Mapping[int, int]) -> Ball:
        return replace(self, rules=renumber(self.rules, numbers))

    @cached_property
    def set(self) -> AbsoluteSums | RoundCells | SpectralCells:
        """The convex set of its entries, as an array (cells, width)."""
        shape = (self.cells, self.width)
        if isinstance(self.order, Spectrum):
            radii = np.broadcast_to(self.radius, (self.cells, 1)).ravel().tolist()
            is_ball = self.order.kind == "spectral"
            sets = tuple(SpectralBall(radius) if is_ball else PositiveCone() for radius in radii)
            return SpectralCells(shape, self.order.rows, self.order.columns, sets)
        return AbsoluteSums(shape, self.radius) if self.order == 1 else RoundCells(shape, self.radius)

    def law(self) -> NormalMap[Any]:
        """The law over its entries, cell by cell."""
        return NormalMap(self.set)
