"""Inner products of the tangent parts of sparse equations, from the structure of a base: `B P Bᵀ`.

The normal projector of slices is `QᵀQ`, so that `B P Bᵀ = B Bᵀ − C Cᵀ` with C = B Qᵀ: a number for each cell that an
equation touches in place of one for each entry. Of commuting projections, `P = Σ_T (−1)^|T| Π_{k in T} Q_kᵀQ_k`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import prod, sqrt
from typing import assert_never

import numpy as np
from scipy import sparse

from affinet.blocks.bases import Base
from affinet.blocks.dense import Dense
from affinet.blocks.joined import Joined
from affinet.blocks.mirror import Mirror
from affinet.blocks.mirrored_product import MirroredProduct
from affinet.blocks.nearest import projected
from affinet.blocks.pairs import Pairs
from affinet.blocks.product import Product
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats, Integers
from affinet.system.distinct import ranked

AT_A_TIME = 2**22
"""Numbers of equations that are projected in full at a time, where a base has no simpler way."""


def gram(base: Base, rows: sparse.csr_array) -> Floats:
    """`rows P rowsᵀ` (equations, equations), P the tangent projector of the base."""
    match base:
        case Slices():
            cells = _Spread.of(rows, (base.outer.size, base.inner.size))
            return squared(rows) - squared(cells.along((2,), base.basis).matrix())
        case Product() if base.separate or base.even:
            return _of_product(base, rows)
        case Product():
            return _in_full(base, rows)
        case Mirror():
            return squared(_halved(base, rows))
        case MirroredProduct():
            return gram(base.product, _halved(base.mirror, rows))
        case Pairs():
            return squared(_together(base, rows))
        case Joined():
            return gram(base.base, rows)
        case Dense():
            along = np.asarray(rows @ base.basis[0].T)
            return np.asarray(squared(rows) - along @ along.T)
        case _:
            assert_never(base)


def squared(rows: sparse.csr_array) -> Floats:
    """`rows rowsᵀ`, in the memory of what is not zero: SciPy's transpose would take a number for each column."""
    used, local = ranked(rows.indices)
    small = sparse.csr_array((rows.data, local, rows.indptr), shape=(rows.shape[0], len(used)))
    return np.asarray((small @ small.T).toarray())


def _of_product(base: Product, rows: sparse.csr_array) -> Floats:
    sizes = tuple(size for size, _ in base.view.dims)
    whole, found = _Spread.of(rows, sizes), squared(rows)
    numbers = range(len(base.slices))
    for chosen in (some for many in numbers for some in combinations(numbers, many + 1)):
        along = whole
        if base.separate:
            for k in chosen:
                along = along.along(tuple(1 + axis for axis in base.inner_dims[k]), base.slices[k].basis)
        else:
            axes = sorted({axis for k in chosen for axis in base.inner_dims[k]})
            n = prod(sizes[axis] for axis in axes)
            along = along.along(tuple(1 + axis for axis in axes), np.broadcast_to(1.0 / sqrt(n), (1, n)))
        found += (-1.0) ** len(chosen) * squared(along.matrix())
    return found


def _in_full(base: Base, rows: sparse.csr_array) -> Floats:
    step = max(1, AT_A_TIME // rows.shape[1])
    found = np.zeros((rows.shape[0],) * 2)
    for first in range(0, rows.shape[0], step):
        some = rows[first : first + step].toarray()
        found[:, first : first + step] = rows @ projected(base, some, affine=False).T
    return found


def _halved(base: Mirror, rows: sparse.csr_array) -> sparse.csr_array:
    """`rows P` for a mirror: half of each row, and half of it seen in the mirror."""
    told = rows.tocoo()
    image = base.images(told.col.astype(np.int64))
    values, row = np.concatenate([told.data, base.sign * told.data]) / 2.0, np.tile(told.row, 2)
    return sparse.coo_array((values, (row, np.concatenate([told.col, image]))), shape=rows.shape).tocsr()


def _together(base: Pairs, rows: sparse.csr_array) -> sparse.csr_array:
    """Rows in the orthonormal coordinates `(ratio first + second) / √(1 + ratio²)` of what pairs leave free."""
    n = base.first.size
    return sparse.csr_array((base.ratio * rows[:, :n] + rows[:, n:]) / sqrt(1.0 + base.ratio**2))


@dataclass(frozen=True, eq=False)
class _Spread:
    """Sparse numbers with axes: `axes` are labels, 0 that of the equations, `sizes` their lengths."""

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    index: Integers
    values: Floats

    @classmethod
    def of(cls, rows: sparse.csr_array, sizes: tuple[int, ...]) -> _Spread:
        told = rows.tocoo()
        index = told.row.astype(np.int64) * rows.shape[1] + told.col
        return cls(tuple(range(len(sizes) + 1)), (rows.shape[0], *sizes), index, told.data)

    def along(self, axes: tuple[int, ...], basis: Floats) -> _Spread:
        """`basis` applied along some axes, which one new axis of its rows stands for."""
        index = np.unravel_index(self.index, self.sizes)
        inner, outer = ([k for k, axis in enumerate(self.axes) if (axis in axes) == inside] for inside in (True, False))
        kept = tuple(self.sizes[k] for k in outer)
        cells, cell = ranked(np.ravel_multi_index(tuple(index[k] for k in outer), kept))
        r = len(basis)
        if not any(basis.strides):
            numbers = np.bincount(cell, self.values, len(cells)) * float(basis.flat[0])
        else:
            places = tuple(self.sizes[k] for k in inner)
            place = np.zeros_like(cell)  # stays where cells are single entries and have no axis inside
            if inner:
                place = np.ravel_multi_index(tuple(index[k] for k in inner), places)
            within = sparse.coo_array((self.values, (cell, place)), shape=(len(cells), basis.shape[1]))
            numbers = np.asarray(within.tocsr() @ basis.T).ravel()
        fresh = (cells[:, None] * r + np.arange(r)).ravel()
        labels = (*(self.axes[k] for k in outer), max(self.axes) + 1)
        return _Spread(labels, (*kept, r), fresh, np.asarray(numbers, np.float64))

    def matrix(self) -> sparse.csr_array:
        """One row an equation."""
        rest = prod(self.sizes[1:])
        return sparse.coo_array(
            (self.values, (self.index // rest, self.index % rest)), shape=(self.sizes[0], rest)
        ).tocsr()
