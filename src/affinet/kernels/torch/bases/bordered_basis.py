"""A basis of a bordered block: the complement of its extra equations on the free numbers of its bases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.bordered import Bordered
from affinet.errors import TooLargeError
from affinet.kernels.torch.bases.basis import Basis, Constant, Kind, Place
from affinet.kernels.torch.bases.tied_bases import join_flat, places_of, split_flat
from affinet.kernels.torch.bases.transform import Eliminated, Reflected, Transform, indices
from affinet.kernels.torch.precision import irregular_dtype
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.forecast import LIMIT
from affinet.system import lapack
from affinet.system.layout import Layout

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

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        numbers = self._transform.linear(_wide(v))[0, :, 0].to(v.dtype).split(self._inner)
        pieces = [
            piece
            for basis, part in zip(self._bases, numbers, strict=False)
            for piece in (basis.linear(part) if basis.free else _nothing(basis, v))
        ]
        flat = torch.cat([*pieces, numbers[-1]])
        if self._finish is not None:
            source, signs = self._finish
            flat = flat.index_select(0, source.index(flat)) * signs.like(flat)
        return split_flat(flat, self._sizes)

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        g = self._from_bases(gradients, picking=False)
        return self._transform.adjoint(_wide(g))[0, :, 0].to(g.dtype)

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        x = self._from_bases(entries, picking=True)
        return self._transform.picked(_wide(x))[0, :, 0].to(x.dtype)

    def _from_bases(self, entries: tuple[Tensor, ...], *, picking: bool) -> Tensor:
        """The free numbers of the bases, and the loose entries: from entries (`picked`) or gradients (`adjoint`)."""
        numbers, first = [], 0
        for basis in self._bases:
            base_entries = tuple(entries[first : first + len(basis.places)])
            first += len(basis.places)
            if basis.free:
                numbers.append(basis.picked(base_entries) if picking else basis.adjoint(base_entries))
        return join_flat((*numbers, *entries[first:]))

    def _complement(self, block: Bordered, place_numbers: Integers, kind: Kind) -> Transform:
        rows = self._on_free_numbers(block, place_numbers)
        basis = block.factor.T @ rows
        if kind == "orthonormal" or not len(basis):
            return Reflected(basis)
        basis = np.ascontiguousarray(lapack.qr(basis.T, mode="economic")[0].T)
        exact = place_numbers[np.concatenate([block.pinned, block.copies[:, 0]]).astype(np.int64)]
        # The number of each entry, counted from one, to find the entry of each free number.
        named = torch.arange(1.0, 1 + sum(self._sizes), dtype=torch.float64)
        entry = self._from_bases(split_flat(named, self._sizes), picking=True).numpy().round().astype(np.int64) - 1
        return Eliminated(basis, np.flatnonzero(np.isin(entry, exact)))

    def _on_free_numbers(self, block: Bordered, place_numbers: Integers) -> Floats:
        """`B N_A`: the extra equations in terms of the free numbers."""
        rows = []
        for k in range(block.extra):
            terms = slice(block.matrix.indptr[k], block.matrix.indptr[k + 1])
            row = torch.zeros(sum(self._sizes), dtype=torch.float64)
            row[place_numbers[block.matrix.indices[terms]]] = torch.from_numpy(block.matrix.data[terms])
            rows.append(self._from_bases(split_flat(row, self._sizes), picking=False).numpy())
        return np.stack(rows)


def _wide(numbers: Tensor) -> Tensor:
    """Numbers as one cell, in float64 where available, so that an equation of few entries holds to their rounding.

    In float32 it held to the rounding of all free numbers: a hundred times as much for 600 entries among 260,000.
    """
    return numbers.to(irregular_dtype(numbers.device))[None, :, None]


def _nothing(basis: Basis, like: Tensor) -> tuple[Tensor, ...]:
    return tuple(like.new_zeros(place.size) for place in basis.places)


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
