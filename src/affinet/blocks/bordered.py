"""A block that adds a few equations on top of other blocks and solves them by a Schur complement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
from scipy import sparse

from affinet.blocks.bases import AnyBase
from affinet.blocks.copies import copies_of, renumber, value_of_place
from affinet.blocks.gram import unit_row
from affinet.blocks.interval import Interval
from affinet.blocks.law import BaseProjection, Linear, Rounds, Sum, mean_square, silenced
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.phrases import many
from affinet.blocks.places import Following, Listed, Part, entry_counts
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system import lapack
from affinet.system.distinct import ranked
from affinet.system.norms import norms_of_runs

MOST_ON_TOP = 256
"""The most entries of extra equations for which the freedom of each is computed."""
DETERMINED = 1e-9
"""The largest diagonal of the tangent projector at a determined entry."""


@dataclass(frozen=True, eq=False)
class Bordered:
    """Bases that share no entry, and a few extra equations `matrix @ x == rhs` over their entries and `loose` entries.

    x holds the entries of the bases one after the other, each in its order, and then the loose entries. With P the
    tangent projector of the bases (the identity on loose entries) and S = matrix P matrixᵀ, the pseudo-inverse of S is
    `factor @ factor.T`, of shape (equations, rank). `pinned` are places of determined entries, and `values` their
    values; `copies` are (member, representative, sign) of places that are equal or opposite. The equations imply both
    already; listing them makes them exact to the bit.
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
        """The places of its entries."""
        return Following((*(base.entries for base in self.bases), Listed(self.loose)))

    @property
    def extra(self) -> int:
        """Count of the equations in addition to those of the bases."""
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
        """`P_ii` of the base minus `‖factorᵀ M P₀ e_i‖²` of the extra equations."""
        base, within = self.base_of(place)
        if base is None:
            move, base_freedom = self.matrix[:, [place]].toarray()[:, 0], 1.0
        else:
            if base.freedom(within) is None:
                return None
            first = place - within
            part = self.matrix[:, first : first + base.entries.count]
            stacked = sparse.vstack([part, unit_row(within, base.entries.count)]).tocsr()
            inner = base.gram(sparse.csr_array(stacked))
            move, base_freedom = inner[:-1, -1], float(inner[-1, -1])
        normal = self.factor.T @ move
        return max(0.0, base_freedom - float(normal @ normal))

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
        """Entries that the extra equations determine, and those that the bases determine."""
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
        unpinned = np.setdiff1d(np.concatenate([touched, *classes]), self.pinned)
        freedoms = (self.freedom(place) for place in unpinned.tolist())
        solved = unpinned[[free is not None and free <= DETERMINED for free in freedoms]]
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
        return replace(REGULAR, uncertain=any(resolution.uncertain for resolution in resolutions))

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
        """The base that contains a place, and the place within it; None for a loose entry."""
        for base in self.bases:
            if place < base.entries.count:
                return base, place
            place -= base.entries.count
        return None, place

    def law(self) -> Linear[Complemented]:
        """The law over its entries: in the shape of a single base, else one flat row, base after base."""
        return Linear(Complemented(self, tuple(base.law().projection for base in self.bases)))


@dataclass(frozen=True, eq=False)
class Complemented:
    """The projection of bases with extra equations: `Π(w) = Π_A(Π_A(w) − Bᵀy)`, `y = S⁺(B Π_A(w) − b)`.

    Π_A is the projection of the bases, whose laws are `projections`. The rows of B are sums over the entries with
    coefficients.
    """

    block: Bordered
    projections: tuple[BaseProjection, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.projections[0].shape if self._single_base else (int(self.block.matrix.shape[1]),)

    @property
    def wide(self) -> bool:
        """True: the condition number of S costs digits of the entries."""
        return True

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        x = yield from self._on_bases(xp, x, lambda law, piece: law.nearest(xp, piece))
        x = yield from self._corrected(xp, x, affine=True)
        x = yield from self._on_bases(xp, x, lambda law, piece: law.nearest(xp, piece))
        return self._exact(xp, x, affine=True)

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        noise = None
        if floor:
            axes = tuple(range(x.ndim))
            rms = (yield from mean_square(xp, x, axes, int(self.block.matrix.shape[1]))) ** 0.5
            noise = (self._noise(xp, x) + rms) * floor
        x = yield from self._on_bases(xp, x, lambda law, piece: law.tangent(xp, piece))
        x = yield from self._corrected(xp, x, affine=False)
        x = yield from self._on_bases(xp, x, lambda law, piece: law.tangent(xp, piece))
        x = self._exact(xp, x, affine=False)
        return x if noise is None else self._exact(xp, silenced(xp, x, noise), affine=False)

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Law: `Π(w) = Π_A(w − D⁻¹Bᵀy)`, `S = B P_A D⁻¹Bᵀ` in the metric D, on the range of the Euclidean S.

        Raises AttachError where a base cannot be projected in a metric.
        """
        ease, factor = 1.0 / metric, xp.array(self.block.factor, x)
        across = xp.permute(factor, (1, 0))
        origin = yield from self._in_metric(xp, x * 0.0, metric)
        x = yield from self._in_metric(xp, x, metric)
        products = yield Sum(self._product(xp, self._touched_entries(xp, x)))
        gap = xp.matmul(across, products - xp.array(self.block.rhs, x))
        columns = []
        for k in range(int(factor.shape[1])):
            direction = self._spread(xp, self._transposed(xp, factor[:, k]), x) * ease
            move = (yield from self._in_metric(xp, direction, metric)) - origin
            columns.append(xp.matmul(across, (yield Sum(self._product(xp, self._touched_entries(xp, move))))))
        rank = len(columns)
        system = xp.permute(xp.reshape(xp.concat(columns), (rank, rank)), (1, 0))
        solved = self._transposed(xp, xp.matmul(factor, xp.solve(system, gap)))
        x = yield from self._in_metric(xp, x - self._spread(xp, solved, x) * ease, metric)
        return self._exact(xp, x, affine=True)

    @property
    def _single_base(self) -> bool:
        """Whether there is one base and no loose entry, so that entries are processed in the shape of the base."""
        return len(self.projections) == 1 and not self.block.loose

    @cached_property
    def _bounds(self) -> tuple[int, ...]:
        """The place of the first entry of each base, and of the first loose entry."""
        return tuple(int(first) for first in np.cumsum([0, *(prod(law.shape) for law in self.projections)]))

    def _pieces(self, xp: Namespace, x: Array) -> list[Array]:
        """The entries of each base, in the shape of the base."""
        if self._single_base:
            return [x]
        ends = zip(self.projections, self._bounds, self._bounds[1:], strict=False)
        return [xp.reshape(x[first:last], law.shape) for law, first, last in ends]

    def _assembled(self, xp: Namespace, pieces: list[Array], x: Array) -> Array:
        """The pieces one after the other, followed by the loose entries of `x`."""
        if self._single_base:
            return pieces[0]
        return xp.concat([*(xp.reshape(piece, (-1,)) for piece in pieces), x[self._bounds[-1] :]])

    def _on_bases(
        self, xp: Namespace, x: Array, verb: Callable[[BaseProjection, Array], Rounds[Array]]
    ) -> Rounds[Array]:
        pieces = []
        for law, piece in zip(self.projections, self._pieces(xp, x), strict=True):
            pieces.append((yield from verb(law, piece)))
        return self._assembled(xp, pieces, x)

    def _in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        metrics = iter(self._pieces(xp, metric))
        return (yield from self._on_bases(xp, x, lambda law, piece: law.nearest_in_metric(xp, piece, next(metrics))))

    def _noise(self, xp: Namespace, x: Array) -> Array:
        pieces = zip(self.projections, self._pieces(xp, x), strict=True)
        return self._assembled(xp, [law.noise(xp, piece) for law, piece in pieces], abs(x))

    def _corrected(self, xp: Namespace, x: Array, *, affine: bool) -> Rounds[Array]:
        """`x − Bᵀ S⁺ (B x − b)`; without `affine`, b is zero."""
        touched = self._touched_entries(xp, x)
        gap = yield Sum(self._product(xp, touched))
        if affine:
            gap = gap - xp.array(self.block.rhs, x)
        factor = xp.array(self.block.factor, x)
        solved = xp.matmul(factor, xp.matmul(xp.permute(factor, (1, 0)), gap))
        return self._put(xp, x, self._touched, touched - self._transposed(xp, solved))

    def _exact(self, xp: Namespace, x: Array, *, affine: bool) -> Array:
        """`x` with pinned entries set (to zero for tangent vectors) and equal entries copied, exact to the bit."""
        block = self.block
        if len(block.pinned):
            x = self._put(xp, x, block.pinned, xp.array(block.values if affine else 0.0 * block.values, x))
        if len(block.copies):
            members, representatives, signs = (block.copies[:, column] for column in range(3))
            x = xp.hold(x)
            known = xp.take(self._flat(xp, x), representatives.astype(np.int64)) * xp.array(signs, x)
            x = self._put(xp, x, members.astype(np.int64), known)
        return x

    @cached_property
    def _rows(self) -> tuple[Integers, Integers, Integers]:
        """Entries with a coefficient in B; the row of each coefficient, and its index among those entries."""
        used, local = ranked(self.block.matrix.indices)
        rows = np.repeat(np.arange(len(self.block.rhs)), np.diff(self.block.matrix.indptr))
        return used, rows, local

    @property
    def _touched(self) -> Integers:
        return self._rows[0]

    def _flat(self, xp: Namespace, x: Array) -> Array:
        return xp.reshape(x, (-1,))

    def _put(self, xp: Namespace, x: Array, places: Integers, values: Array) -> Array:
        return xp.reshape(xp.put(self._flat(xp, x), places, values), tuple(x.shape))

    def _touched_entries(self, xp: Namespace, x: Array) -> Array:
        return xp.take(self._flat(xp, x), self._touched)

    def _spread(self, xp: Namespace, values: Array, like: Array) -> Array:
        return self._put(xp, like * 0.0, self._touched, values)

    def _product(self, xp: Namespace, touched: Array) -> Array:
        """`B x`, from the entries with coefficients."""
        _, rows, local = self._rows
        terms = xp.take(touched, local) * xp.array(self.block.matrix.data, touched)
        return xp.segment_sum(terms, rows, len(self.block.rhs))

    def _transposed(self, xp: Namespace, y: Array) -> Array:
        """`Bᵀ y`, at the entries with coefficients."""
        used, rows, local = self._rows
        terms = xp.take(y, rows) * xp.array(self.block.matrix.data, y)
        return xp.segment_sum(terms, local, len(used))
