"""Rearrange the entries of expressions: transpose, reshape, flip, roll, take diagonals, insert axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from affinet.errors import ShapeError, counted
from affinet.language.affine import Affine, assemble, checked_axes, checked_axis, checked_integer, reword, transform
from affinet.language.calculus.axes import relabel
from affinet.language.calculus.diagonals import meet
from affinet.language.calculus.progressions import as_slice
from affinet.language.calculus.reshaping import reshape as reshape_term
from affinet.language.calculus.selecting import cut
from affinet.language.calculus.terms import Term
from affinet.language.joining import join_along
from affinet.language.wording import Wording, say


def permute(affine: Affine, dims: Sequence[object], wording: Wording) -> Affine:
    """Reorder the axes: new axis `i` is old axis `dims[i]`."""
    order = checked_axes(affine, tuple(dims), wording)
    if len(order) != len(affine.shape):
        raise ShapeError(
            f"({say(wording)}) names the axes {tuple(order)}, but {say(affine.wording)} of shape {affine.shape} "
            f"has {len(affine.shape)} axes. Name every axis once."
        )
    places = [order.index(axis) for axis in range(len(order))]
    shape = [affine.shape[axis] for axis in order]
    return transform(
        affine, shape, lambda term: relabel(term, places, len(places)), lambda c: np.transpose(c, order), wording
    )


def swap(affine: Affine, dim0: object, dim1: object, wording: Wording) -> Affine:
    """Exchange the axes `dim0` and `dim1`."""
    first, second = checked_axis(affine, dim0, wording), checked_axis(affine, dim1, wording)
    order = list(range(len(affine.shape)))
    order[first], order[second] = second, first
    return permute(affine, order, wording)


def reshape(affine: Affine, shape: Sequence[object], wording: Wording, order: object = None) -> Affine:
    """Read the entries as another shape, row by row, or with the order "F" column by column; one size may be -1."""
    target = _complete_shape(affine, shape, wording)
    if _by_columns(order, wording):
        transposed = reshape(permute(affine, range(len(affine.shape))[::-1], wording), target[::-1], wording)
        return permute(transposed, range(len(target))[::-1], wording)
    return transform(
        affine, target, lambda term: reshape_term(term, affine.shape, target), lambda c: c.reshape(target), wording
    )


def flatten(affine: Affine, start_dim: object, end_dim: object, wording: Wording, order: object = None) -> Affine:
    """Merge the axes from `start_dim` to `end_dim` into one; the last of them varies fastest, with "F" the first."""
    columns = _by_columns(order, wording)
    if not affine.shape:
        return reshape(affine, (1,), wording)
    first, last = checked_axis(affine, start_dim, wording), checked_axis(affine, end_dim, wording)
    if first > last:
        raise ShapeError(f"in ({say(wording)}) the first axis {first} comes after the last one {last}.")
    if columns:
        order_by_columns = [*range(first), *range(first, last + 1)[::-1], *range(last + 1, len(affine.shape))]
        affine = permute(affine, order_by_columns, wording)
    merged = prod(affine.shape[first : last + 1])
    return reshape(affine, (*affine.shape[:first], merged, *affine.shape[last + 1 :]), wording)


def insert_axis(affine: Affine, axis: int) -> Affine:
    """Insert a new axis of size one before `axis`."""
    places = [a if a < axis else a + 1 for a in range(len(affine.shape))]
    shape = (*affine.shape[:axis], 1, *affine.shape[axis:])
    return transform(
        affine,
        shape,
        lambda term: relabel(term, places, len(shape)),
        lambda c: np.expand_dims(c, axis),
        affine.wording,
    )


def flip(affine: Affine, dims: object, wording: Wording) -> Affine:
    """Reverse the order along the given axes."""
    axes = checked_axes(affine, dims, wording)
    for axis in axes:
        affine = _slice_axis(affine, axis, range(affine.shape[axis])[::-1])
    return reword(affine, wording)


def roll(affine: Affine, shift: object, dim: object, wording: Wording) -> Affine:
    """Move entries `shift` places up along axes; those moved beyond the end come first."""
    if dim is None:
        flat = roll(reshape(affine, (-1,), wording), shift, 0, wording)
        return reshape(flat, affine.shape, wording)
    shifts = tuple(shift) if isinstance(shift, tuple | list) else (shift,)
    axes = checked_axes(affine, dim, wording)
    if len(shifts) != len(axes):
        raise ShapeError(
            f"in ({say(wording)}) the numbers of shifts ({len(shifts)}) and of axes ({len(axes)}) must be equal."
        )
    for places, axis in zip(shifts, axes, strict=True):
        size, shift_of_axis = affine.shape[axis], checked_integer(places, wording)
        seam = size - shift_of_axis % size if size else 0
        if seam != size:
            parts = [_slice_axis(affine, axis, range(seam, size)), _slice_axis(affine, axis, range(seam))]
            affine = join_along(parts, axis, wording)
    return reword(affine, wording)


def quarter_turns(affine: Affine, turns: object, dims: object, wording: Wording) -> Affine:
    """Rotate the plane of two axes by `turns` right angles, from the first towards the second, as `numpy.rot90` does.

    Errors: `ShapeError` unless two different axes are named.
    """
    axes = checked_axes(affine, dims, wording)
    if len(axes) != 2:
        raise ShapeError(f"in ({say(wording)}) a rotation needs two different axes.")
    first, second = axes
    quarter_count = checked_integer(turns, wording) % 4
    if quarter_count == 1:
        return swap(flip(affine, second, wording), first, second, wording)
    if quarter_count == 3:
        return flip(swap(affine, first, second, wording), second, wording)
    return flip(affine, axes if quarter_count else (), wording)


def move_axes(affine: Affine, source: object, destination: object, wording: Wording) -> Affine:
    """Move the axes `source` to the places `destination`; the other axes keep their order."""
    old, new = (checked_axes(affine, () if dims is None else dims, wording) for dims in (source, destination))
    if len(old) != len(new) or not old:
        raise ShapeError(
            f"in ({say(wording)}) the numbers of axes ({len(old)}) and of places ({len(new)}) must be equal, and not 0."
        )
    order = [axis for axis in range(len(affine.shape)) if axis not in old]
    for place, axis in sorted(zip(new, old, strict=True)):
        order.insert(place, axis)
    return permute(affine, order, wording)


def diagonal(affine: Affine, offset: object, dim1: object, dim2: object, wording: Wording) -> Affine:
    """The entries at `[…, i, …, i + offset, …]`, on a new last axis."""
    first, second = checked_axis(affine, dim1, wording), checked_axis(affine, dim2, wording)
    if first == second:
        raise ShapeError(f"in ({say(wording)}) a diagonal needs two different axes.")
    shift = checked_integer(offset, wording)
    row, column = max(-shift, 0), max(shift, 0)
    size = max(0, min(affine.shape[first] - row, affine.shape[second] - column))
    square = _slice_axis(_slice_axis(affine, first, range(row, row + size)), second, range(column, column + size))
    other_axes = [axis for axis in range(len(affine.shape)) if axis not in (first, second)]
    places: list[int | None] = [
        other_axes.index(axis) if axis in other_axes else None for axis in range(len(affine.shape))
    ]
    places[first] = len(other_axes)

    def diagonal_of(term: Term) -> Term | None:
        diagonal_term = meet(term, first, second, size)
        return None if diagonal_term is None else relabel(diagonal_term, places, len(other_axes) + 1)

    shape = [*(affine.shape[axis] for axis in other_axes), size]
    return transform(square, shape, diagonal_of, lambda c: np.diagonal(c, 0, first, second), wording)


def difference(affine: Affine, dim: object, wording: Wording) -> tuple[Affine, Affine]:
    """The expression without its first position along `dim`, and without its last."""
    axis = checked_axis(affine, dim, wording)
    size = max(affine.shape[axis], 1)
    return _slice_axis(affine, axis, range(1, size)), _slice_axis(affine, axis, range(size - 1))


def _by_columns(order: object, wording: Wording) -> bool:
    """Whether NumPy's `order` is column by column. Errors: `ShapeError` for orders that depend on memory layout."""
    if order in (None, "C"):
        return False
    if order == "F":
        return True
    raise ShapeError(
        f'in ({say(wording)}) the order of entries must be "C" (row by row) or "F" (column by column); '
        f"got {order!r:.40}."
    )


def _complete_shape(affine: Affine, shape: Sequence[object], wording: Wording) -> tuple[int, ...]:
    """The wanted shape with its -1 replaced by a size, checked to have the same number of entries."""
    sizes = [checked_integer(n, wording) for n in shape]
    entries, known_entries = prod(affine.shape), prod(n for n in sizes if n != -1)
    if sizes.count(-1) == 1 and known_entries and entries % known_entries == 0:
        sizes[sizes.index(-1)] = entries // known_entries
    if min(sizes, default=0) < 0 or prod(sizes) != entries:
        raise ShapeError(
            f"({say(wording)}) does not fit: {say(affine.wording)} of shape {affine.shape} has "
            f"{counted(entries, 'entry', 'entries')}. One size may be -1; the product of the sizes must be {entries}."
        )
    return tuple(sizes)


def _slice_axis(affine: Affine, axis: int, positions: range) -> Affine:
    """`affine[…, positions, …]` along `axis`, with unchanged wording."""
    shape = (*affine.shape[:axis], len(positions), *affine.shape[axis + 1 :])
    if not positions:
        return assemble(shape, (), 0.0, affine.epsilon, affine.wording)
    if len(positions) == affine.shape[axis] and positions.step == 1:
        return affine
    return transform(
        affine,
        shape,
        lambda term: cut(term, axis, positions),
        lambda c: c[(*(slice(None),) * axis, as_slice(positions))],
        affine.wording,
    )
