"""Bases of regular boxes: slices, products of slices, and these under a mirror."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.commuting import Commuting
from affinet.blocks.joined import Joined
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Dim, Nest
from affinet.blocks.slices import Slices
from affinet.kernels.torch.bases.basis import Basis, Constant, Kind, Place
from affinet.kernels.torch.bases.folding import Folded
from affinet.kernels.torch.bases.tied import Spread, paired
from affinet.kernels.torch.bases.transform import Transform, eliminated, indices, orthonormal
from affinet.language.calculus.terms import Integers

Group = tuple[int, ...]
"""Loops of a box that one set of equations sums over together."""


class BoxBasis:
    """Transforms along groups of loops of one box, one after the other: N is their tensor product.

    `sizes` are those of the loops, in the order in which entries lie; `groups` cover them; a group without a transform
    is free as it is. v is the box of the groups' free numbers, flattened, or what `inside` makes of fewer numbers:
    classes of it that a mirror ties, by √weight.
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

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        if self._inside is not None:
            spread, roots = self._inside
            v = spread.given(v / roots.like(v))
        x, shape = v, list(self._inner)
        for k, transform in self._transforms.items():
            x = transform.linear(along(x, shape, k))
            shape[k] = transform.size
        for finish in self._finish:
            x = finish.finished(along(x, shape, finish.group))
        box = x.reshape(self._ordered).permute(self._back)
        if self._mirror is not None:
            # They agree but for rounding: the mean of both is the same number twice.
            image = box.permute(self._mirror.permutation).flip(self._mirror.flips)
            box = torch.add(box, image, alpha=self._mirror.sign) * 0.5
        return (box.reshape(-1),)

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        x = self._to_inside(gradients[0], picking=False)
        if self._inside is None:
            return x
        spread, roots = self._inside
        z = spread.summed(x)
        return z / roots.like(z)

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        x = self._to_inside(entries[0], picking=True)
        if self._inside is None:
            return x
        spread, roots = self._inside
        return spread.picked(x) * roots.like(x)

    def _to_inside(self, flat: Tensor, *, picking: bool) -> Tensor:
        x, shape = flat.view(self._sizes).permute(self._order), list(self._shape)
        for k, transform in self._transforms.items():
            cells = along(x, shape, k)
            x = transform.picked(cells) if picking else transform.adjoint(cells)
            shape[k] = transform.free
        return x.reshape(-1)


class _Finish:
    """What slices say exactly: places of given value, and places that equal another up to their sign.

    The basis implies it but for rounding, so the adjoint does without.
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
        """Whether there is anything of the kind."""
        return bool(len(block.pinned) or len(block.copies))

    def finished(self, x: Tensor) -> Tensor:
        """The middle axis with these places set."""
        return x.index_select(1, self._source.index(x)) * self._signs.like(x)[None, :, None]


class JoinedBasis:
    """The basis of a matrix, of which each member has some columns."""

    def __init__(self, block: Joined, matrix: Basis) -> None:
        self._matrix, self.free = matrix, matrix.free
        self.places = tuple(
            Place.of(view.parameter.name, view.offset + Nest(view.dims).table(), view.parameter.size)
            for view in block.members
        )
        self._cells = block.cells
        self._widths = [view.size // block.cells for view in block.members]

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        (flat,) = self._matrix.linear(v)
        return tuple(part.reshape(-1) for part in flat.view(self._cells, -1).split(self._widths, dim=1))

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        return self._matrix.adjoint((self._side_by_side(gradients),))

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        return self._matrix.picked((self._side_by_side(entries),))

    def _side_by_side(self, parts: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([part.view(self._cells, -1) for part in parts], dim=1).view(-1)


def slices(block: Slices, kind: Kind) -> Basis:
    """The same complement in every cell."""
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
    """One complement along each group of loops."""
    sizes, groups = _product_groups(block)
    transforms = {k: _complement(part, kind) for k, part in enumerate(block.slices)}
    finish = [_Finish(part, k) for k, part in enumerate(block.slices) if _Finish.needed(part)]
    return BoxBasis(box_place(block), sizes, groups, transforms, finish)


def mirrored_product(block: Commuting, reflection: Mirror) -> Basis:
    """A product whose complements fit the mirror, so that it acts on v by swapping axes and signs: orthonormal.

    Two groups that the mirror swaps have the same complement, carried over by the mirror; one that it takes to itself
    has one of even and odd columns.
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
    """Places of an axis in another order: x at `places[i]` is the i-th free number."""

    def __init__(self, places: Integers) -> None:
        self.size = self.free = len(places)
        self._places, self._from = indices(places), indices(np.argsort(places))

    def linear(self, x: Tensor) -> Tensor:
        return x.index_select(1, self._from.index(x))

    def adjoint(self, g: Tensor) -> Tensor:
        return g.index_select(1, self._places.index(g))

    def picked(self, x: Tensor) -> Tensor:
        return self.adjoint(x)


class _Carried:
    """The transform of another axis, its places moved by the mirror that swaps the two."""

    def __init__(self, transform: Transform, places: Integers) -> None:
        self.size, self.free = transform.size, transform.free
        self._transform, self._moved = transform, _Moved(places)

    def linear(self, x: Tensor) -> Tensor:
        return self._moved.linear(self._transform.linear(x))

    def adjoint(self, g: Tensor) -> Tensor:
        return self._transform.adjoint(self._moved.adjoint(g))

    def picked(self, x: Tensor) -> Tensor:
        return self.adjoint(x)


def _complement(block: Slices, kind: Kind) -> Transform:
    if kind == "orthonormal":
        return orthonormal(block.basis)
    copied: Integers = block.copies[:, 0].astype(np.int64) if len(block.copies) else np.zeros(0, np.int64)
    return eliminated(block.basis, np.concatenate([copied, block.pinned.astype(np.int64)]))


def _loops(block: Slices) -> tuple[tuple[int, ...], tuple[Group, ...], int, tuple[Dim, ...]] | None:
    """Sizes in the order of memory, groups, which of them is summed over, and the loops; None for tables.

    Where the loops inside a cell are neighbours in memory, groups are in the order of memory, so that nothing is moved.
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
    """Sizes of the loops, and groups: those of the slices first, in their order, then the loops of none."""
    sizes = tuple(size for size, _ in block.view.dims)
    summed = {axis for group in block.inner_dims for axis in group}
    return sizes, (*block.inner_dims, *((axis,) for axis in range(len(sizes)) if axis not in summed))


def box_place(block: Commuting) -> Place:
    """Where the entries of a product lie."""
    positions = block.view.offset + Nest(block.view.dims).table()
    return Place.of(block.view.parameter.name, positions, block.view.parameter.size)


def _group_image(mirror: Mirror, group: Group, groups: tuple[Group, ...]) -> tuple[Integers, int]:
    """Where the mirror takes the places of a group, numbered in the group that it takes it to, and which that is."""
    images = tuple(mirror.permutation[axis] for axis in group)
    other = next(k for k, one in enumerate(groups) if set(one) == set(images))
    sizes = {axis: mirror.view.dims[axis][0] for axis in (*group, *images)}
    index = np.unravel_index(np.arange(prod(sizes[axis] for axis in group)), [sizes[axis] for axis in group])
    moved = {
        image: sizes[axis] - 1 - at if axis in mirror.flips else at
        for axis, image, at in zip(group, images, index, strict=True)
    }
    target = groups[other]
    places = np.ravel_multi_index([moved[axis] for axis in target], [sizes[axis] for axis in target])
    return places.astype(np.int64), other


def along(x: Tensor, shape: list[int], k: int) -> Tensor:
    """`x` of a shape as (before, ·, after) about its k-th axis."""
    return x.reshape(prod(shape[:k]), shape[k], prod(shape[k + 1 :]))
