"""A block of many cells of one parameter that obey the same small set of equations, each with its right-hand side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np
from scipy import sparse

from affinet.blocks.copies import copies_of, renumber, value_of_place
from affinet.blocks.gram import Spread, squared, unit_row
from affinet.blocks.interval import Interval
from affinet.blocks.law import Linear, Rounds, Sum, silenced, trailing
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.nearest import project_cells
from affinet.blocks.offsets import Nest, Offsets
from affinet.blocks.phrases import BYTES, many
from affinet.blocks.places import Stepped, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Alike, Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.tolerance import Tolerance


def _unamplified() -> Floats:
    return np.ones(1)


@dataclass(frozen=True, eq=False)
class Slices:
    """`basis @ w[cell] == target_c` on every cell `offset + outer_c + inner` of one parameter.

    `basis` (r, n) has orthonormal rows; `target` is (cells, r) or (1, r). `pinned` are inner places of determined
    entries, with `values` (cells | 1, pinned); `copies` are (member, representative, sign) of inner places that are
    equal or opposite. The basis implies both already; listing them makes them exact to the bit. `ambiguous` is 1 where
    the rank was decided close to the tolerance. `amplified[i]` is the factor by which rounding in the equilibrated
    equations grows in row i of the basis and its target: the norm of the row's coefficients in terms of the equations.
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
    amplified: Floats = field(default_factory=_unamplified)

    @property
    def entries(self) -> Stepped:
        """The places of its entries."""
        return Stepped(self.parameter, self.offset, self.outer, self.inner)

    @property
    def condition(self) -> float:
        """The largest `amplified`, about the condition number of the equations."""
        return float(self.amplified.max(initial=1.0))

    @property
    def size(self) -> int:
        return self.outer.size * self.inner.size

    @property
    def rank(self) -> int:
        return self.outer.size * len(self.basis)

    @property
    def even(self) -> bool:
        """Whether a cell has one equation, with the same coefficient for all entries."""
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
        return squared(rows) - squared(cells.contract((2,), self.basis).matrix())

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        return self.unsure_of_cells(vectors.reshape(len(vectors), -1, self.inner.size), tolerance)

    def unsure_of_cells(self, cells: Floats, tolerance: Tolerance) -> Floats:
        """`unsure` for vectors as (vectors, cells, entries of a cell); zero for equations of condition number one."""
        if self.condition == 1.0:
            return np.zeros(len(cells))
        weighted = cells @ self.basis.T * self.amplified
        return tolerance.rank(*self.basis.shape) * np.asarray(np.linalg.norm(weighted, axis=(1, 2)))

    def partners(self, place: int) -> list[tuple[int, float]]:
        cell, within = divmod(place, self.inner.size)
        return [(cell * self.inner.size + k, sign) for k, sign in self.copies_within(within)]

    def copies_within(self, within: int) -> list[tuple[int, float]]:
        """Inner places that are equal or opposite to the inner place `within`, with the sign."""
        members = [(int(b), float(s)) for a, b, s in self.copies if a == within]
        return members + [(int(a), float(s)) for a, b, s in self.copies if b == within]

    def pinned_value(self, place: int) -> float | None:
        cell, within = divmod(place, self.inner.size)
        return value_of_place(self.pinned, self.values[cell if len(self.values) > 1 else 0], within)

    @property
    def rows_and_columns(self) -> tuple[Slices, None]:
        """The equations of each cell, and None: there are no equations across cells."""
        return self, None

    @property
    def determines_all(self) -> bool:
        """Whether the equations of a cell determine all entries in it."""
        return len(self.basis) == self.inner.size

    def law(self) -> Linear[Cells]:
        """The law over its entries, cell by cell: the loops over cells, then those inside a cell."""
        outer, inner = (_sizes(part) for part in (self.outer, self.inner))
        sizes = (*outer, *inner)
        return Linear(Cells(self, sizes, tuple(range(len(outer), len(sizes)))))


def _sizes(part: Offsets) -> tuple[int, ...]:
    return tuple(size for size, _ in part.dims) if isinstance(part, Nest) else (part.size,)


@dataclass(frozen=True, eq=False)
class Cells:
    """The projection of slices on the axes of a box: `x − Qᵀ(Q x − target)` in every cell.

    `shape` are the lengths of all axes, `inner` those axes that run inside a cell. Where all entries of a cell have the
    same coefficient, sums run over the entries in place, and no array as large as the box is made. Equal or opposite
    entries are copied from a representative, and pinned entries are set, so that both are exact to the bit.

    A holder of a shard has some cells, and the same entries of each of them: `shard` lists them.
    """

    block: Slices
    shape: tuple[int, ...]
    inner: tuple[int, ...]
    shard: Shard | None = None

    @property
    def wide(self) -> bool:
        """False: rows of the basis are orthonormal, so that rounding is relative to the entries in their dtype."""
        return False

    def for_holder(self, cells: Integers, entries: Integers) -> Cells:
        """The law of a holder of `entries` of each of some `cells`, as an array (cells, entries)."""
        place = np.full(self.block.basis.shape[1], -1, np.int64)
        place[entries] = np.arange(len(entries))
        return Cells(self.block, (len(cells), len(entries)), (1,), Shard(cells, entries, place))

    @property
    def adds_alone(self) -> bool:
        """Whether all that it computes are sums over the axes of its cells, in whatever order the axes are."""
        return self.block.even and not self.has_exact_entries and self.shard is None

    def permuted(self, order: tuple[int, ...]) -> Cells | None:
        """The same law over its axes in another order; None where each cell has its target, and cells change places."""
        outer = [axis for axis in order if axis not in self.inner]
        if len(self.block.target) > 1 and outer != sorted(outer):
            return None
        inner = tuple(order.index(axis) for axis in self.inner)
        return replace(self, shape=tuple(self.shape[axis] for axis in order), inner=inner)

    @property
    def has_exact_entries(self) -> bool:
        """Whether there are pinned or copied entries."""
        return bool(len(self.block.pinned) or len(self.block.copies))

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        y, _ = yield from self._moved(xp, x, affine=True)
        return (yield from self.finished(xp, y, affine=True))

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        y, noise = yield from self._moved(xp, x, affine=False, floor=floor)
        # Silence before copying: an entry and its copies are noise together.
        return (yield from self.finished(xp, silenced(xp, y, noise) if floor else y, affine=False))

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Law: `x − D⁻¹Qᵀ (Q D⁻¹ Qᵀ)⁻¹ (Q x − target)` in every cell, with D the metric."""
        cells, ease = (self._cells(xp, values) for values in (x, 1.0 / metric))
        basis = xp.array(self._basis, x)
        rows = basis.shape[0]
        eased = xp.reshape(ease, (*ease.shape[:-1], 1, ease.shape[-1])) * basis
        transposed = xp.permute(basis, (1, 0))
        system = yield Sum(xp.matmul(eased, transposed))
        gap = yield Sum(xp.matmul(cells, transposed))
        gap = xp.solve(system, gap - xp.array(self._target, x))
        step = xp.matmul(xp.reshape(gap, (*gap.shape[:-1], 1, rows)), eased)
        cells -= xp.reshape(step, cells.shape)
        return (yield from self.finished(xp, self._boxed(xp, cells, x), affine=True))

    def noise(self, xp: Namespace, x: Array) -> Array:
        sizes, copies = abs(x), self.block.copies
        if not len(copies):
            return sizes
        cells = self._cells(xp, sizes)
        known = xp.take(cells, copies[:, 1].astype(np.int64))
        return self._boxed(xp, xp.put(cells, copies[:, 0].astype(np.int64), known), x)

    def finished(self, xp: Namespace, x: Array, *, affine: bool) -> Rounds[Array]:
        """`x` with pinned entries set (to zero for tangent vectors) and equal entries copied, exact to the bit."""
        if not self.has_exact_entries:
            return x
        cells = self._cells(xp, x)
        pinned, values, copies = self.block.pinned, self.block.values, self.block.copies
        if self.shard is not None:
            pinned, values = self.shard.fixed(pinned, values)
        if len(pinned):
            cells = xp.put(cells, pinned, xp.array(values if affine else 0.0 * values[:1], x))
        if len(copies):
            members: Integers = copies[:, 0].astype(np.int64)
            representatives, signs = copies[:, 1].astype(np.int64), copies[:, 2]
            if self.shard is None:
                cells = xp.hold(cells)
                known = xp.take(cells, representatives)
            else:
                known = yield Sum(self.shard.representatives(xp, cells, representatives))
                places, chosen = self.shard.members(members)
                known, signs, members = xp.take(known, chosen), signs[chosen], places
            cells = xp.put(cells, members, known * xp.array(signs, x))
        return self._boxed(xp, cells, x)

    def _moved(self, xp: Namespace, x: Array, *, affine: bool, floor: float = 0.0) -> Rounds[tuple[Array, Array]]:
        """The projection, and with a floor the size below which numbers are rounding noise, from one round."""
        n = self.block.basis.shape[1]
        if self.block.even:
            share = float(self.block.basis[0, 0])
            total = yield Sum(xp.sum(x, trailing(x, len(self.shape), self.inner)))
            gap = total * share
            if affine:
                gap = gap - xp.array(self._target_in_box, x)
            x -= gap * share
            # In a cell whose tangent part is zero all entries equal the mean, so that the rms is the size of the mean.
            return x, abs(total) * (2.0 * floor / n)
        cells, basis, noise = self._cells(xp, x), xp.array(self._basis, x), None
        gap = xp.matmul(cells, xp.permute(basis, (1, 0)))
        if floor:
            total = yield Sum(xp.concat([gap, xp.sum(cells * cells, (cells.ndim - 1,))]))
            gap, squares = total[..., :-1], total[..., -1:]
            noise = self._boxed(xp, ((squares * (1.0 / n)) ** 0.5 + abs(cells)) * floor, x)
        else:
            gap = yield Sum(gap)
        if affine:
            gap = gap - xp.array(self._target, x)
        cells -= xp.matmul(gap, basis)
        return self._boxed(xp, cells, x), noise

    @cached_property
    def _basis(self) -> Floats:
        return self.block.basis if self.shard is None else self.block.basis[:, self.shard.entries]

    @cached_property
    def _target(self) -> Floats:
        """The targets, one row per cell or one row for all."""
        target = self.block.target
        return target if self.shard is None or len(target) == 1 else target[self.shard.cells]

    @cached_property
    def _target_in_box(self) -> Floats:
        """The single target of each cell, along the axes over cells."""
        sizes = tuple(1 if axis in self.inner else size for axis, size in enumerate(self.shape))
        return self._target.reshape(sizes if len(self.block.target) > 1 else (1,) * len(sizes))

    def _order(self, x: Array) -> tuple[int, ...]:
        """The axes of `x` with those inside cells last."""
        outer = tuple(axis for axis in range(len(self.shape)) if axis not in self.inner)
        return (*range(x.ndim - len(self.shape)), *trailing(x, len(self.shape), (*outer, *self.inner)))

    def _cells(self, xp: Namespace, x: Array) -> Array:
        """The entries as (…, cells, entries of a cell)."""
        lead = tuple(x.shape[: x.ndim - len(self.shape)])
        count = prod(self.shape[axis] for axis in self.inner)
        cells = prod(size for axis, size in enumerate(self.shape) if axis not in self.inner)
        return xp.reshape(xp.permute(x, self._order(x)), (*lead, cells, count))

    def _boxed(self, xp: Namespace, cells: Array, like: Array) -> Array:
        """Cells back in the axes of `like`."""
        order = self._order(like)
        sizes = tuple(like.shape[axis] for axis in order)
        return xp.permute(xp.reshape(cells, sizes), tuple(int(axis) for axis in np.argsort(order)))


@dataclass(frozen=True, eq=False)
class Shard:
    """The cells, and the entries of each cell, of one holder; `place` maps an entry to its index there, or to −1."""

    cells: Integers
    entries: Integers
    place: Integers

    def fixed(self, pinned: Integers, values: Floats) -> tuple[Integers, Floats]:
        """The pinned places of this holder, and their values."""
        places = self.place[pinned]
        shard_values = values if len(values) == 1 else values[self.cells]
        return places[places >= 0], shard_values[:, places >= 0]

    def representatives(self, xp: Namespace, cells: Array, representatives: Integers) -> Array:
        """The numbers to copy, zero for entries of other holders: the sum over all holders is exact to the bit."""
        places = self.place[representatives]
        local_places = np.flatnonzero(places >= 0)
        nothing = xp.broadcast(xp.array(0.0, cells), (*cells.shape[:-1], len(places))) * 1.0
        return xp.put(nothing, local_places, xp.take(cells, places[local_places]))

    def members(self, members: Integers) -> tuple[Integers, Integers]:
        """The places of the copies at this holder, and their indices among all copies."""
        places = self.place[members]
        chosen = np.flatnonzero(places >= 0)
        return places[chosen], chosen
