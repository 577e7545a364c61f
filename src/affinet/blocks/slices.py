"""Many cells of one parameter that obey the same small set of equations, with right-hand sides of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from scipy import sparse

from affinet.blocks.copies import copies_of, renumber, value_of_place
from affinet.blocks.gram import Spread, squared, unit_row
from affinet.blocks.interval import Interval
from affinet.blocks.nearest import project_cells
from affinet.blocks.offsets import Offsets
from affinet.blocks.phrases import BYTES, many
from affinet.blocks.places import Stepped, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Alike, Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.tolerance import Tolerance


def _one() -> Floats:
    return np.ones(1)


@dataclass(frozen=True, eq=False)
class Slices:
    """`basis @ w[cell] == target_c` on every cell `offset + outer_c + inner` of one parameter.

    `basis` (r, n) has orthonormal rows; `target` is (cells, r) or (1, r). `pinned` are inner places whose value is
    given, with `values` (cells | 1, pinned); `copies` are (member, representative, sign) of inner places that are
    equal or opposite: both are already implied by the basis, and are made exact to the bit. `ambiguous` is one where
    the rank was decided close to the tolerance. `amplified` (r,) is by how much rounding of the equilibrated equations
    grows in each row of the basis and its target: the norm of the combination of them that the row is.
    """

    parameter: Parameter
    offset: int
    outer: Offsets
    inner: Offsets
    basis: Floats
    target: Floats
    pinned: Integers
    values: Floats
    copies: Integers
    rules: tuple[int, ...]
    ambiguous: int = 0
    amplified: Floats = field(default_factory=_one)

    @property
    def entries(self) -> Stepped:
        """Where its entries lie."""
        return Stepped(self.parameter, self.offset, self.outer, self.inner)

    @property
    def condition(self) -> float:
        """The largest of these, about the condition number of the equations."""
        return float(self.amplified.max(initial=1.0))

    @property
    def size(self) -> int:
        return self.outer.size * self.inner.size

    @property
    def rank(self) -> int:
        return self.outer.size * len(self.basis)

    @property
    def even(self) -> bool:
        """Whether the one equation of a cell gives all of its entries the same coefficient."""
        return len(self.basis) == 1 and not any(self.basis.strides)

    def sizes(self) -> dict[Parameter, int]:
        return {self.parameter: self.size}

    def freedom(self, place: int) -> float | None:
        return float(self.gram(unit_row(place, self.size))[0, 0])

    def value(self, place: int) -> float | None:
        cell, within = divmod(place, self.inner.size)
        if self.determines_all:
            target = self.target[cell if len(self.target) > 1 else 0]
            return float(target @ self.basis[:, within])
        return self.pinned_value(place)

    def mates(self, place: int) -> tuple[Integers, int | None]:
        cell, within = divmod(place, self.inner.size)
        root, members = copies_of(self.copies, within)
        first = cell * self.inner.size
        return first + np.array(members, np.int64), first + root

    def determined(self, most: int) -> tuple[Integers, Floats]:
        within = np.arange(self.inner.size) if self.determines_all else self.pinned
        if not len(within) or prod((len(within), self.outer.size)) > most:
            return no_places(), np.zeros(0)
        places = np.arange(self.outer.size)[:, None] * self.inner.size + within
        values = self.target @ self.basis if self.determines_all else self.values
        return places.ravel(), np.broadcast_to(values, places.shape).ravel()

    def tied(self, most: int) -> Iterator[Tied]:
        cells = self.outer.size
        if cells * (len(self.copies) + 1) > most:
            return
        for root in np.unique(self.copies[:, 1]):
            copies = self.copies[self.copies[:, 1] == root]
            within = np.concatenate([[root], copies[:, 0]])
            places = np.arange(cells)[:, None] * self.inner.size + within
            scale = np.tile(np.concatenate([np.ones(1), copies[:, 2]]), cells)
            bounds = np.arange(cells + 1) * len(within)
            yield Tied(places.ravel(), bounds, scale, np.zeros(places.size), self.rules)

    def taken(self) -> dict[Parameter, Interval]:
        return {self.parameter: Interval.of(self.rank)}

    def fixed(self) -> dict[Parameter, int]:
        return self.sizes() if self.rank == self.size else {}

    def resolution(self) -> Resolution:
        return replace(REGULAR, cell=self.inner.size if len(self.basis) > 1 else 0)

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally(cells=Counter({Alike(self.even, len(self.basis), self.inner.size): self.outer.size}))

    def describe(self) -> str:
        n, r, cells = self.inner.size, len(self.basis), self.outer.size
        each = " each" if cells > 1 else ""
        return f"{many(cells, 'group')} of {many(n, 'entry', 'entries')}, {many(r, 'equation')}{each}"

    def bytes_a_step(self) -> int:
        return 4 * BYTES * self.size

    def renumbered(self, numbers: Mapping[int, int]) -> Slices:
        return replace(self, rules=renumber(self.rules, numbers))

    def homogeneous(self) -> Slices:
        return replace(self, target=np.zeros((1, len(self.basis))), values=np.zeros((1, len(self.pinned))))

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        cells = vectors.reshape(len(vectors), -1, self.inner.size)
        return project_cells(cells, self.basis, self.target if affine else None).reshape(vectors.shape)

    def gram(self, rows: sparse.csr_array) -> Floats:
        cells = Spread.of(rows, (self.outer.size, self.inner.size))
        return squared(rows) - squared(cells.along((2,), self.basis).matrix())

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        return self.unsure_of_cells(vectors.reshape(len(vectors), -1, self.inner.size), tolerance)

    def unsure_of_cells(self, cells: Floats, tolerance: Tolerance) -> Floats:
        """`unsure` of vectors as (vectors, cells, entries of a cell); zero where equations are far from one another."""
        if self.condition == 1.0:
            return np.zeros(len(cells))
        weighted = cells @ self.basis.T * self.amplified
        return tolerance.rank(*self.basis.shape) * np.asarray(np.linalg.norm(weighted, axis=(1, 2)))

    def partners(self, place: int) -> list[tuple[int, float]]:
        cell, within = divmod(place, self.inner.size)
        return [(cell * self.inner.size + k, sign) for k, sign in self.copies_within(within)]

    def copies_within(self, within: int) -> list[tuple[int, float]]:
        """Inner places that are equal or opposite to one of them, with the sign."""
        members = [(int(b), float(s)) for a, b, s in self.copies if a == within]
        return members + [(int(a), float(s)) for a, b, s in self.copies if b == within]

    def pinned_value(self, place: int) -> float | None:
        cell, within = divmod(place, self.inner.size)
        return value_of_place(self.pinned, self.values[cell if len(self.values) > 1 else 0], within)

    @property
    def determines_all(self) -> bool:
        """Whether the equations of a cell leave none of its entries free."""
        return len(self.basis) == self.inner.size
