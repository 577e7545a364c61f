"""When projections along overlapping sets of loops commute, what they then leave free, and whether they agree."""

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
    """Whether the tangent projectors of two sets of slices of one box commute; False where that is too large to see.

    Law: along disjoint loops, and for plain sums along any loops, they always do: means are means of means.
    """
    if not set(a_inner) & set(b_inner) or (a.even and b.even):
        return True
    axes = tuple(sorted({*a_inner, *b_inner}))
    n = prod(sizes[axis] for axis in axes)
    if n > limits.most_joint:
        return False
    both = _normal(a, a_inner, axes, sizes) @ _normal(b, b_inner, axes, sizes)
    return float(np.abs(both - both.T).max()) <= tolerance.rank(n, n)


def free_together(parts: Sequence[Slices], inner: Sequence[Axes], sizes: Axes) -> int:
    """Degrees of freedom that commuting sets of slices leave of a box: the trace of the product of their projectors.

    Groups of parts without a loop in common make a tensor product. Of plain sums within one,
    `tr Π_k (I − Q_k) = Σ_T (−1)^|T| n / n_T`, n_T being the places of the loops of all parts in T.
    """
    free, left = 1, set(range(len(sizes)))
    for group in _sharing(inner):
        axes = tuple(sorted({axis for k in group for axis in inner[k]}))
        left -= set(axes)
        n = prod(sizes[axis] for axis in axes)
        if len(group) == 1:
            free *= n - len(parts[group[0]].basis)
        elif all(parts[k].even for k in group):
            free *= sum((-1) ** len(some) * _means(some, inner, axes, sizes) for some in _subsets(group))
        else:
            kept = np.eye(n)
            for k in group:
                kept = kept - kept @ _normal(parts[k], inner[k], axes, sizes)
            free *= round(float(np.trace(kept)))
    return free * prod(sizes[axis] for axis in left)


def agree(a: Slices, a_inner: Axes, b: Slices, b_inner: Axes, sizes: Axes, tolerance: Tolerance) -> bool:
    """Whether both say the same of what they measure together: `Q_b c_a == Q_a c_b`, c their nearest points to zero.

    Then the product of their affine projections is the projection onto both. Numbers stay one a cell for plain sums.
    Equations that are nearly redundant may be too far off by rounding: those as they were said decide,
    `agree_as_said`.
    """
    first, second = _nearest(a, a_inner, sizes), _nearest(b, b_inner, sizes)
    gap = _measured(first, b, b_inner, sizes) - _measured(second, a, a_inner, sizes)
    # Rounding is relative to the terms of these sums, which may cancel.
    size = max(float(np.abs(first).max(initial=0.0)), float(np.abs(second).max(initial=0.0)))
    return float(np.abs(gap).max(initial=0.0)) <= tolerance.consistency(max(sizes)) * size


def agree_as_said(a: RowBatch, a_inner: Axes, b: RowBatch, b_inner: Axes, sizes: Axes, tolerance: Tolerance) -> bool:
    """Whether `A x == α` and `B x == β` hold together along loops that they do not share: `B α == A β`.

    These are combinations of the equations themselves, so that no condition number comes in. False where loops are
    shared, and for single equations, which have none.
    """
    if set(a_inner) & set(b_inner) or len(a.matrix) == len(b.matrix) == 1:
        return False
    alpha, beta = right_sides(a.rhs, a_inner, sizes), right_sides(b.rhs, b_inner, sizes)
    left, right = applied(b.matrix, alpha, b_inner, sizes), applied(a.matrix, beta, a_inner, sizes).swapaxes(-1, -2)
    terms = applied(np.abs(b.matrix), np.abs(alpha), b_inner, sizes)
    terms = terms + applied(np.abs(a.matrix), np.abs(beta), a_inner, sizes).swapaxes(-1, -2)
    length = max(a.matrix.shape[1], b.matrix.shape[1])
    return bool((np.abs(left - right) <= tolerance.consistency(length) * terms).all())


def right_sides(rhs: Floats, inner: Axes, sizes: Axes) -> Floats:
    """Right-hand sides as a box with one axis more, of length one along loops on which they do not depend."""
    cells = [sizes[axis] if len(rhs) > 1 and axis not in inner else 1 for axis in range(len(sizes))]
    return rhs.reshape(*cells, rhs.shape[1])


def applied(matrix: Floats, box: Floats, inner: Axes, sizes: Axes) -> Floats:
    """A matrix applied along some axes of a box, which become of length one; its rows are the last axis."""
    shape = [sizes[axis] if axis in inner else box.shape[axis] for axis in range(len(sizes))]
    forecast("the right-hand sides of equations along several axes", prod(shape) * box.shape[-1])
    outer = [axis for axis in range(box.ndim) if axis not in inner]
    cells = np.broadcast_to(box, (*shape, box.shape[-1])).transpose(*outer, *inner).reshape(-1, matrix.shape[1])
    return (cells @ matrix.T).reshape(*(1 if axis in inner else box.shape[axis] for axis in range(box.ndim)), -1)


def _sharing(inner: Sequence[Axes]) -> list[list[int]]:
    """Parts that have loops in common, directly or through others."""
    groups: list[tuple[list[int], set[int]]] = []
    for k, axes in enumerate(inner):
        meeting = [group for group in groups if group[1] & set(axes)]
        groups = [group for group in groups if not any(group is other for other in meeting)]
        members = [*(member for group, _ in meeting for member in group), k]
        groups.append((members, set(axes).union(*(taken for _, taken in meeting))))
    return [members for members, _ in groups]


def _subsets(group: Sequence[int]) -> list[Axes]:
    return [some for many in range(len(group) + 1) for some in combinations(group, many)]


def _means(some: Axes, inner: Sequence[Axes], axes: Axes, sizes: Axes) -> int:
    """How many numbers are left of the places of `axes` when the loops of some parts are averaged over."""
    taken = {axis for k in some for axis in inner[k]}
    return prod(sizes[axis] for axis in axes if axis not in taken)


def _normal(part: Slices, inner: Axes, axes: Axes, sizes: Axes) -> Floats:
    """`QᵀQ` of a part on the places of `axes`, the identity along those that are not its own."""
    rest = tuple(axis for axis in axes if axis not in inner)
    lengths = [sizes[axis] for axis in (*rest, *inner)]
    n = prod(lengths)
    apart = np.kron(np.eye(prod(sizes[axis] for axis in rest)), part.basis.T @ part.basis)
    back = np.argsort((*rest, *inner)).tolist()
    order = (*back, *(len(axes) + k for k in back))
    return np.asarray(apart.reshape(*lengths, *lengths).transpose(order).reshape(n, n))


def _nearest(part: Slices, inner: Axes, sizes: Axes) -> Floats:
    """`Qᵀ target` as a box, of length one along loops on which it does not depend."""
    outer = tuple(axis for axis in range(len(sizes)) if axis not in inner)
    cells = [sizes[axis] if len(part.target) > 1 else 1 for axis in outer]
    if part.even:
        numbers, within = part.target * float(part.basis[0, 0]), [1] * len(inner)
    else:
        forecast("the right-hand sides of equations along several axes", len(part.target) * part.inner.size)
        numbers, within = part.target @ part.basis, [sizes[axis] for axis in inner]
    return numbers.reshape(*cells, *within).transpose(np.argsort((*outer, *inner)))


def _measured(x: Floats, part: Slices, inner: Axes, sizes: Axes) -> Floats:
    """`QᵀQ x` for a box whose axes of length one stand for any length."""
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
