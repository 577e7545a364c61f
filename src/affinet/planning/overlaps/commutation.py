"""Decide whether projections along overlapping sets of loops commute and agree, and count the freedom that remains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import prod

import numpy as np

from affinet.blocks.nearest import project_cells
from affinet.blocks.regular import RowBatch
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats
from affinet.language.forecast import forecast
from affinet.system.limits import Limits
from affinet.system.tolerance import Tolerance

Axes = tuple[int, ...]


def commute(
    a: Slices, a_inner: Axes, b: Slices, b_inner: Axes, sizes: Axes, tolerance: Tolerance, limits: Limits
) -> bool:
    """Whether the tangent projectors of two sets of slices of one box commute; False if the check would be too large.

    Law: along disjoint loops, and for plain sums along any loops, they always commute: means of means are means.
    """
    if not set(a_inner) & set(b_inner) or (a.even and b.even):
        return True
    axes = tuple(sorted({*a_inner, *b_inner}))
    n = prod(sizes[axis] for axis in axes)
    if n > limits.most_joint:
        return False
    projectors = _expand_projector(a, a_inner, axes, sizes) @ _expand_projector(b, b_inner, axes, sizes)
    return float(np.abs(projectors - projectors.T).max()) <= tolerance.rank(n, n)


def count_free(parts: Sequence[Slices], inner: Sequence[Axes], sizes: Axes) -> int:
    """Degrees of freedom of a box with commuting sets of slices: the trace of the product of their projectors.

    Groups of parts without a common loop form a tensor product. For plain sums within a group,
    `tr Π_k (I − Q_k) = Σ_T (−1)^|T| n / n_T`, where n_T counts the places of the loops of all parts in T.
    """
    free, other_axes = 1, set(range(len(sizes)))
    for group in _group_by_loops(inner):
        axes = tuple(sorted({axis for k in group for axis in inner[k]}))
        other_axes -= set(axes)
        n = prod(sizes[axis] for axis in axes)
        if len(group) == 1:
            free *= n - len(parts[group[0]].basis)
        elif all(parts[k].even for k in group):
            free *= sum(
                (-1) ** len(subset) * _count_means(subset, inner, axes, sizes) for subset in _list_subsets(group)
            )
        else:
            projector = np.eye(n)
            for k in group:
                projector = projector - projector @ _expand_projector(parts[k], inner[k], axes, sizes)
            free *= round(float(np.trace(projector)))
    return free * prod(sizes[axis] for axis in other_axes)


def agree(a: Slices, a_inner: Axes, b: Slices, b_inner: Axes, sizes: Axes, tolerance: Tolerance) -> bool:
    """Whether both sets agree on the components of both: `Q_b c_a == Q_a c_b`, with c their points nearest to zero.

    Then the product of their affine projections is the projection onto both. Plain sums need one number per cell. For
    nearly redundant equations rounding may be too large; then `agree_as_written` decides by the original equations.
    """
    first_nearest, second_nearest = _nearest_to_zero(a, a_inner, sizes), _nearest_to_zero(b, b_inner, sizes)
    gap = _project_rows(first_nearest, b, b_inner, sizes) - _project_rows(second_nearest, a, a_inner, sizes)
    # Rounding is relative to the terms of these sums, which may cancel.
    size = max(float(np.abs(first_nearest).max(initial=0.0)), float(np.abs(second_nearest).max(initial=0.0)))
    return float(np.abs(gap).max(initial=0.0)) <= tolerance.consistency(max(sizes)) * size


def agree_as_written(a: RowBatch, a_inner: Axes, b: RowBatch, b_inner: Axes, sizes: Axes, tolerance: Tolerance) -> bool:
    """Whether `A x == α` and `B x == β` hold together along loops that they do not share: `B α == A β`.

    These are combinations of the equations themselves, so that no condition number matters. False if the sets share
    loops, and for two single equations, where `agree` is exact already.
    """
    if set(a_inner) & set(b_inner) or len(a.matrix) == len(b.matrix) == 1:
        return False
    alpha, beta = right_sides(a.rhs, a_inner, sizes), right_sides(b.rhs, b_inner, sizes)
    first_sides, second_sides = (
        apply_along(b.matrix, alpha, b_inner, sizes),
        apply_along(a.matrix, beta, a_inner, sizes).swapaxes(-1, -2),
    )
    terms = apply_along(np.abs(b.matrix), np.abs(alpha), b_inner, sizes)
    terms = terms + apply_along(np.abs(a.matrix), np.abs(beta), a_inner, sizes).swapaxes(-1, -2)
    length = max(a.matrix.shape[1], b.matrix.shape[1])
    return bool((np.abs(first_sides - second_sides) <= tolerance.consistency(length) * terms).all())


def right_sides(rhs: Floats, inner: Axes, sizes: Axes) -> Floats:
    """Right-hand sides as a box with an extra last axis, of length one along loops on which they do not depend."""
    cells = [sizes[axis] if len(rhs) > 1 and axis not in inner else 1 for axis in range(len(sizes))]
    return rhs.reshape(*cells, rhs.shape[1])


def apply_along(matrix: Floats, box: Floats, inner: Axes, sizes: Axes) -> Floats:
    """Apply a matrix along some axes of a box, which then have length one; the last axis is the rows of the matrix."""
    shape = [sizes[axis] if axis in inner else box.shape[axis] for axis in range(len(sizes))]
    forecast("the right-hand sides of equations along several axes", prod(shape) * box.shape[-1])
    outer = [axis for axis in range(box.ndim) if axis not in inner]
    cells = np.broadcast_to(box, (*shape, box.shape[-1])).transpose(*outer, *inner).reshape(-1, matrix.shape[1])
    return (cells @ matrix.T).reshape(*(1 if axis in inner else box.shape[axis] for axis in range(box.ndim)), -1)


def _group_by_loops(inner: Sequence[Axes]) -> list[list[int]]:
    """Groups of parts that have common loops, directly or through other parts."""
    groups: list[tuple[list[int], set[int]]] = []
    for k, axes in enumerate(inner):
        meeting = [group for group in groups if group[1] & set(axes)]
        groups = [group for group in groups if not any(group is other for other in meeting)]
        members = [*(member for group, _ in meeting for member in group), k]
        groups.append((members, set(axes).union(*(axes_of_group for _, axes_of_group in meeting))))
    return [members for members, _ in groups]


def _list_subsets(group: Sequence[int]) -> list[Axes]:
    return [subset for size in range(len(group) + 1) for subset in combinations(group, size)]


def _count_means(parts: Axes, inner: Sequence[Axes], axes: Axes, sizes: Axes) -> int:
    """The number of means over the places of `axes`, when the loops of the parts are averaged over."""
    averaged = {axis for k in parts for axis in inner[k]}
    return prod(sizes[axis] for axis in axes if axis not in averaged)


def _expand_projector(part: Slices, inner: Axes, axes: Axes, sizes: Axes) -> Floats:
    """`QᵀQ` of a part on the places of `axes`, the identity along axes that are not in `inner`."""
    other_axes = tuple(axis for axis in axes if axis not in inner)
    lengths = [sizes[axis] for axis in (*other_axes, *inner)]
    n = prod(lengths)
    separated = np.kron(np.eye(prod(sizes[axis] for axis in other_axes)), part.basis.T @ part.basis)
    restored = np.argsort((*other_axes, *inner)).tolist()
    order = (*restored, *(len(axes) + k for k in restored))
    return np.asarray(separated.reshape(*lengths, *lengths).transpose(order).reshape(n, n))


def _nearest_to_zero(part: Slices, inner: Axes, sizes: Axes) -> Floats:
    """The point nearest to zero, `Qᵀ target`, as a box of length one along loops on which it does not depend."""
    outer = tuple(axis for axis in range(len(sizes)) if axis not in inner)
    cells = [sizes[axis] if len(part.target) > 1 else 1 for axis in outer]
    if part.even:
        numbers, within = part.target * float(part.basis[0, 0]), [1] * len(inner)
    else:
        forecast("the right-hand sides of equations along several axes", len(part.target) * part.inner.size)
        numbers, within = part.target @ part.basis, [sizes[axis] for axis in inner]
    return numbers.reshape(*cells, *within).transpose(np.argsort((*outer, *inner)))


def _project_rows(x: Floats, part: Slices, inner: Axes, sizes: Axes) -> Floats:
    """`QᵀQ x` for a box x, whose axes of length one stand for any length."""
    if part.even:
        return np.asarray(x.mean(axis=inner, keepdims=True))
    shape = [sizes[axis] if axis in inner else x.shape[axis] for axis in range(len(sizes))]
    forecast("the right-hand sides of equations along several axes", prod(shape))
    outer = tuple(axis for axis in range(len(sizes)) if axis not in inner)
    moved = np.broadcast_to(x, shape).transpose(*outer, *inner)
    cells = moved.reshape(-1, part.inner.size)
    return np.asarray(
        (cells - project_cells(cells, part.basis, None)).reshape(moved.shape).transpose(np.argsort((*outer, *inner)))
    )
