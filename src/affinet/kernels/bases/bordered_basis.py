"""A basis of a bordered block: the complement of its extra equations on the free numbers of its bases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from affinet.blocks.bordered import Bordered
from affinet.errors import TooLargeError
from affinet.kernels.bases.basis import Basis, Kind, Place
from affinet.kernels.bases.operations import Array, Constant, NumPyOperations, Operations
from affinet.kernels.bases.tied_bases import join_flat, places_of, split_flat
from affinet.kernels.bases.transform import Eliminated, Reflected, Transform, indices
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.forecast import LIMIT
from affinet.system import lapack
from affinet.system.layout import Layout

NUMPY = NumPyOperations()
COPIES = 4
"""The number of matrices of extra equations × free numbers in memory at the same time while the basis is computed."""


class BorderedBasis:
    """`N v = N_A C v`: C is the complement of `B N_A`, the extra equations on the free numbers of the bases.

    Each loose entry is a free number. With orthonormal N_A the rows `Fᵀ B N_A` are orthonormal, where `F Fᵀ` is the
    pseudo-inverse of the Schur complement `B N_A N_Aᵀ Bᵀ`, and C applies one reflector per row, in O(free · extra).
    """

    def __init__(self, block: Bordered, bases: Sequence[Basis], kind: Kind, layout: Layout) -> None:
        self._bases = tuple(bases)
        self._loose = places_of(block.loose)
        self.places: tuple[Place, ...] = (*(place for basis in bases for place in basis.places), *self._loose)
        self._sizes = [place.size for place in self.places]
        self._inner = [*(basis.free for basis in bases), sum(place.size for place in self._loose)]
        numbers = sum(self._inner)
        needed = 8 * COPIES * block.extra * numbers
        if needed > LIMIT:
            raise TooLargeError(
                f"the basis of {block.extra:,} equations over {numbers:,} free numbers",
                needed,
                LIMIT,
                'Use basis="projection", or affinet.project.',
            )
        place_numbers = _own_places(block, bases, self._sizes, layout)
        self._finish = _finish(block, place_numbers, sum(self._sizes))
        self._transform = self._complement(block, place_numbers, kind)
        self.free = self._transform.free

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        numbers = xp.split(xp.cast(self._transform.linear(xp, _wide(xp, v))[0, :, 0], v), self._inner, 0)
        pieces = [
            piece
            for basis, part in zip(self._bases, numbers, strict=False)
            for piece in (basis.linear(xp, part) if basis.free else _nothing(xp, basis, v))
        ]
        flat = xp.concat([*pieces, numbers[-1]], 0)
        if self._finish is not None:
            source, signs = self._finish
            flat = xp.take(xp.hold(flat), source, 0) * xp.numbers(signs, flat)
        return split_flat(xp, flat, self._sizes)

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        g = self._from_bases(xp, gradients, picking=False)
        return xp.cast(self._transform.adjoint(xp, _wide(xp, g))[0, :, 0], g)

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        x = self._from_bases(xp, entries, picking=True)
        return xp.cast(self._transform.picked(xp, _wide(xp, x))[0, :, 0], x)

    def _from_bases(self, xp: Operations, entries: Sequence[Array], *, picking: bool) -> Array:
        """The free numbers of the bases, and the loose entries: from entries (`picked`) or gradients (`adjoint`)."""
        numbers, first = [], 0
        for basis in self._bases:
            base_entries = tuple(entries[first : first + len(basis.places)])
            first += len(basis.places)
            if basis.free:
                numbers.append(basis.picked(xp, base_entries) if picking else basis.adjoint(xp, base_entries))
        return join_flat(xp, (*numbers, *entries[first:]))

    def _complement(self, block: Bordered, place_numbers: Integers, kind: Kind) -> Transform:
        rows = self._on_free_numbers(block, place_numbers)
        basis = block.factor.T @ rows
        if kind == "orthonormal" or not len(basis):
            return Reflected(basis)
        basis = np.ascontiguousarray(lapack.qr(basis.T, mode="economic")[0].T)
        exact = place_numbers[np.concatenate([block.pinned, block.copies[:, 0]]).astype(np.int64)]
        # The number of each entry, counted from one, to find the entry of each free number.
        named = np.arange(1.0, 1 + sum(self._sizes))
        entry = (
            self._from_bases(NUMPY, split_flat(NUMPY, named, self._sizes), picking=True).round().astype(np.int64) - 1
        )
        return Eliminated(basis, np.flatnonzero(np.isin(entry, exact)))

    def _on_free_numbers(self, block: Bordered, place_numbers: Integers) -> Floats:
        """`B N_A`: the extra equations in terms of the free numbers."""
        rows = []
        for k in range(block.extra):
            terms = slice(block.matrix.indptr[k], block.matrix.indptr[k + 1])
            row = np.zeros(sum(self._sizes))
            row[place_numbers[block.matrix.indices[terms]]] = block.matrix.data[terms]
            rows.append(self._from_bases(NUMPY, split_flat(NUMPY, row, self._sizes), picking=False))
        return np.stack(rows)


def _wide(xp: Operations, numbers: Array) -> Array:
    """Numbers as one cell, in float64 where available, so that an equation of few entries holds to their rounding.

    In float32 it held to the rounding of all free numbers: a hundred times as much for 600 entries among 260,000.
    """
    return xp.widest(numbers)[None, :, None]


def _nothing(xp: Operations, basis: Basis, like: Array) -> tuple[Array, ...]:
    return tuple(xp.zeros(place.size, like) for place in basis.places)


def _own_places(block: Bordered, bases: Sequence[Basis], sizes: list[int], layout: Layout) -> Integers:
    """The index of each entry of the block among all entries of the places, −1 for an entry in no place."""
    starts = {parameter.name: layout.start(parameter) for parameter in layout.parameters}
    place_numbers = np.full(block.matrix.shape[1], -1, np.int64)
    ends, number, first = list(accumulate(sizes, initial=0)), 0, 0
    for base, basis in zip(block.bases, bases, strict=True):
        for place in basis.places:
            positions = np.arange(place.size) if place.positions is None else place.positions
            places = base.entries.find(starts[place.name] + np.asarray(positions, np.int64), layout)
            assert (places >= 0).all(), "a basis has an entry that its block does not read"
            place_numbers[first + places] = ends[number] + np.arange(place.size)
            number += 1
        first += base.entries.count
    place_numbers[first:] = ends[number] + np.arange(len(place_numbers) - first)
    return place_numbers


def _finish(block: Bordered, place_numbers: Integers, size: int) -> tuple[Constant, Constant] | None:
    """The source and the sign of each entry; None for a block without pinned or copied entries."""
    if not len(block.pinned) and not len(block.copies):
        return None
    source, signs = np.arange(size), np.ones(size)
    signs[place_numbers[block.pinned.astype(np.int64)]] = 0.0
    members, representatives = place_numbers[block.copies[:, :2].astype(np.int64)].T
    source[members] = representatives
    signs[members] = block.copies[:, 2] * signs[representatives]
    return indices(source), Constant(signs)
