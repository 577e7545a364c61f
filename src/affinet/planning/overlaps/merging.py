"""Merge regular rows that share entries: stack them into one matrix, or combine them into a commuting product."""

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
from affinet.planning.factors.slice_factors import factor_slices
from affinet.planning.overlaps.agreeing import reconcile
from affinet.planning.overlaps.commutation import agree, agree_as_written, commute, count_free
from affinet.system.limits import Limits
from affinet.system.tolerance import Tolerance


def stack(first: RowBatch, second: RowBatch, most_stacked: int) -> RowBatch | None:
    """One batch with the equations of both, if their cells run over the same loops; otherwise None.

    None also if its matrix would have more than `most_stacked` numbers.
    """
    if first.parameter != second.parameter or first.outer != second.outer:
        return None
    first_positions, second_positions = first.offset + first.inner.table(), second.offset + second.inner.table()
    inner = np.union1d(first_positions, second_positions)
    r = len(first.matrix) + len(second.matrix)
    if r * len(inner) > most_stacked:
        return None
    matrix = np.zeros((r, len(inner)))
    matrix[: len(first.matrix), np.searchsorted(inner, first_positions)] = first.matrix
    matrix[len(first.matrix) :, np.searchsorted(inner, second_positions)] = second.matrix
    rhs, owner = (_concatenate(x, y) for x, y in ((first.rhs, second.rhs), (first.owner, second.owner)))
    return row_batch(first.parameter, 0, first.outer, inner, matrix, rhs, owner)


def product(
    batches: list[RowBatch], tolerance: Tolerance, limits: Limits, extra_loops: tuple[tuple[Dim, ...], ...] = ()
) -> Commuting | None:
    """The product of batches along loops of one full box; None unless they have this form and commute.

    `extra_loops` are further ways to loop over the box, largest step first; the loops of the box are split to fit them.
    Law: where the tangent projectors commute, the affine projection is their product exactly when the right-hand sides
    agree (`M D == C V` for `M W == C`, `W V == D`). Raises Contradiction where they do not. Sums that follow from
    others are omitted.
    """
    boxes = [loops_of(batch) for batch in batches]
    if any(box is None for box in boxes) or len({(b.parameter, b.offset) for b in batches}) > 1:
        return None
    dims = common_loops([*(box for box in boxes if box is not None), *extra_loops])
    if dims is None:
        return None
    inner = [inner_places(batch, dims) for batch in batches]
    if any(axes is None for axes in inner):
        return None
    inner_axes = tuple(axes for axes in inner if axes is not None)
    ordered = [arrange(batch, dims, axes) for batch, axes in zip(batches, inner_axes, strict=True)]
    slices = tuple(factor_slices(batch, tolerance) for batch in ordered)
    view = View(batches[0].parameter, batches[0].offset, dims)
    sizes = tuple(size for size, _ in dims)
    pairs = [(k, m) for k in range(len(slices)) for m in range(k)]
    if not all(commute(slices[m], inner_axes[m], slices[k], inner_axes[k], sizes, tolerance, limits) for k, m in pairs):
        return None
    for k, m in pairs:
        consistent = agree(slices[m], inner_axes[m], slices[k], inner_axes[k], sizes, tolerance)
        if not consistent and not agree_as_written(
            ordered[m], inner_axes[m], ordered[k], inner_axes[k], sizes, tolerance
        ):
            rules = (rule for part in (slices[k], slices[m]) for rule in part.rules)
            raise Contradiction(rules, _describe_totals(view, slices[m], slices[k]))
    slices = reconcile(slices, ordered, inner_axes, sizes, tolerance)
    slices, inner_axes = _drop_implied(slices, inner_axes)
    return Commuting(view, slices, inner_axes, view.size - count_free(slices, inner_axes, sizes))


def _drop_implied(
    slices: tuple[Slices, ...], inner: tuple[tuple[int, ...], ...]
) -> tuple[tuple[Slices, ...], tuple[tuple[int, ...], ...]]:
    """Drop plain sums that follow from finer ones, which take over their rules."""
    independent: list[tuple[Slices, tuple[int, ...]]] = []
    # Sums of the fewest entries first, so that sums come after those that imply them.
    order = sorted(range(len(slices)), key=lambda k: len(inner[k]))
    for k in order:
        part, axes = slices[k], inner[k]
        implying = [
            j
            for j, (finer, finer_axes) in enumerate(independent)
            if finer.even and part.even and set(finer_axes) <= set(axes)
        ]
        if implying:
            finer, finer_axes = independent[implying[0]]
            rules = tuple(sorted({*finer.rules, *part.rules}))
            independent[implying[0]] = (replace(finer, rules=rules), finer_axes)
        else:
            independent.append((part, axes))
    independent.sort(key=lambda pair: inner.index(pair[1]))
    return tuple(part for part, _ in independent), tuple(axes for _, axes in independent)


def _describe_totals(view: View, a: Slices, b: Slices) -> str:
    """A sentence about the total of a box that two sets of plain sums imply; empty for other equations."""
    if any(any(part.basis.strides) or len(part.target) > 1 for part in (a, b)):
        return ""
    as_listed = sorted((a, b), key=lambda part: part.rules)
    first, second = (float(part.target[0, 0] / part.basis[0, 0]) * (view.size // part.inner.size) for part in as_listed)
    return f"the first makes all entries of {view.parameter.name} add up to {first:.6g}, the second to {second:.6g}."


def _concatenate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    cells = max(len(x), len(y))
    return np.concatenate([np.broadcast_to(part, (cells, part.shape[1])) for part in (x, y)], axis=1)


def loops_of(batch: RowBatch) -> tuple[Dim, ...] | None:
    """All loops of a batch, largest step first, if they fill a contiguous range of steps."""
    if not isinstance(batch.outer, Nest) or not isinstance(batch.inner, Nest):
        return None
    return tuple(sorted((*batch.outer.dims, *batch.inner.dims), key=lambda dim: -dim[1]))


def common_loops(boxes: list[tuple[Dim, ...]]) -> tuple[Dim, ...] | None:
    """The coarsest loops that all boxes can be split into; None if the boxes are different sets of entries."""
    if len({merged(box) for box in boxes}) > 1:
        return None
    steps = sorted({step for box in boxes for _, step in box})
    dims: list[Dim] = []
    for size, step in merged(boxes[0]):
        cuts = [s for s in steps if step <= s < step * size] + [step * size]
        for low, high in pairwise(cuts):
            if high % low:
                return None
            dims.append((high // low, low))
    return tuple(sorted(dims, key=lambda dim: -dim[1]))


def inner_places(batch: RowBatch, dims: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """The common loops that run inside the cells of a batch; None if a loop is partly inside."""
    assert isinstance(batch.inner, Nest)
    assert isinstance(batch.outer, Nest)
    places = []
    for k, (size, step) in enumerate(dims):
        inside = any(
            other_step <= step and step * size <= other_step * other_size for other_size, other_step in batch.inner.dims
        )
        outside = any(
            other_step <= step and step * size <= other_step * other_size for other_size, other_step in batch.outer.dims
        )
        if inside == outside:
            return None
        if inside:
            places.append(k)
    return tuple(places)


def arrange(batch: RowBatch, dims: tuple[Dim, ...], inner: tuple[int, ...]) -> RowBatch:
    """The same batch with its loops in the common order, largest step first; right-hand sides follow."""
    assert isinstance(batch.outer, Nest)
    outer = tuple(dim for k, dim in enumerate(dims) if k not in inner)
    # With the largest step first, positions of a mixed-radix nest ascend, for cells and inside them.
    order = np.argsort(batch.outer.table())
    rhs = batch.rhs if len(batch.rhs) == 1 else batch.rhs[order]
    owner = batch.owner if len(batch.owner) == 1 else batch.owner[order]
    inner_nest = Nest(tuple(dims[k] for k in inner))
    return replace(batch, outer=Nest(outer), inner=inner_nest, rhs=rhs, owner=owner)
