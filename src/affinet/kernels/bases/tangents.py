"""Computes a dense basis of any small block from its tangent projector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from affinet.blocks.kinds import AnyLinear
from affinet.blocks.law import run_alone
from affinet.blocks.namespace import NumPy
from affinet.kernels.arrays.array_entries import read
from affinet.kernels.bases.basis import Kind, Place
from affinet.kernels.bases.operations import Array, Constant, Operations
from affinet.kernels.bases.tied_bases import join_flat, split_flat
from affinet.language.calculus.terms import Floats, Integers
from affinet.system import lapack
from affinet.system.layout import Layout

ROUNDING = 1e-11
"""Rows of a basis, with numbers of size one, are equal up to rounding where they differ by less."""
MOST_ENTRIES = 1_024
"""Entries up to which a block without usable structure gets a dense basis: 8 MB in float64."""


class MatrixBasis:
    """`N v` with a matrix N of one row per entry."""

    def __init__(self, places: tuple[Place, ...], matrix: Floats, inverse: Floats) -> None:
        self.places, self.free = places, matrix.shape[1]
        self._sizes = [place.size for place in places]
        self._matrix, self._inverse = Constant(matrix), Constant(inverse)

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        return split_flat(xp, _times(xp, self._matrix, v), self._sizes)

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        return _times(xp, self._matrix, join_flat(xp, gradients), transposed=True)

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        return _times(xp, self._inverse, join_flat(xp, entries))


def from_tangents(block: AnyLinear, layout: Layout, kind: Kind) -> MatrixBasis | None:
    """The basis of the set that the law of a block projects onto; None for more than `MOST_ENTRIES` entries.

    The trace of the tangent projector is the number of free directions; QR with column pivoting finds its range. For
    `free` a second one chooses the entries that serve as free numbers.
    """
    if block.entries.count > MOST_ENTRIES:
        return None
    columns = _columns(block, layout)
    order = np.argsort(columns)
    places = _places(columns[order], layout)
    projector = _tangents(block)[np.ix_(order, order)]
    free = round(float(np.trace(projector)))
    basis = _agreeing(lapack.qr(projector, mode="economic", pivoting=True)[0][:, :free])
    if kind == "orthonormal":
        return MatrixBasis(places, basis, basis.T)
    chosen = np.sort(lapack.qr(basis.T, mode="r", pivoting=True)[-1][:free])
    matrix = lapack.solve(basis[chosen].T, basis.T).T if free else basis
    matrix[chosen] = np.eye(free)
    # Integers first, so that an entry that equals a free entry is computed as that entry.
    matrix = _agreeing(np.where(np.abs(matrix - np.round(matrix)) < ROUNDING, np.round(matrix), matrix))
    return MatrixBasis(places, matrix, np.eye(len(order))[chosen])


def _columns(block: AnyLinear, layout: Layout) -> Integers:
    """The column of the system of each entry of a block."""
    names = {parameter for parameter, _ in block.entries.sizes}
    numbers = {p.name: layout.start(p) + np.arange(p.size) for p in names}
    return np.ravel(read(block.entries, numbers)).astype(np.int64)


def _places(columns: Integers, layout: Layout) -> tuple[Place, ...]:
    """The places of ascending columns, one per parameter."""
    numbers = layout.numbers(columns)
    return tuple(
        Place.of(p.name, columns[numbers == k] - layout.start(p), p.size)
        for k, p in enumerate(layout.parameters)
        if (numbers == k).any()
    )


def _tangents(block: AnyLinear) -> Floats:
    """The tangent projector, column by column, made symmetric to the last bit."""
    projection, xp = block.law().projection, NumPy()
    unit_vectors = np.eye(block.entries.count)
    columns = [np.ravel(run_alone(projection.tangent(xp, v.reshape(projection.shape)))) for v in unit_vectors.copy()]
    projector = np.stack(columns, 1) if columns else np.zeros((0, 0))
    return (projector + projector.T) / 2.0


def _agreeing(matrix: Floats) -> Floats:
    """`matrix` with rows that are zero, equal or opposite up to rounding (those of tied entries) made so to the bit."""
    matrix[np.abs(matrix).max(1, initial=0.0) < ROUNDING] = 0.0
    marks = matrix @ np.random.default_rng(0).standard_normal(matrix.shape[1])
    order = np.argsort(np.abs(marks), kind="stable")
    for last, row in pairwise(order):
        if abs(abs(marks[row]) - abs(marks[last])) < ROUNDING:
            sign = 1.0 if marks[row] * marks[last] > 0.0 else -1.0
            if np.abs(matrix[row] - sign * matrix[last]).max(initial=0.0) < ROUNDING:
                matrix[row] = sign * matrix[last]
    return matrix


def _times(xp: Operations, matrix: Constant, x: Array, *, transposed: bool = False) -> Array:
    wide = xp.exact(x)
    factor = xp.numbers(matrix, wide)
    return xp.cast(xp.matmul(xp.transposed(factor) if transposed else factor, wide[:, None])[:, 0], x)
