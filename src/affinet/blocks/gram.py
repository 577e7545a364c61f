"""Computes inner products of the tangent parts of sparse equations, `B P Bᵀ`, from the structure of a base.

The normal projector of slices is `QᵀQ`, so that `B P Bᵀ = B Bᵀ − C Cᵀ` with C = B Qᵀ, which has one number per cell
that an equation touches instead of one per entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
from scipy import sparse

from affinet.language.calculus.terms import Floats, Integers
from affinet.system.distinct import ranked

AT_A_TIME = 2**22
"""Numbers that are projected at a time, for a base without a closed form."""


def squared(rows: sparse.csr_array) -> Floats:
    """`rows rowsᵀ`, in memory proportional to the nonzeros: SciPy's transpose would take one number per column."""
    used, local = ranked(rows.indices)
    small = sparse.csr_array((rows.data, local, rows.indptr), shape=(rows.shape[0], len(used)))
    return np.asarray((small @ small.T).toarray())


def gram_in_full(tangents: Callable[[Floats], Floats], rows: sparse.csr_array) -> Floats:
    """`rows P rowsᵀ` where `tangents` projects dense vectors, a few equations at a time."""
    step = max(1, AT_A_TIME // rows.shape[1])
    product = np.zeros((rows.shape[0],) * 2)
    for first in range(0, rows.shape[0], step):
        chunk = rows[first : first + step].toarray()
        product[:, first : first + step] = rows @ tangents(chunk).T
    return product


def unit_row(place: int, width: int) -> sparse.csr_array:
    """The equation with coefficient one at one entry."""
    return sparse.csr_array((np.ones(1), np.array([place]), np.array([0, 1])), shape=(1, width))


@dataclass(frozen=True, eq=False)
class Spread:
    """A sparse tensor: `axes` are the labels of its axes, with 0 for the equations, and `sizes` their lengths."""

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    index: Integers
    values: Floats

    @classmethod
    def of(cls, rows: sparse.csr_array, sizes: tuple[int, ...]) -> Spread:
        triples = rows.tocoo()
        index = triples.row.astype(np.int64) * rows.shape[1] + triples.col
        return cls(tuple(range(len(sizes) + 1)), (rows.shape[0], *sizes), index, triples.data)

    def contract(self, axes: tuple[int, ...], basis: Floats) -> Spread:
        """`basis` applied along some axes, which are replaced by one new axis over the rows of `basis`."""
        index = np.unravel_index(self.index, self.sizes)
        inner, outer = ([k for k, axis in enumerate(self.axes) if (axis in axes) == inside] for inside in (True, False))
        lengths = tuple(self.sizes[k] for k in outer)
        cells, cell = ranked(np.ravel_multi_index(tuple(index[k] for k in outer), lengths))
        r = len(basis)
        if not any(basis.strides):
            numbers = np.bincount(cell, self.values, len(cells)) * float(basis.flat[0])
        else:
            places = tuple(self.sizes[k] for k in inner)
            place = np.zeros_like(cell)  # remains where cells are single entries without an axis inside
            if inner:
                place = np.ravel_multi_index(tuple(index[k] for k in inner), places)
            within = sparse.coo_array((self.values, (cell, place)), shape=(len(cells), basis.shape[1]))
            numbers = np.asarray(within.tocsr() @ basis.T).ravel()
        new_index = (cells[:, None] * r + np.arange(r)).ravel()
        labels = (*(self.axes[k] for k in outer), max(self.axes) + 1)
        return Spread(labels, (*lengths, r), new_index, np.asarray(numbers, np.float64))

    def matrix(self) -> sparse.csr_array:
        """The tensor as a matrix with one row per equation."""
        width = prod(self.sizes[1:])
        return sparse.coo_array(
            (self.values, (self.index // width, self.index % width)), shape=(self.sizes[0], width)
        ).tocsr()
