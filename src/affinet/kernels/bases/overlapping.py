"""Bases of plain sums over overlapping sets of loops: a mask of coordinates along all loops, in O(entries) per loop."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt

import numpy as np

from affinet.blocks.commuting import Commuting
from affinet.kernels.bases.basis import Basis, Kind, Place
from affinet.kernels.bases.boxes import around_axis, box_place
from affinet.kernels.bases.components_basis import Places
from affinet.kernels.bases.operations import Array, Constant, Operations
from affinet.kernels.bases.transform import indices
from affinet.language.calculus.terms import Integers

Group = tuple[int, ...]
"""Loops that belong to the same sets."""


def overlapping_sums(block: Commuting, kind: Kind) -> Basis | None:
    """The basis of plain sums; None where an equation is not a plain sum.

    With coordinates along each loop whose first is the sum (up to a factor), a sum over a set of loops is the
    coordinate that is first on all loops of the set. Coordinates that no set prescribes are free.
    """
    if not block.even:
        return None
    return ReflectedSums(block) if kind == "orthonormal" else EliminatedSums(block)


class _Sums:
    """A box in the order of its groups, its free coordinates, and its pinned and copied entries."""

    def __init__(self, block: Commuting, pivot: int) -> None:
        sizes = tuple(size for size, _ in block.view.dims)
        groups = _groups(block)
        order = tuple(axis for group in groups for axis in group)
        self.place: Place = box_place(block)
        self.shape = [prod(sizes[axis] for axis in group) for group in groups]
        self.summed = [
            k
            for k, group in enumerate(groups)
            if any(set(group) <= set(summed_axes) for summed_axes in block.inner_dims)
        ]
        self._sizes, self._order, self._back = sizes, order, tuple(np.argsort(order).tolist())
        self._ordered = tuple(sizes[axis] for axis in order)
        prescribed = np.zeros(self.shape, bool)
        for summed_axes in block.inner_dims:
            at = tuple(pivot if set(group) <= set(summed_axes) else slice(None) for group in groups)
            prescribed[at] = True
        self.free, self.prescribed = Places(~prescribed), Constant(prescribed)
        self._exact = _exact(block, sizes)

    def grouped(self, xp: Operations, flat: Array) -> Array:
        """Entries in the order of the groups, flat."""
        return xp.permute(flat.reshape(self._sizes), self._order).reshape(-1)

    def entries(self, xp: Operations, x: Array) -> Array:
        """The inverse of `grouped`; entries that are equal up to their sign are copied."""
        flat = xp.permute(x.reshape(self._ordered), self._back).reshape(-1)
        if self._exact is None:
            return flat
        source, signs = self._exact
        return xp.take(xp.hold(flat), source, 0) * xp.numbers(signs, flat)


class ReflectedSums:
    """Orthonormal: along each group the reflector H = Hᵀ = H⁻¹ whose first column has equal numbers.

    `H = I − τ u uᵀ`, `u = (1, c, …, c)`, as in `ReflectedSum`; N is their tensor product on the free coordinates.
    """

    def __init__(self, block: Commuting) -> None:
        self._sums = _Sums(block, 0)
        self.places, self.free = (self._sums.place,), self._sums.free.count

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        return (self._sums.entries(xp, self._reflected(xp, self._sums.free.put(xp, v))),)

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        return self._sums.free.pick(xp, self._reflected(xp, self._sums.grouped(xp, gradients[0])))

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        return self.adjoint(xp, entries)

    def _reflected(self, xp: Operations, x: Array) -> Array:
        for k in self._sums.summed:
            n = self._sums.shape[k]
            c, scale = 1.0 / (1.0 + sqrt(n)), 1.0 + 1.0 / sqrt(n)
            cells = around_axis(x, self._sums.shape, k)
            first, following = cells[:, :1], cells[:, 1:]
            part = (first + c * xp.sum(following, 1)) * scale
            x = xp.concat([first - part, following - c * part], 1)
        return x


class EliminatedSums:
    """Each free number is an entry: those that are last in no set of loops; all other entries follow from them.

    K replaces the last entry of a group by the sum along it. With M the free places and P the others, `K_MP` is zero
    while `K_PM` is not (an entry of M is last along no complete set, nor are those that its row of K adds), so that
    `x_M = v` has the coordinates `K_MM v`, and `x_P = (K⁻¹ [K_MM v; 0])_P`.
    """

    def __init__(self, block: Commuting) -> None:
        self._sums = _Sums(block, -1)
        self.places, self.free = (self._sums.place,), self._sums.free.count

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        free, prescribed = self._sums.free, self._prescribed(xp, v)
        x = free.put(xp, v).reshape(-1)
        y = free.put(xp, free.pick(xp, self._added(xp, x, 1.0)))
        return (self._sums.entries(xp, x + prescribed * self._added(xp, y, -1.0).reshape(-1)),)

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        g, free = self._sums.grouped(xp, gradients[0]), self._sums.free
        y = free.put(xp, free.pick(xp, self._spread(xp, g * self._prescribed(xp, g), -1.0)))
        return free.pick(xp, g) + free.pick(xp, self._spread(xp, y, 1.0))

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        return self._sums.free.pick(xp, self._sums.grouped(xp, entries[0]))

    def _prescribed(self, xp: Operations, like: Array) -> Array:
        return xp.numbers(self._sums.prescribed, like).reshape(-1)

    def _added(self, xp: Operations, x: Array, sign: float) -> Array:
        """K (sign 1) or its inverse (−1): `sign` times the sum of the preceding entries is added to the last entry."""
        for k in self._sums.summed:
            cells = around_axis(x, self._sums.shape, k)
            preceding, last = cells[:, :-1], cells[:, -1:]
            x = xp.concat([preceding, last + sign * xp.sum(preceding, 1)], 1)
        return x

    def _spread(self, xp: Operations, g: Array, sign: float) -> Array:
        """The transpose of `_added`."""
        for k in self._sums.summed:
            cells = around_axis(g, self._sums.shape, k)
            preceding, last = cells[:, :-1], cells[:, -1:]
            g = xp.concat([preceding + sign * last, last], 1)
        return g


def _groups(block: Commuting) -> tuple[Group, ...]:
    """Loops grouped by the sets that they belong to, in the order of the first loop of each group."""
    groups: dict[tuple[bool, ...], list[int]] = {}
    for axis in range(len(block.view.dims)):
        groups.setdefault(tuple(axis in summed_axes for summed_axes in block.inner_dims), []).append(axis)
    return tuple(tuple(group) for group in groups.values())


def _exact(block: Commuting, sizes: tuple[int, ...]) -> tuple[Constant, Constant] | None:
    """The source and the sign of each entry of the box; None for slices without pinned or copied entries."""
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
