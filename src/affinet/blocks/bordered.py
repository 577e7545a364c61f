"""Other blocks and a few more equations on top of them, solved by a Schur complement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from affinet.blocks.bases import AnyBase
from affinet.blocks.copies import copies_of, renumber, value_of_place
from affinet.blocks.gram import unit_row
from affinet.blocks.interval import Interval
from affinet.blocks.phrases import many
from affinet.blocks.places import Following, Listed, Part, entry_counts
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system import lapack
from affinet.system.norms import norms_of_runs

MOST_ON_TOP = 256
"""Entries of the extra equations of which it is computed how free they are."""
HELD = 1e-9
"""The largest diagonal of the tangent projector at a determined entry."""


@dataclass(frozen=True, eq=False)
class Bordered:
    """Bases that share no entry, and a few more equations `matrix @ x == rhs` over their entries and `loose` ones.

    x holds the entries of the bases one after the other, each in the order in which it is read, and then the loose
    ones. With P the tangent projector of the bases (the identity on loose entries) and S = matrix P matrixᵀ, the
    pseudo-inverse of S is `factor @ factor.T`, of shape (equations, rank). `pinned` are places whose value is given,
    with `values`; `copies` are (member, representative, sign) of places that are equal or opposite: both are already
    implied, and are made exact to the bit.
    """

    bases: tuple[AnyBase, ...]
    loose: tuple[Part, ...]
    matrix: sparse.csr_array
    rhs: Floats
    factor: Floats
    pinned: Integers
    values: Floats
    copies: Integers
    rules: tuple[int, ...]
    ambiguous: int = 0

    @property
    def entries(self) -> Following:
        """Where its entries lie."""
        return Following((*(base.entries for base in self.bases), Listed(self.loose)))

    @property
    def extra(self) -> int:
        """Equations beside those of the bases."""
        return len(self.rhs)

    @property
    def size(self) -> int:
        return sum(base.size for base in self.bases) + sum(part.size for part in self.loose)

    @property
    def rank(self) -> int:
        return sum(base.rank for base in self.bases) + int(self.factor.shape[1])

    def sizes(self) -> dict[Parameter, int]:
        counts = Counter[Parameter]()
        for base in self.bases:
            counts.update(base.sizes())
        counts.update(entry_counts(Listed(self.loose)))
        return dict(counts)

    def freedom(self, place: int) -> float | None:
        """`P_ii` of the base less `‖factorᵀ M P₀ e_i‖²` of the equations on top."""
        base, within = self.base_of(place)
        if base is None:
            move, alone = self.matrix[:, [place]].toarray()[:, 0], 1.0
        else:
            if base.freedom(within) is None:
                return None
            first = place - within
            part = self.matrix[:, first : first + base.entries.count]
            stacked = sparse.vstack([part, unit_row(within, base.entries.count)]).tocsr()
            inner = base.gram(sparse.csr_array(stacked))
            move, alone = inner[:-1, -1], float(inner[-1, -1])
        normal = self.factor.T @ move
        return max(0.0, alone - float(normal @ normal))

    def value(self, place: int) -> float | None:
        value = value_of_place(self.pinned, self.values, place)
        base, within = self.base_of(place)
        return value if value is not None or base is None else base.value(within)

    def mates(self, place: int) -> tuple[Integers, int | None]:
        root, members = copies_of(self.copies, place)
        if len(members) > 1:
            return np.array(members, np.int64), root
        base, within = self.base_of(place)
        if base is None:
            return np.array([place], np.int64), None
        mates, representative = base.mates(within)
        first = place - within
        return first + mates, None if representative is None else first + representative

    def determined(self, most: int) -> tuple[Integers, Floats]:
        """Entries of the extra equations that these determine, and those that the bases determine."""
        pieces, first = [self._determined_on_top()], 0
        for base in self.bases:
            places, values = base.determined(most)
            pieces.append((first + places, values))
            first += base.entries.count
        places, at = np.unique(np.concatenate([places for places, _ in pieces]), return_index=True)
        return places, np.concatenate([values for _, values in pieces])[at]

    def _determined_on_top(self) -> tuple[Integers, Floats]:
        touched = np.unique(self.matrix.indices).astype(np.int64)
        if len(touched) > MOST_ON_TOP:
            return self.pinned, self.values
        classes = [self.mates(place)[0] for place in touched.tolist()]
        others = np.setdiff1d(np.concatenate([touched, *classes]), self.pinned)
        freedoms = (self.freedom(place) for place in others.tolist())
        solved = others[[free is not None and free <= HELD for free in freedoms]]
        return np.concatenate([self.pinned, solved]), np.concatenate([self.values, np.full(len(solved), np.nan)])

    def tied(self, most: int) -> Iterator[Tied]:
        first = 0
        for base in self.bases:
            for tied in base.tied(most):
                yield replace(tied, places=first + tied.places)
            first += base.entries.count

    def taken(self) -> dict[Parameter, Interval]:
        sizes = self.sizes()
        if len(sizes) == 1:
            return {parameter: Interval.of(self.rank) for parameter in sizes}
        low, high = Counter[Parameter](), Counter[Parameter]()
        for base in self.bases:
            for parameter, count in base.taken().items():
                low[parameter] += count.low
                high[parameter] += count.high
        more = int(self.factor.shape[1])
        return {
            parameter: Interval(min(low[parameter], n), min(high[parameter] + more, n))
            for parameter, n in sizes.items()
        }

    def fixed(self) -> dict[Parameter, int]:
        return self.sizes() if self.rank == self.size else {}

    def resolution(self) -> Resolution:
        resolutions = [base.resolution() for base in self.bases]
        return replace(REGULAR, uncertain=any(one.uncertain for one in resolutions))

    def condition_of_extra(self) -> float:
        if not self.factor.size:
            return 1.0
        norms = norms_of_runs(self.matrix.data, self.matrix.indptr)
        return float(lapack.singular_values(self.factor * norms[:, None])[0])

    def solves_in_metric(self) -> int | None:
        solves = [base.solves_in_metric() for base in self.bases]
        return None if None in solves else int(self.factor.shape[1])

    def tally(self) -> Tally:
        return Tally(equations=Interval.of(self.rank), among=self.size)

    def describe(self) -> str:
        return f"{many(self.extra, 'equation')} on top of {'; '.join(base.describe() for base in self.bases)}"

    def bytes_a_step(self) -> int:
        # Bases are projected twice, and the extra equations are read twice.
        return 2 * sum(base.bytes_a_step() for base in self.bases) + 4 * int(self.matrix.data.nbytes)

    def renumbered(self, numbers: Mapping[int, int]) -> Bordered:
        bases = tuple(base.renumbered(numbers) for base in self.bases)
        return replace(self, bases=bases, rules=renumber(self.rules, numbers))

    def base_of(self, place: int) -> tuple[AnyBase | None, int]:
        """The base that holds a place, and the place there; None for an entry of no base."""
        for base in self.bases:
            if place < base.entries.count:
                return base, place
            place -= base.entries.count
        return None, place
