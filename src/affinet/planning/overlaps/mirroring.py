"""Sums that a mirror takes to themselves: symmetric, and rows that sum to one, of the same matrix."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TypeVar, cast

import numpy as np

from affinet.blocks.commuting import Commuting
from affinet.blocks.entry_sets import View
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Dim, Nest
from affinet.blocks.regular import RowBatch
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.contradiction import Contradiction
from affinet.planning.overlaps.merging import arranged, common_loops, inner_places, loops_of, product, stacked
from affinet.system.limits import Limits
from affinet.system.tolerance import Tolerance

Numbers = TypeVar("Numbers", Floats, Integers)


def mirrored_product(mirror: Mirror, batches: list[RowBatch], tolerance: Tolerance, limits: Limits) -> Commuting | None:
    """The batches with their mirror images as a product, and the mirror; None unless that is what they are.

    Law: on `x == sign · mirrored(x)` a batch and its image say the same, so both may be added. The set of points that
    satisfy them all is then taken to itself by the mirror, hence both projections commute and their product is the
    projection onto what they share. Raises Contradiction where the sums and their images disagree.
    """
    loops = tuple(sorted(mirror.view.dims, key=lambda dim: -dim[1]))
    if np.any(mirror.shift) or any(not _runs_over(batch, mirror, loops) for batch in batches):
        return None
    turned = _reordered(mirror, loops)
    closed: list[RowBatch] | None = []
    for batch in batches:
        ordered = arranged(batch, loops, inner_places(batch, loops) or ())
        for one in (ordered, _image(ordered, turned)):
            closed = None if closed is None else _added(closed, one, limits.most_stacked)
    if closed is None:
        return None
    try:
        found = product(closed, tolerance, limits, (loops,))
    except Contradiction as wrong:
        raise Contradiction({*wrong.rules, *mirror.rules}) from None
    if found is None or found.view != turned.view or not found.separate:
        return None
    if any(len(part.pinned) or len(part.copies) for part in found.slices):
        return None
    return replace(found, mirror=turned, rank=found.size - _free(turned, found))


def _runs_over(batch: RowBatch, mirror: Mirror, loops: tuple[Dim, ...]) -> bool:
    """Whether the cells of a batch fill the box of the mirror, and its loops are whole loops of that."""
    box = loops_of(batch)
    if box is None or (batch.parameter, batch.offset) != (mirror.view.parameter, mirror.view.offset):
        return False
    return common_loops([box, loops]) == loops and inner_places(batch, loops) is not None


def _reordered(mirror: Mirror, loops: tuple[Dim, ...]) -> Mirror:
    """The same mirror with its loops in the given order."""
    old = [mirror.view.dims.index(dim) for dim in loops]
    number = {axis: k for k, axis in enumerate(old)}
    view = View(mirror.view.parameter, mirror.view.offset, loops)
    permutation = tuple(number[mirror.permutation[axis]] for axis in old)
    return replace(mirror, view=view, permutation=permutation, flips=tuple(sorted(number[k] for k in mirror.flips)))


def _image(batch: RowBatch, mirror: Mirror) -> RowBatch:
    """What a batch, arranged by the mirror's loops, says once `sign · mirrored(x)` is written for x."""
    loops = mirror.view.dims
    inner = inner_places(batch, loops) or ()
    outer = tuple(axis for axis in range(len(loops)) if axis not in inner)
    matrix = _turned(batch.matrix.T, mirror, inner).T if any(batch.matrix.strides) else batch.matrix
    rhs = batch.rhs if len(batch.rhs) == 1 else _turned(batch.rhs, mirror, outer)
    owner = batch.owner if len(batch.owner) == 1 else _turned(batch.owner, mirror, outer)
    inside, outside = (Nest(tuple(loops[axis] for axis in _image_of(axes, mirror))) for axes in (inner, outer))
    return replace(batch, outer=outside, inner=inside, matrix=matrix, rhs=mirror.sign * rhs, owner=owner)


def _image_of(axes: tuple[int, ...], mirror: Mirror) -> tuple[int, ...]:
    return tuple(sorted(mirror.permutation[axis] for axis in axes))


def _turned(values: Numbers, mirror: Mirror, axes: tuple[int, ...]) -> Numbers:
    """Numbers along some loops of the box, one row a place, at the places of their mirror images."""
    sizes: list[int] = [mirror.view.dims[axis][0] for axis in axes]
    flips = tuple(k for k, axis in enumerate(axes) if axis in mirror.flips)
    order: list[int] = np.argsort([mirror.permutation[axis] for axis in axes]).tolist()
    turned = np.flip(values.reshape([*sizes, -1]), flips).transpose([*order, len(axes)])
    return cast(Numbers, turned.reshape(values.shape))


def _added(closed: list[RowBatch], one: RowBatch, most_stacked: int) -> list[RowBatch] | None:
    """The list with one more batch: stacked on one that runs over the same loops, left out where that says the same."""
    for k, other in enumerate(closed):
        if other.outer == one.outer:
            same = all(np.array_equal(*two) for two in ((other.matrix, one.matrix), (other.rhs, one.rhs)))
            both = other if same else stacked(other, one, most_stacked)
            return None if both is None else [*closed[:k], both, *closed[k + 1 :]]
    return [*closed, one]


def _free(mirror: Mirror, found: Commuting) -> int:
    """Degrees of freedom: the trace of the product of both projectors, `(tr N + sign · tr(T N)) / 2`.

    N is a tensor product over groups of loops, which the mirror T permutes. A group that T takes to itself adds the
    trace of T N of its own; two that it swaps have one space in common, and add the size of that.
    """
    whole, turned = 1, 1
    groups = [*found.inner_dims, *((k,) for k in range(len(mirror.view.dims)) if k not in sum(found.inner_dims, ()))]
    bases = [part.basis for part in found.slices]
    seen: set[tuple[int, ...]] = set()
    for k, group in enumerate(groups):
        sizes = [mirror.view.dims[axis][0] for axis in group]
        left = prod(sizes) - (len(bases[k]) if k < len(bases) else 0)
        whole *= left
        if group in seen:
            continue
        image = _image_of(group, mirror)
        seen |= {group, image}
        turned *= left if image != group else _own_trace(mirror, group, bases[k] if k < len(bases) else None)
    return (whole + round(mirror.sign) * turned) // 2


def _own_trace(mirror: Mirror, group: tuple[int, ...], basis: np.ndarray | None) -> int:
    """`tr(T (I − QᵀQ))` of a group of loops that the mirror takes to itself."""
    size = prod(mirror.view.dims[axis][0] for axis in group)
    places = np.arange(size)
    image = _turned(places[:, None], mirror, group)[:, 0]
    fixed = int((image == places).sum())
    return fixed if basis is None else fixed - round(float((basis * basis[:, image]).sum()))
