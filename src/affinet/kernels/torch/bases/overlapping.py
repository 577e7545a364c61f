"""Bases of plain sums over sets of loops that overlap: a mask of coordinates along all loops, at O(entries) a loop."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np
from torch import Tensor, cat

from affinet.blocks.commuting import Commuting
from affinet.kernels.torch.bases.basis import Basis, Constant, Kind, Place
from affinet.kernels.torch.bases.boxes import along, box_place
from affinet.kernels.torch.bases.components_basis import Places
from affinet.kernels.torch.bases.transform import indices
from affinet.language.calculus.terms import Integers

Group = tuple[int, ...]
"""Loops that the same sets sum over."""


def overlapping_sums(block: Commuting, kind: Kind) -> Basis | None:
    """The basis of plain sums; None where an equation is no plain sum.

    In coordinates along each loop in which the first one is the sum (up to a factor), a sum over a set of loops is the
    coordinate that is first on all of them. What no set prescribes so is free.
    """
    if not block.even:
        return None
    return ReflectedSums(block) if kind == "orthonormal" else EliminatedSums(block)


class _Sums:
    """A box in the order of its groups, which coordinates are free in it, and what is exact in it."""

    def __init__(self, block: Commuting, pivot: int) -> None:
        sizes = tuple(size for size, _ in block.view.dims)
        groups = _groups(block)
        order = tuple(axis for group in groups for axis in group)
        self.place: Place = box_place(block)
        self.shape = [prod(sizes[axis] for axis in group) for group in groups]
        self.summed = [k for k, group in enumerate(groups) if any(set(group) <= set(one) for one in block.inner_dims)]
        self._sizes, self._order, self._back = sizes, order, tuple(np.argsort(order).tolist())
        self._ordered = tuple(sizes[axis] for axis in order)
        given = np.zeros(self.shape, bool)
        for one in block.inner_dims:
            at = tuple(pivot if set(group) <= set(one) else slice(None) for group in groups)
            given[at] = True
        self.free, self.given = Places(~given), Constant(given)
        self._exact = _exact(block, sizes)

    def grouped(self, flat: Tensor) -> Tensor:
        """Entries in the order of groups, flat."""
        return flat.view(self._sizes).permute(self._order).reshape(-1)

    def entries(self, x: Tensor) -> Tensor:
        """The way back; entries that equal others up to their sign are copied."""
        flat = x.reshape(self._ordered).permute(self._back).reshape(-1)
        if self._exact is None:
            return flat
        source, signs = self._exact
        return flat.index_select(0, source.index(flat)) * signs.like(flat)


class ReflectedSums:
    """Orthonormal: along each group the reflector H = Hᵀ = H⁻¹ whose first column is that of equal numbers.

    `H = I − τ u uᵀ`, `u = (1, c, …, c)`, as in `ReflectedSum`; N is their tensor product on the free coordinates.
    """

    def __init__(self, block: Commuting) -> None:
        self._sums = _Sums(block, 0)
        self.places, self.free = (self._sums.place,), self._sums.free.count

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        return (self._sums.entries(self._reflected(self._sums.free.put(v))),)

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        return self._sums.free.taken(self._reflected(self._sums.grouped(gradients[0])))

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        return self.adjoint(entries)

    def _reflected(self, x: Tensor) -> Tensor:
        for k in self._sums.summed:
            n = self._sums.shape[k]
            c, scale = 1.0 / (1.0 + sqrt(n)), 1.0 + 1.0 / sqrt(n)
            cells = along(x, self._sums.shape, k)
            first, others = cells[:, :1], cells[:, 1:]
            part = (first + c * others.sum(1, keepdim=True)) * scale
            x = cat([first - part, others - c * part], 1)
        return x


class EliminatedSums:
    """Each free number is an entry: those that are last in no set of loops; the others follow.

    K puts the sum along a group in place of its last entry. With M the free places and P the others, `K_PM` has no
    counterpart `K_MP` (an entry of M is last along no whole set, and neither are those that its row of K adds), so that
    `x_M = v` has the coordinates `K_MM v`, and `x_P = (K⁻¹ [K_MM v; 0])_P`.
    """

    def __init__(self, block: Commuting) -> None:
        self._sums = _Sums(block, -1)
        self.places, self.free = (self._sums.place,), self._sums.free.count

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        free, given = self._sums.free, self._given(v)
        x = free.put(v).reshape(-1)
        y = free.put(free.taken(self._added(x, 1.0)))
        return (self._sums.entries(x + given * self._added(y, -1.0).reshape(-1)),)

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        g, free = self._sums.grouped(gradients[0]), self._sums.free
        y = free.put(free.taken(self._spread(g * self._given(g), -1.0)))
        return free.taken(g) + free.taken(self._spread(y, 1.0))

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        return self._sums.free.taken(self._sums.grouped(entries[0]))

    def _given(self, like: Tensor) -> Tensor:
        return self._sums.given.like(like).reshape(-1)

    def _added(self, x: Tensor, sign: float) -> Tensor:
        """K (sign 1) or its inverse (−1): `sign` times the sum of the others is added to the last entry."""
        for k in self._sums.summed:
            cells = along(x, self._sums.shape, k)
            others, last = cells[:, :-1], cells[:, -1:]
            x = cat([others, last + sign * others.sum(1, keepdim=True)], 1)
        return x

    def _spread(self, g: Tensor, sign: float) -> Tensor:
        """The transpose of `_added`."""
        for k in self._sums.summed:
            cells = along(g, self._sums.shape, k)
            others, last = cells[:, :-1], cells[:, -1:]
            g = cat([others + sign * last, last], 1)
        return g


def _groups(block: Commuting) -> tuple[Group, ...]:
    """Loops by the sets that they belong to, in the order of their first."""
    found: dict[tuple[bool, ...], list[int]] = {}
    for axis in range(len(block.view.dims)):
        found.setdefault(tuple(axis in one for one in block.inner_dims), []).append(axis)
    return tuple(tuple(group) for group in found.values())


def _exact(block: Commuting, sizes: tuple[int, ...]) -> tuple[Constant, Constant] | None:
    """Where each entry of the box comes from and with which sign, as the slices say; None where they say nothing."""
    if not any(len(part.pinned) or len(part.copies) for part in block.slices):
        return None
    source: Integers = np.arange(prod(sizes))
    signs = np.ones(len(source))
    for part, inner in zip(block.slices, block.inner_dims, strict=True):
        outer = [axis for axis in range(len(sizes)) if axis not in inner]
        cells = np.arange(len(source)).reshape(sizes).transpose(*outer, *inner).reshape(-1, part.inner.size)
        signs[cells[:, part.pinned]] = 0.0
        for member, representative, sign in part.copies.astype(np.int64):
            source[cells[:, member]] = source[cells[:, representative]]
            signs[cells[:, member]] = sign * signs[cells[:, representative]]
    return indices(source), Constant(signs)
