"""A block of equations along several axes of one box, perhaps with a mirror of the box, whose projections commute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from math import prod, sqrt

import numpy as np
from scipy import sparse

from affinet.blocks.entry_sets import View
from affinet.blocks.gram import Spread, gram_in_full, squared, unit_row
from affinet.blocks.interval import Interval
from affinet.blocks.law import Linear, Rounds, mean_square, silenced, trailing
from affinet.blocks.mirror import Mirror, Reflection
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.nearest import project_cells
from affinet.blocks.phrases import BYTES
from affinet.blocks.places import Stepped, box
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.slices import Cells, Slices
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.errors import AttachError
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.tolerance import Tolerance

MOST_IN_FULL = 2**22
"""The largest box without a closed form for which the freedom of an entry is found by projecting its unit vector."""


@dataclass(frozen=True, eq=False)
class Commuting:
    """Sets of slices of one box of entries, along different loops, whose projections commute and agree.

    `inner_dims` are the loops inside the cells of each set of slices; two sets may share loops. `mirror`, where it is
    not None, has the loops of the box and maps each set of slices to one of the sets, which then copy and pin no
    entries. `rank` counts the independent equations of all sets together.
    """

    view: View
    slices: tuple[Slices, ...]
    inner_dims: tuple[tuple[int, ...], ...]
    rank: int
    mirror: Mirror | None = None

    @property
    def entries(self) -> Stepped:
        """The places of its entries."""
        return box(self.view)

    @property
    def rules(self) -> tuple[int, ...]:
        mirrored = () if self.mirror is None else self.mirror.rules
        return tuple(sorted({*mirrored, *(rule for part in self.slices for rule in part.rules)}))

    @property
    def size(self) -> int:
        return self.view.size

    @property
    def condition(self) -> float:
        return max(part.condition for part in self.slices)

    @property
    def separate(self) -> bool:
        """Whether no two sets of slices share a loop, so that the tangent projector is a tensor product."""
        inside = [axis for axes in self.inner_dims for axis in axes]
        return len(set(inside)) == len(inside)

    @property
    def even(self) -> bool:
        """Whether all equations are plain sums."""
        return all(part.even for part in self.slices)

    @property
    def ambiguous(self) -> int:
        return sum(part.ambiguous for part in self.slices)

    @property
    def loops(self) -> tuple[int, ...]:
        """The lengths of the loops of the box."""
        return tuple(size for size, _ in self.view.dims)

    def sizes(self) -> dict[Parameter, int]:
        return {self.view.parameter: self.size}

    def freedom(self, place: int) -> float | None:
        if not (self.separate or self.even) and self.size > MOST_IN_FULL:
            return None
        return float(self.gram(unit_row(place, self.size))[0, 0])

    def value(self, place: int) -> float | None:
        values = [part.value(self._place_in(inner, place)) for part, inner in self._parts()]
        values += [] if self.mirror is None else [self.mirror.value(place)]
        return next((value for value in values if value is not None), None)

    def mates(self, place: int) -> tuple[Integers, int | None]:
        """The entries that equal this entry up to the sign, directly or through other entries."""
        reached = [place]
        for member in reached:
            reached += [other for other, _ in self.partners(member) if other not in reached]
        return np.array(reached, np.int64), None

    def determined(self, most: int) -> tuple[Integers, Floats]:
        parts = [(inner, *part.determined(most)) for part, inner in self._parts()]
        places, first = np.unique(
            np.concatenate([self._places_of(inner, at) for inner, at, _ in parts]), return_index=True
        )
        return places, np.concatenate([values for _, _, values in parts])[first]

    def tied(self, most: int) -> Iterator[Tied]:
        for part, inner in self._parts():
            for tied in part.tied(most):
                yield replace(tied, places=self._places_of(inner, tied.places))

    def taken(self) -> dict[Parameter, Interval]:
        return {self.view.parameter: Interval.of(self.rank)}

    def fixed(self) -> dict[Parameter, int]:
        return self.sizes() if self.rank == self.size else {}

    def resolution(self) -> Resolution:
        return replace(REGULAR, uncertain=any(len(part.basis) > 1 for part in self.slices))

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return None  # the projections along different axes commute in the Euclidean metric alone

    def tally(self) -> Tally:
        return sum(
            (part.tally() for part in self.slices), start=Tally() if self.mirror is None else self.mirror.tally()
        )

    def describe(self) -> str:
        mirrored = "" if self.mirror is None else f"{self.mirror.describe()}; "
        return f"{mirrored}equations along {len(self.slices)} axes of {self.size:,} entries"

    def bytes_a_step(self) -> int:
        return 4 * BYTES * self.size * (1 if self.mirror is None else 2)

    def renumbered(self, numbers: Mapping[int, int]) -> Commuting:
        mirror = None if self.mirror is None else self.mirror.renumbered(numbers)
        return replace(self, slices=tuple(part.renumbered(numbers) for part in self.slices), mirror=mirror)

    def homogeneous(self) -> Commuting:
        mirror = None if self.mirror is None else self.mirror.homogeneous()
        return replace(self, slices=tuple(part.homogeneous() for part in self.slices), mirror=mirror)

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        x = vectors
        for part, inner in self._parts():
            cells, order = self._as_cells(x, inner)
            flat, target = cells.reshape(len(x), -1, part.inner.size), part.target if affine else None
            moved = project_cells(flat, part.basis, target)
            x = moved.reshape(cells.shape).transpose(np.argsort(order)).reshape(x.shape)
        return x if self.mirror is None else self.mirror.projected(x, affine=affine)

    def gram(self, rows: sparse.csr_array) -> Floats:
        """From the product of commuting projections, `P = Σ_T (−1)^|T| Π_{k in T} Q_kᵀQ_k`."""
        if not (self.separate or self.even):
            return gram_in_full(partial(self.projected, affine=False), rows)
        rows = rows if self.mirror is None else self.mirror.halved(rows)
        tensor, total = Spread.of(rows, self.loops), squared(rows)
        numbers = range(len(self.slices))
        for chosen in (subset for count in numbers for subset in combinations(numbers, count + 1)):
            total += (-1.0) ** len(chosen) * squared(self._spread(tensor, chosen).matrix())
        return total

    def _spread(self, rows: Spread, chosen: tuple[int, ...]) -> Spread:
        """The equations in the coordinates of the basis rows of the chosen sets of slices."""
        if self.separate:
            for k in chosen:
                rows = rows.contract(tuple(1 + axis for axis in self.inner_dims[k]), self.slices[k].basis)
            return rows
        axes = sorted({axis for k in chosen for axis in self.inner_dims[k]})
        n = prod(self.loops[axis] for axis in axes)
        return rows.contract(tuple(1 + axis for axis in axes), np.broadcast_to(1.0 / sqrt(n), (1, n)))

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        total = np.zeros(len(vectors))
        for part, inner in self._parts():
            cells, _ = self._as_cells(vectors, inner)
            total += part.unsure_of_cells(cells.reshape(len(vectors), -1, part.inner.size), tolerance)
        return total

    def partners(self, place: int) -> list[tuple[int, float]]:
        equal = [] if self.mirror is None else self.mirror.partners(place)
        for part, inner in self._parts():
            partners = part.partners(self._place_in(inner, place))
            places = self._places_of(inner, np.array([at for at, _ in partners], np.int64)).tolist()
            equal += list(zip(places, (sign for _, sign in partners), strict=True))
        return equal

    def pinned_value(self, place: int) -> float | None:
        values = (part.pinned_value(self._place_in(inner, place)) for part, inner in self._parts())
        return next((value for value in values if value is not None), None)

    @property
    def rows_and_columns(self) -> tuple[Slices, Slices] | None:
        """The equations of each row and of each column, where the box is a matrix and has no further equations."""
        parts = dict(zip(self.inner_dims, self.slices, strict=True))
        return (parts[(1,)], parts[(0,)]) if len(self.loops) == 2 and parts.keys() == {(0,), (1,)} else None

    def _parts(self) -> Iterator[tuple[Slices, tuple[int, ...]]]:
        return zip(self.slices, self.inner_dims, strict=True)

    def _order(self, inner: tuple[int, ...]) -> tuple[int, ...]:
        """The order of the loops with those inside the cells last."""
        return (*(axis for axis in range(len(self.loops)) if axis not in inner), *inner)

    def _as_cells(self, vectors: Floats, inner: tuple[int, ...]) -> tuple[Floats, list[int]]:
        """Vectors over the box with the loops inside the cells last, and the order of the axes."""
        order = [0, *(1 + axis for axis in self._order(inner))]
        return vectors.reshape(len(vectors), *self.loops).transpose(order), order

    def _place_in(self, inner: tuple[int, ...], place: int) -> int:
        """The place of an entry of the box in one set of slices, cell after cell."""
        if not self.loops:
            return 0
        index = np.unravel_index(place, self.loops)
        order = self._order(inner)
        lengths = tuple(self.loops[axis] for axis in order)
        return int(np.ravel_multi_index(tuple(index[axis] for axis in order), lengths))

    def _places_of(self, inner: tuple[int, ...], places: Integers) -> Integers:
        """The places in the box of places in one set of slices."""
        if not self.loops:
            return places
        order = self._order(inner)
        index = np.unravel_index(places, tuple(self.loops[axis] for axis in order))
        back = np.argsort(order)
        return np.asarray(np.ravel_multi_index(tuple(index[axis] for axis in back), self.loops), np.int64)

    def law(self) -> Linear[Chain | Mirrored]:
        """The law over its entries, in the loops of the box."""
        pairs = zip(self.slices, self.inner_dims, strict=True)
        chain = Chain(self.loops, tuple(Cells(part, self.loops, inner) for part, inner in pairs))
        return Linear(chain if self.mirror is None else Mirrored(Reflection(self.mirror), chain))


@dataclass(frozen=True, eq=False)
class Chain:
    """The projection of commuting sets of slices: each set in turn.

    Copied and pinned entries are set once more in the end, when all sets have moved the entries.
    """

    shape: tuple[int, ...]
    parts: tuple[Cells, ...]

    @property
    def wide(self) -> bool:
        """False, as for each of its sets of slices."""
        return False

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        for part in self.parts:
            x = yield from part.nearest(xp, x)
        return (yield from self._finished(xp, x, affine=True))

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        noise = None
        if floor:
            axes = trailing(x, len(self.shape), tuple(range(len(self.shape))))
            rms = (yield from mean_square(xp, x, axes, prod(self.shape))) ** 0.5
            noise = (rms + abs(x)) * floor
        for part in self.parts:
            x = yield from part.tangent(xp, x)
        # Silence before copying: an entry and its copies are noise together.
        x = x if noise is None else silenced(xp, x, noise)
        return (yield from self._finished(xp, x, affine=False))

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Raises AttachError: in a metric the projections do not commute."""
        raise AttachError("projections along several axes do not commute in the optimizer's metric. Use .project().")

    def noise(self, xp: Namespace, x: Array) -> Array:
        for part in self.parts:
            x = part.noise(xp, x)
        return x

    def _finished(self, xp: Namespace, x: Array, *, affine: bool) -> Rounds[Array]:
        for part in self.parts:
            x = yield from part.finished(xp, x, affine=affine)
        return x


@dataclass(frozen=True, eq=False)
class Mirrored:
    """The projection of a product and then of its mirror, so that images agree to the bit; the two commute."""

    mirror: Reflection
    product: Chain

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mirror.shape

    @property
    def wide(self) -> bool:
        """False, as for the product."""
        return False

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        x = yield from self.product.nearest(xp, x)
        return (yield from self.mirror.nearest(xp, xp.hold(x)))

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        noise = None
        if floor:
            x = xp.hold(x)
            # The noise of an entry and of its image is the same, so that both become zero.
            axes = trailing(x, len(self.shape), tuple(range(len(self.shape))))
            rms = (yield from mean_square(xp, x, axes, prod(self.shape))) ** 0.5
            noise = (rms + self.noise(xp, x)) * floor
        x = yield from self.product.tangent(xp, x)
        x = yield from self.mirror.tangent(xp, xp.hold(x))
        return x if noise is None else silenced(xp, x, noise)

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Raises AttachError, as the product does."""
        return (yield from self.product.nearest_in_metric(xp, x, metric))

    def noise(self, xp: Namespace, x: Array) -> Array:
        return self.mirror.noise(xp, x)
