"""Bases of regular boxes: slices, products of slices, and mirrored products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from affinet.blocks.commuting import Commuting
from affinet.blocks.joined import Joined
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Dim, Nest
from affinet.blocks.slices import Slices
from affinet.kernels.bases.basis import Basis, Kind, Place
from affinet.kernels.bases.folding import Folded
from affinet.kernels.bases.operations import Array, Constant, Operations
from affinet.kernels.bases.tied_bases import Spread, paired
from affinet.kernels.bases.transform import Transform, eliminated, indices, orthonormal
from affinet.language.calculus.terms import Integers

Group = tuple[int, ...]
"""Loops of a box that one set of equations sums over."""


class BoxBasis:
    """Transforms along groups of loops of one box, applied in sequence: N is their tensor product.

    `sizes` are the lengths of the loops, in the order of the entries; `groups` cover the loops; in a group without a
    transform all places are free. v is the flattened box of the groups' free numbers, or the numbers that `inside`
    expands to that box: its classes under a mirror, scaled by √weight.
    """

    def __init__(
        self,
        place: Place,
        sizes: tuple[int, ...],
        groups: tuple[Group, ...],
        transforms: dict[int, Transform],
        finish: list[_Finish],
        inside: tuple[Spread, np.ndarray] | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.places = (place,)
        order = tuple(axis for group in groups for axis in group)
        self._order, self._back = order, tuple(np.argsort(order).tolist())
        self._sizes, self._ordered = sizes, tuple(sizes[axis] for axis in order)
        self._shape = tuple(prod(sizes[axis] for axis in group) for group in groups)
        self._transforms, self._finish, self._mirror = transforms, finish, mirror
        inner = [transforms[k].free if k in transforms else n for k, n in enumerate(self._shape)]
        self._inner = tuple(inner)
        self._inside = None if inside is None else (inside[0], Constant(np.sqrt(inside[1])))
        self.free = prod(inner) if inside is None else inside[0].count

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        if self._inside is not None:
            spread, roots = self._inside
            v = spread.expanded(xp, v / xp.numbers(roots, v))
        x, shape = v, list(self._inner)
        for k, transform in self._transforms.items():
            x = transform.linear(xp, around_axis(x, shape, k))
            shape[k] = transform.size
        for finish in self._finish:
            x = finish.finished(xp, around_axis(x, shape, finish.group))
        box = xp.permute(x.reshape(self._ordered), self._back)
        if self._mirror is not None:
            # Both agree up to rounding: their mean makes them equal to the bit.
            image = xp.flip(xp.permute(box, self._mirror.permutation), self._mirror.flips)
            box = xp.hold(xp.add(box, image, self._mirror.sign) * 0.5)
        return (box.reshape(-1),)

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        x = self._to_inside(xp, gradients[0], picking=False)
        if self._inside is None:
            return x
        spread, roots = self._inside
        z = spread.summed(xp, x)
        return z / xp.numbers(roots, z)

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        x = self._to_inside(xp, entries[0], picking=True)
        if self._inside is None:
            return x
        spread, roots = self._inside
        return spread.picked(xp, x) * xp.numbers(roots, x)

    def _to_inside(self, xp: Operations, flat: Array, *, picking: bool) -> Array:
        x, shape = xp.permute(flat.reshape(self._sizes), self._order), list(self._shape)
        for k, transform in self._transforms.items():
            cells = around_axis(x, shape, k)
            x = transform.picked(xp, cells) if picking else transform.adjoint(xp, cells)
            shape[k] = transform.free
        return x.reshape(-1)


class _Finish:
    """Sets the pinned and copied places of slices exactly.

    The basis implies them up to rounding, so that the adjoint needs no such step.
    """

    def __init__(self, block: Slices, group: int) -> None:
        self.group = group
        source = np.arange(block.inner.size)
        signs = np.ones(block.inner.size)
        if len(block.copies):
            source[block.copies[:, 0]] = block.copies[:, 1]
            signs[block.copies[:, 0]] = block.copies[:, 2]
        signs[block.pinned] = 0.0
        self._source, self._signs = indices(source), Constant(signs)

    @staticmethod
    def needed(block: Slices) -> bool:
        """Whether there are pinned or copied places."""
        return bool(len(block.pinned) or len(block.copies))

    def finished(self, xp: Operations, x: Array) -> Array:
        """The numbers of x, with these places of the middle axis set."""
        return xp.take(xp.hold(x), self._source, 1) * xp.numbers(self._signs, x)[None, :, None]


class JoinedBasis:
    """The basis of a matrix whose columns belong to several members."""

    def __init__(self, block: Joined, matrix: Basis) -> None:
        self._matrix, self.free = matrix, matrix.free
        self.places = tuple(
            Place.of(view.parameter.name, view.offset + Nest(view.dims).table(), view.parameter.size)
            for view in block.members
        )
        self._cells = block.cells
        self._widths = [view.size // block.cells for view in block.members]

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        (flat,) = self._matrix.linear(xp, v)
        return tuple(part.reshape(-1) for part in xp.split(flat.reshape(self._cells, -1), self._widths, 1))

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        return self._matrix.adjoint(xp, (self._side_by_side(xp, gradients),))

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        return self._matrix.picked(xp, (self._side_by_side(xp, entries),))

    def _side_by_side(self, xp: Operations, parts: Sequence[Array]) -> Array:
        return xp.concat([part.reshape(self._cells, -1) for part in parts], 1).reshape(-1)


def slices(block: Slices, kind: Kind) -> Basis:
    """The basis of slices: the same complement in every cell."""
    loops = _loops(block)
    transform = _complement(block, kind)
    if loops is None:
        sizes: tuple[int, ...] = (block.outer.size, block.inner.size)
        groups: tuple[Group, ...] = ((0,), (1,))
        positions: Integers = (block.outer.table()[:, None] + block.inner.table()).ravel()
        inner = 1
    else:
        sizes, groups, inner, dims = loops
        positions = Nest(dims).table()
    place = Place.of(block.parameter.name, block.offset + positions, block.parameter.size)
    finish = [_Finish(block, inner)] if _Finish.needed(block) else []
    return BoxBasis(place, sizes, groups, {inner: transform}, finish)


def product(block: Commuting, kind: Kind) -> Basis:
    """The basis of a product: one complement along each group of loops."""
    sizes, groups = _product_groups(block)
    transforms = {k: _complement(part, kind) for k, part in enumerate(block.slices)}
    finish = [_Finish(part, k) for k, part in enumerate(block.slices) if _Finish.needed(part)]
    return BoxBasis(box_place(block), sizes, groups, transforms, finish)


def mirrored_product(block: Commuting, reflection: Mirror) -> Basis:
    """The orthonormal basis of a mirrored product: the mirror acts on v by swapping axes and signs.

    Two groups that the mirror swaps have the same complement, mapped by the mirror; a group that it maps to itself has
    a complement of even and odd columns.
    """
    sizes, groups = _product_groups(block)
    shape = [prod(sizes[axis] for axis in group) for group in groups]
    transforms: dict[int, Transform] = {}
    parity = [np.ones(n) for n in shape]
    swaps = list(range(len(groups)))
    for k, group in enumerate(groups):
        basis = block.slices[k].basis if k < len(block.slices) else np.zeros((0, shape[k]))
        places, other = _group_image(reflection, group, groups)
        swaps[k] = other
        if other < k:
            continue
        turned = bool((places != np.arange(shape[k])).any())
        if other == k and turned:
            folded = Folded(basis, places)
            transforms[k], parity[k] = folded, folded.parity
        elif len(basis):
            transforms[k] = orthonormal(basis)
        if other > k and (turned or len(basis)):
            transforms[other] = _Carried(transforms[k], places) if len(basis) else _Moved(places)
    inner = [transforms[k].free if k in transforms else n for k, n in enumerate(shape)]
    image = np.arange(prod(inner)).reshape(inner).transpose(swaps).ravel()
    signs = np.full(prod(inner), reflection.sign)
    for k, of in enumerate(parity):
        if swaps[k] == k:
            across = [1] * len(inner)
            across[k] = inner[k]
            signs = (signs.reshape(inner) * of[: inner[k]].reshape(across)).reshape(-1)
    inside = paired(image, signs)
    return BoxBasis(box_place(block), sizes, groups, transforms, [], inside, reflection)


class _Moved:
    """Permutes the places of an axis: x at `places[i]` is the i-th free number."""

    def __init__(self, places: Integers) -> None:
        self.size = self.free = len(places)
        self._places, self._from = indices(places), indices(np.argsort(places))

    def linear(self, xp: Operations, x: Array) -> Array:
        return xp.take(x, self._from, 1)

    def adjoint(self, xp: Operations, g: Array) -> Array:
        return xp.take(g, self._places, 1)

    def picked(self, xp: Operations, x: Array) -> Array:
        return self.adjoint(xp, x)


class _Carried:
    """The transform of another axis, with its places permuted by the mirror that swaps the two axes."""

    def __init__(self, transform: Transform, places: Integers) -> None:
        self.size, self.free = transform.size, transform.free
        self._transform, self._moved = transform, _Moved(places)

    def linear(self, xp: Operations, x: Array) -> Array:
        return self._moved.linear(xp, self._transform.linear(xp, x))

    def adjoint(self, xp: Operations, g: Array) -> Array:
        return self._transform.adjoint(xp, self._moved.adjoint(xp, g))

    def picked(self, xp: Operations, x: Array) -> Array:
        return self.adjoint(xp, x)


def _complement(block: Slices, kind: Kind) -> Transform:
    if kind == "orthonormal":
        return orthonormal(block.basis)
    copied: Integers = block.copies[:, 0].astype(np.int64) if len(block.copies) else np.zeros(0, np.int64)
    return eliminated(block.basis, np.concatenate([copied, block.pinned.astype(np.int64)]))


def _loops(block: Slices) -> tuple[tuple[int, ...], tuple[Group, ...], int, tuple[Dim, ...]] | None:
    """Sizes in the order of memory, groups, the number of the group inside cells, and the loops; None for tables.

    Where the loops inside a cell are neighbours in memory, groups are in the order of memory, and no entries are moved.
    """
    if not isinstance(block.outer, Nest) or not isinstance(block.inner, Nest):
        return None
    dims = [*block.outer.dims, *(block.inner.dims or ((1, 1),))]
    order = sorted(range(len(dims)), key=lambda k: -abs(dims[k][1]))
    place = {k: axis for axis, k in enumerate(order)}
    inner = tuple(place[k] for k in range(len(block.outer.dims), len(dims)))
    groups = sorted([*((place[k],) for k in range(len(block.outer.dims))), inner])
    return tuple(dims[k][0] for k in order), tuple(groups), groups.index(inner), tuple(dims[k] for k in order)


def _product_groups(block: Commuting) -> tuple[tuple[int, ...], tuple[Group, ...]]:
    """Sizes of the loops, and groups: those of the slices first, in their order, then the loops of no slices."""
    sizes = tuple(size for size, _ in block.view.dims)
    summed = {axis for group in block.inner_dims for axis in group}
    return sizes, (*block.inner_dims, *((axis,) for axis in range(len(sizes)) if axis not in summed))


def box_place(block: Commuting) -> Place:
    """The place of the entries of a product."""
    positions = block.view.offset + Nest(block.view.dims).table()
    return Place.of(block.view.parameter.name, positions, block.view.parameter.size)


def _group_image(mirror: Mirror, group: Group, groups: tuple[Group, ...]) -> tuple[Integers, int]:
    """The mirror images of the places of a group, as places of its image group, and the number of that group."""
    images = tuple(mirror.permutation[axis] for axis in group)
    other = next(k for k, candidate in enumerate(groups) if set(candidate) == set(images))
    sizes = {axis: mirror.view.dims[axis][0] for axis in (*group, *images)}
    index = np.unravel_index(np.arange(prod(sizes[axis] for axis in group)), [sizes[axis] for axis in group])
    moved = {
        image: sizes[axis] - 1 - at if axis in mirror.flips else at
        for axis, image, at in zip(group, images, index, strict=True)
    }
    target = groups[other]
    places = np.ravel_multi_index([moved[axis] for axis in target], [sizes[axis] for axis in target])
    return places.astype(np.int64), other


def around_axis(x: Array, shape: list[int], k: int) -> Array:
    """`x` of a shape, reshaped to (before, ·, after) around its k-th axis."""
    return x.reshape(prod(shape[:k]), shape[k], prod(shape[k + 1 :]))
