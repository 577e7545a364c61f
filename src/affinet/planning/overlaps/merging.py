"""Regular rows that meet on the same entries: stacked into one matrix, or kept apart as a commuting product."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from affinet.blocks.commuting import Commuting
from affinet.blocks.entry_sets import View
from affinet.blocks.offsets import Dim, Nest, merged
from affinet.blocks.regular import RowBatch, row_batch
from affinet.blocks.slices import Slices
from affinet.planning.contradiction import Contradiction
from affinet.planning.factors.slices import factor_slices
from affinet.planning.overlaps.agreeing import reconcile
from affinet.planning.overlaps.commuting import agree, agree_as_said, commute, free_together
from affinet.system.limits import Limits
from affinet.system.tolerance import Tolerance


def stacked(first: RowBatch, second: RowBatch, most_stacked: int) -> RowBatch | None:
    """One batch that says both, where their cells run over the same loops; None where they do not.

    None, too, for a matrix of more than `most_stacked` numbers.
    """
    if first.parameter != second.parameter or first.outer != second.outer:
        return None
    a, b = first.offset + first.inner.table(), second.offset + second.inner.table()
    inner = np.union1d(a, b)
    r = len(first.matrix) + len(second.matrix)
    if r * len(inner) > most_stacked:
        return None
    matrix = np.zeros((r, len(inner)))
    matrix[: len(first.matrix), np.searchsorted(inner, a)] = first.matrix
    matrix[len(first.matrix) :, np.searchsorted(inner, b)] = second.matrix
    rhs, owner = (_beside(x, y) for x, y in ((first.rhs, second.rhs), (first.owner, second.owner)))
    return row_batch(first.parameter, 0, first.outer, inner, matrix, rhs, owner)


def product(
    batches: list[RowBatch], tolerance: Tolerance, limits: Limits, also: tuple[tuple[Dim, ...], ...] = ()
) -> Commuting | None:
    """The product of batches along loops of one full box; None unless that is what they are and they commute.

    `also` are other ways to loop over the box, largest step first, that its loops must be split for.
    Law: where the tangent projectors commute, the affine projection is their product exactly when the right-hand sides
    agree (`M D == C V` for `M W == C`, `W V == D`). Raises Contradiction where they do not. Sums that follow from
    others are left out.
    """
    boxes = [loops_of(batch) for batch in batches]
    if any(box is None for box in boxes) or len({(b.parameter, b.offset) for b in batches}) > 1:
        return None
    dims = common_loops([*(box for box in boxes if box is not None), *also])
    if dims is None:
        return None
    inner = [inner_places(batch, dims) for batch in batches]
    if any(part is None for part in inner):
        return None
    found = tuple(part for part in inner if part is not None)
    ordered = [arranged(batch, dims, part) for batch, part in zip(batches, found, strict=True)]
    slices = tuple(factor_slices(batch, tolerance) for batch in ordered)
    view = View(batches[0].parameter, batches[0].offset, dims)
    sizes = tuple(size for size, _ in dims)
    pairs = [(k, m) for k in range(len(slices)) for m in range(k)]
    if not all(commute(slices[m], found[m], slices[k], found[k], sizes, tolerance, limits) for k, m in pairs):
        return None
    for k, m in pairs:
        alike = agree(slices[m], found[m], slices[k], found[k], sizes, tolerance)
        if not alike and not agree_as_said(ordered[m], found[m], ordered[k], found[k], sizes, tolerance):
            rules = (rule for part in (slices[k], slices[m]) for rule in part.rules)
            raise Contradiction(rules, _totals(view, slices[m], slices[k]))
    slices = reconcile(slices, ordered, found, sizes, tolerance)
    slices, found = _without_implied(slices, found)
    return Commuting(view, slices, found, view.size - free_together(slices, found, sizes))


def _without_implied(
    slices: tuple[Slices, ...], inner: tuple[tuple[int, ...], ...]
) -> tuple[tuple[Slices, ...], tuple[tuple[int, ...], ...]]:
    """Less the plain sums that others add up to; their rules go with one of these."""
    kept: list[tuple[Slices, tuple[int, ...]]] = []
    # Sums of the fewest entries first, so that what they imply comes after them.
    order = sorted(range(len(slices)), key=lambda k: len(inner[k]))
    for k in order:
        part, axes = slices[k], inner[k]
        implying = [j for j, (one, own) in enumerate(kept) if one.even and part.even and set(own) <= set(axes)]
        if implying:
            one, own = kept[implying[0]]
            kept[implying[0]] = (replace(one, rules=tuple(sorted({*one.rules, *part.rules}))), own)
        else:
            kept.append((part, axes))
    kept.sort(key=lambda pair: inner.index(pair[1]))
    return tuple(part for part, _ in kept), tuple(axes for _, axes in kept)


def _totals(view: View, a: Slices, b: Slices) -> str:
    """What two sets of sums over one whole box make its total, where both are plain sums."""
    if any(any(part.basis.strides) or len(part.target) > 1 for part in (a, b)):
        return ""
    as_listed = sorted((a, b), key=lambda part: part.rules)
    said = [float(part.target[0, 0] / part.basis[0, 0]) * (view.size // part.inner.size) for part in as_listed]
    return f"the first makes all entries of {view.parameter.name} add up to {said[0]:.6g}, the second to {said[1]:.6g}."


def _beside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    cells = max(len(x), len(y))
    return np.concatenate([np.broadcast_to(part, (cells, part.shape[1])) for part in (x, y)], axis=1)


def loops_of(batch: RowBatch) -> tuple[Dim, ...] | None:
    """All loops of a batch, largest step first, if they fill a contiguous range of steps."""
    if not isinstance(batch.outer, Nest) or not isinstance(batch.inner, Nest):
        return None
    return tuple(sorted((*batch.outer.dims, *batch.inner.dims), key=lambda dim: -dim[1]))


def common_loops(boxes: list[tuple[Dim, ...]]) -> tuple[Dim, ...] | None:
    """The coarsest loops that all boxes can be split into; None where they are different sets of entries."""
    if len({merged(box) for box in boxes}) > 1:
        return None
    steps = sorted({step for box in boxes for _, step in box})
    dims: list[Dim] = []
    for size, step in merged(boxes[0]):
        inside = [s for s in steps if step <= s < step * size] + [step * size]
        for low, high in pairwise(inside):
            if high % low:
                return None
            dims.append((high // low, low))
    return tuple(sorted(dims, key=lambda dim: -dim[1]))


def inner_places(batch: RowBatch, dims: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """Which of the common loops run inside the cells of a batch; None where a loop is partly inside."""
    assert isinstance(batch.inner, Nest)
    assert isinstance(batch.outer, Nest)
    places = []
    for k, (size, step) in enumerate(dims):
        inside = any(s <= step and step * size <= s * n for n, s in batch.inner.dims)
        outside = any(s <= step and step * size <= s * n for n, s in batch.outer.dims)
        if inside == outside:
            return None
        if inside:
            places.append(k)
    return tuple(places)


def arranged(batch: RowBatch, dims: tuple[Dim, ...], inner: tuple[int, ...]) -> RowBatch:
    """The same batch with its loops in the common order, largest step first; right-hand sides follow."""
    assert isinstance(batch.outer, Nest)
    outer = tuple(dim for k, dim in enumerate(dims) if k not in inner)
    # Positions of a mixed-radix nest rise when the largest step comes first, for cells and inside them.
    rising = np.argsort(batch.outer.table())
    rhs = batch.rhs if len(batch.rhs) == 1 else batch.rhs[rising]
    owner = batch.owner if len(batch.owner) == 1 else batch.owner[rising]
    inside = Nest(tuple(dims[k] for k in inner))
    return replace(batch, outer=Nest(outer), inner=inside, rhs=rhs, owner=owner)
