"""A batch of regular equations: one small matrix, repeated over slices of one parameter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from affinet.blocks.offsets import Nest, Offsets, compress, disjoint_sums, mixed_radix
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.language.forecast import forecast
from affinet.system.distinct import distinct
from affinet.system.layout import Layout
from affinet.system.rows import PAIR_BYTES, Rows, gather_rows


@dataclass(frozen=True, eq=False)
class RowBatch:
    """`matrix @ w[offset + outer_c + inner] == rhs_c` for every cell `c`; cells share no entry.

    `matrix` is (r, n), n = inner.size; `rhs` is (cells, r), or (1, r) where all cells have the same; `owner`, of the
    same form, is the number of the rule of each equation. `matrix` may be a broadcast view and is never written to.
    """

    parameter: Parameter
    offset: int
    outer: Offsets
    inner: Offsets
    matrix: Floats
    rhs: Floats
    owner: Integers

    @cached_property
    def rules(self) -> tuple[int, ...]:
        return tuple(int(k) for k in distinct(self.owner.ravel()))

    @property
    def cells(self) -> int:
        return self.outer.size

    @property
    def equations(self) -> int:
        return self.cells * len(self.matrix)

    @property
    def size(self) -> int:
        return self.cells * self.inner.size

    @property
    def sums(self) -> bool:
        """Whether every equation has three entries or more."""
        return bool((np.count_nonzero(self.matrix, axis=1) > 2).all())

    @cached_property
    def span(self) -> tuple[int, int]:
        """Lowest and highest position in the parameter."""
        (a, b), (c, d) = self.outer.bounds(), self.inner.bounds()
        return self.offset + a + c, self.offset + b + d

    def positions(self) -> Integers:
        """Positions in the parameter, (cells, n)."""
        return self.offset + self.outer.table()[:, None] + self.inner.table()

    def cells_of(self, positions: Integers) -> Integers:
        """The cells that contain any of the positions; positions outside all cells are ignored."""
        low, high = self.span
        inside = positions[(positions >= low) & (positions <= high)] - self.offset
        if not len(inside):
            return np.zeros(0, np.int64)
        if isinstance(self.outer, Nest) and isinstance(self.inner, Nest) and mixed_radix(self.outer, self.inner):
            return _decoded(inside, self.outer, self.inner)
        return _searched(inside, self.outer.table(), self.inner.table())

    def without(self, cells: Integers) -> RowBatch | None:
        """The batch without some cells, None if no cell remains."""
        remaining = np.setdiff1d(np.arange(self.cells), cells, assume_unique=True)
        return self.keep(remaining) if len(remaining) else None

    def keep(self, cells: Integers) -> RowBatch:
        """The batch of only the given cells."""
        first, outer = compress(self.outer.table()[cells])
        rhs = self.rhs if len(self.rhs) == 1 else self.rhs[cells]
        owner = self.owner if len(self.owner) == 1 else self.owner[cells]
        return replace(self, offset=self.offset + first, outer=outer, rhs=rhs, owner=owner)

    def rows(self, layout: Layout) -> Rows:
        """The same equations as sparse rows."""
        r, n = self.matrix.shape
        forecast(
            f"the {self.equations:,} equations over {self.parameter.name}, written out one by one,",
            self.size * r,
            item_bytes=PAIR_BYTES,
        )
        columns = np.repeat(self.positions() + layout.start(self.parameter), r, axis=0).ravel()
        row = np.repeat(np.arange(self.equations), n)
        values = np.tile(self.matrix, (self.cells, 1)).ravel()
        rhs = np.broadcast_to(self.rhs, (self.cells, r)).ravel()
        nonzero = values != 0
        rules = np.broadcast_to(self.owner, (self.cells, r)).ravel()
        unknown = np.full(self.equations, -1, np.int64)
        return gather_rows(row[nonzero], columns[nonzero], values[nonzero], rhs, rules, unknown, 0.0)


def row_batch(
    parameter: Parameter,
    offset: int,
    outer: Offsets,
    inner: Integers,
    matrix: Floats,
    rhs: Floats,
    owner: Integers,
) -> RowBatch | None:
    """A batch in canonical form: no zero column, inner positions ascending. None where cells would share entries."""
    used = np.flatnonzero(np.any(matrix != 0, axis=0)) if matrix.strides != (0, 0) else np.arange(matrix.shape[1])
    if not len(used):
        return None
    if len(used) < len(inner):
        inner, matrix = inner[used], matrix[:, used]
    if len(inner) > 1 and (np.diff(inner) <= 0).any():
        order = np.argsort(inner, kind="stable")
        inner, matrix = inner[order], matrix if matrix.strides == (0, 0) else matrix[:, order]
        if (np.diff(inner) == 0).any():
            return None
    if isinstance(outer, Nest) and any(step < 0 for _, step in outer.dims):
        return None
    first, inside = compress(inner)
    if not disjoint_sums(outer, inside):
        return None
    return RowBatch(parameter, offset + first, outer, inside, shared(matrix), collapsed(rhs), collapsed(owner))


def shared(matrix: Floats) -> Floats:
    """The same matrix, stored as one number where all its entries are equal."""
    if matrix.size > 1 and matrix.strides != (0, 0) and (matrix == matrix.flat[0]).all():
        return np.broadcast_to(matrix.flat[0].copy(), matrix.shape)
    return matrix


def collapsed(values: np.ndarray) -> np.ndarray:
    """The same numbers, stored as one row where all rows are equal."""
    if len(values) > 1 and (values.strides[0] == 0 or (values == values[:1]).all()):
        return values[:1].copy()
    return values


def _decoded(inside: Integers, outer: Nest, inner: Nest) -> Integers:
    """Cells by mixed-radix digits, the largest step first."""
    digits = [(step, size, k, True) for k, (size, step) in enumerate(outer.dims)]
    digits += [(step, size, k, False) for k, (size, step) in enumerate(inner.dims)]
    remainder, cell = inside.copy(), np.zeros(len(inside), np.int64)
    sizes = [size for size, _ in outer.dims]
    for step, size, k, is_outer in sorted(digits, reverse=True):
        place = np.minimum(remainder // step, size - 1) if step > 0 else np.zeros_like(remainder)
        remainder -= place * step
        if is_outer:
            cell += place * int(np.prod(sizes[k + 1 :], dtype=np.int64))
    return distinct(cell[remainder == 0])


def _searched(inside: Integers, outer: Integers, inner: Integers) -> Integers:
    """Cells by search: among cells where they do not interleave, among inner places where those don't, else in full."""
    order = np.argsort(outer)
    cells, places = outer[order], np.sort(inner)
    if len(cells) < 2 or np.diff(cells).min() > places[-1] - places[0]:
        at = np.searchsorted(cells, inside - places[0], side="right") - 1
        return distinct(order[at[(at >= 0) & np.isin(inside - cells[at], places)]])
    if len(places) < 2 or np.diff(places).min() > cells[-1] - cells[0]:
        at = np.searchsorted(places, inside - cells[0], side="right") - 1
        remainders = (inside - places[at])[at >= 0]
        nearest = np.minimum(np.searchsorted(cells, remainders), len(cells) - 1)
        return distinct(order[nearest[cells[nearest] == remainders]])
    every = (outer[:, None] + inner).ravel()
    sort = np.argsort(every)
    at = np.minimum(np.searchsorted(every[sort], inside), len(every) - 1)
    return distinct(sort[at[every[sort[at]] == inside]] // len(inner))
