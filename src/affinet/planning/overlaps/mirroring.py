"""Combine a mirror with sums that are invariant under it, such as a symmetric matrix whose rows sum to one."""

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
from affinet.planning.overlaps.merging import arrange, common_loops, inner_places, loops_of, product, stack
from affinet.system.limits import Limits
from affinet.system.tolerance import Tolerance

Numbers = TypeVar("Numbers", Floats, Integers)


def mirrored_product(mirror: Mirror, batches: list[RowBatch], tolerance: Tolerance, limits: Limits) -> Commuting | None:
    """The product of the batches, their mirror images and the mirror; None unless they have this form.

    Law: on `x == sign · mirrored(x)` a batch and its image are equivalent, so that images may be added. The mirror maps
    the set of points that satisfy all batches to itself. Hence both projections commute, and their product is the
    projection onto the intersection. Raises Contradiction if the sums and their images disagree.
    """
    loops = tuple(sorted(mirror.view.dims, key=lambda dim: -dim[1]))
    if np.any(mirror.shift) or any(not _fills_box(batch, mirror, loops) for batch in batches):
        return None
    arranged_mirror = _reorder(mirror, loops)
    closed: list[RowBatch] | None = []
    for batch in batches:
        ordered = arrange(batch, loops, inner_places(batch, loops) or ())
        for addition in (ordered, _mirror_batch(ordered, arranged_mirror)):
            closed = None if closed is None else _add_batch(closed, addition, limits.most_stacked)
    if closed is None:
        return None
    try:
        combined = product(closed, tolerance, limits, (loops,))
    except Contradiction as contradiction:
        raise Contradiction({*contradiction.rules, *mirror.rules}) from None
    if combined is None or combined.view != arranged_mirror.view or not combined.separate:
        return None
    if any(len(part.pinned) or len(part.copies) for part in combined.slices):
        return None
    return replace(combined, mirror=arranged_mirror, rank=combined.size - _count_free(arranged_mirror, combined))


def _fills_box(batch: RowBatch, mirror: Mirror, loops: tuple[Dim, ...]) -> bool:
    """Whether the cells of a batch fill the box of the mirror, by complete loops of it."""
    box = loops_of(batch)
    if box is None or (batch.parameter, batch.offset) != (mirror.view.parameter, mirror.view.offset):
        return False
    return common_loops([box, loops]) == loops and inner_places(batch, loops) is not None


def _reorder(mirror: Mirror, loops: tuple[Dim, ...]) -> Mirror:
    """The same mirror with its loops in the given order."""
    old_axes = [mirror.view.dims.index(dim) for dim in loops]
    number = {axis: k for k, axis in enumerate(old_axes)}
    view = View(mirror.view.parameter, mirror.view.offset, loops)
    permutation = tuple(number[mirror.permutation[axis]] for axis in old_axes)
    return replace(mirror, view=view, permutation=permutation, flips=tuple(sorted(number[k] for k in mirror.flips)))


def _mirror_batch(batch: RowBatch, mirror: Mirror) -> RowBatch:
    """The batch, arranged by the loops of the mirror, with `sign · mirrored(x)` substituted for x."""
    loops = mirror.view.dims
    inner = inner_places(batch, loops) or ()
    outer = tuple(axis for axis in range(len(loops)) if axis not in inner)
    matrix = _mirror_values(batch.matrix.T, mirror, inner).T if any(batch.matrix.strides) else batch.matrix
    rhs = batch.rhs if len(batch.rhs) == 1 else _mirror_values(batch.rhs, mirror, outer)
    owner = batch.owner if len(batch.owner) == 1 else _mirror_values(batch.owner, mirror, outer)
    image_inner, image_outer = (
        Nest(tuple(loops[axis] for axis in _image_axes(axes, mirror))) for axes in (inner, outer)
    )
    return replace(batch, outer=image_outer, inner=image_inner, matrix=matrix, rhs=mirror.sign * rhs, owner=owner)


def _image_axes(axes: tuple[int, ...], mirror: Mirror) -> tuple[int, ...]:
    return tuple(sorted(mirror.permutation[axis] for axis in axes))


def _mirror_values(values: Numbers, mirror: Mirror, axes: tuple[int, ...]) -> Numbers:
    """Move numbers along some loops of the box, one row per place, to the places of their mirror images."""
    sizes: list[int] = [mirror.view.dims[axis][0] for axis in axes]
    flips = tuple(k for k, axis in enumerate(axes) if axis in mirror.flips)
    order: list[int] = np.argsort([mirror.permutation[axis] for axis in axes]).tolist()
    turned = np.flip(values.reshape([*sizes, -1]), flips).transpose([*order, len(axes)])
    return cast(Numbers, turned.reshape(values.shape))


def _add_batch(closed: list[RowBatch], addition: RowBatch, most_stacked: int) -> list[RowBatch] | None:
    """The list with one more batch: stacked onto a batch over the same loops, unless it equals that batch."""
    for k, other in enumerate(closed):
        if other.outer == addition.outer:
            is_equal = all(
                np.array_equal(*arrays) for arrays in ((other.matrix, addition.matrix), (other.rhs, addition.rhs))
            )
            stacked = other if is_equal else stack(other, addition, most_stacked)
            return None if stacked is None else [*closed[:k], stacked, *closed[k + 1 :]]
    return [*closed, addition]


def _count_free(mirror: Mirror, commuting: Commuting) -> int:
    """Degrees of freedom: the trace of the product of both projectors, `(tr N + sign · tr(T N)) / 2`.

    N is a tensor product over groups of loops, which the mirror T permutes. A group that T maps to itself contributes
    the trace of T N on it; two groups that T swaps contribute the dimension of one of them.
    """
    trace, mirrored_trace = 1, 1
    groups = [
        *commuting.inner_dims,
        *((k,) for k in range(len(mirror.view.dims)) if k not in sum(commuting.inner_dims, ())),
    ]
    bases = [part.basis for part in commuting.slices]
    counted: set[tuple[int, ...]] = set()
    for k, group in enumerate(groups):
        sizes = [mirror.view.dims[axis][0] for axis in group]
        dimension = prod(sizes) - (len(bases[k]) if k < len(bases) else 0)
        trace *= dimension
        if group in counted:
            continue
        image = _image_axes(group, mirror)
        counted |= {group, image}
        mirrored_trace *= (
            dimension if image != group else _find_invariant_trace(mirror, group, bases[k] if k < len(bases) else None)
        )
    return (trace + round(mirror.sign) * mirrored_trace) // 2


def _find_invariant_trace(mirror: Mirror, group: tuple[int, ...], basis: np.ndarray | None) -> int:
    """`tr(T (I − QᵀQ))` of a group of loops that the mirror maps to itself."""
    size = prod(mirror.view.dims[axis][0] for axis in group)
    places = np.arange(size)
    image = _mirror_values(places[:, None], mirror, group)[:, 0]
    fixed = int((image == places).sum())
    return fixed if basis is None else fixed - round(float((basis * basis[:, image]).sum()))
