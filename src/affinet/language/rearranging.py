"""The same entries in another arrangement: transposed, reshaped, flipped, rolled, diagonals, new axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Affine, assemble, checked_axes, checked_axis, checked_integer, reworded, transform
from affinet.language.calculus.axes import relabel
from affinet.language.calculus.diagonals import meet
from affinet.language.calculus.progressions import as_slice
from affinet.language.calculus.reshaping import reshape as reshape_term
from affinet.language.calculus.selecting import cut
from affinet.language.calculus.terms import Term
from affinet.language.joining import concatenated
from affinet.language.wording import Wording, say


def permute(affine: Affine, dims: Sequence[object], wording: Wording) -> Affine:
    """The axes in another order: new axis `i` is old axis `dims[i]`."""
    order = checked_axes(affine, tuple(dims), wording)
    if len(order) != len(affine.shape):
        raise ShapeError(
            f"({say(wording)}) names axes {tuple(order)}, but {say(affine.wording)} of shape {affine.shape} "
            f"has {len(affine.shape)}. Name every axis once."
        )
    places = [order.index(axis) for axis in range(len(order))]
    shape = [affine.shape[axis] for axis in order]
    return transform(
        affine, shape, lambda term: relabel(term, places, len(places)), lambda c: np.transpose(c, order), wording
    )


def swap(affine: Affine, dim0: object, dim1: object, wording: Wording) -> Affine:
    """The axes `dim0` and `dim1` exchanged."""
    first, second = checked_axis(affine, dim0, wording), checked_axis(affine, dim1, wording)
    order = list(range(len(affine.shape)))
    order[first], order[second] = second, first
    return permute(affine, order, wording)


def reshape(affine: Affine, shape: Sequence[object], wording: Wording, order: object = None) -> Affine:
    """The same entries in another shape, row by row, or with the order "F" column by column; one size may be -1."""
    target = _completed(affine, shape, wording)
    if _by_columns(order, wording):
        turned = reshape(permute(affine, range(len(affine.shape))[::-1], wording), target[::-1], wording)
        return permute(turned, range(len(target))[::-1], wording)
    return transform(
        affine, target, lambda term: reshape_term(term, affine.shape, target), lambda c: c.reshape(target), wording
    )


def flatten(affine: Affine, start_dim: object, end_dim: object, wording: Wording, order: object = None) -> Affine:
    """The axes from `start_dim` to `end_dim` made one, the last of them running fastest; with "F" the first of them."""
    columns = _by_columns(order, wording)
    if not affine.shape:
        return reshape(affine, (1,), wording)
    first, last = checked_axis(affine, start_dim, wording), checked_axis(affine, end_dim, wording)
    if first > last:
        raise ShapeError(f"in ({say(wording)}) the first axis {first} comes after the last one {last}.")
    if columns:
        turned = [*range(first), *range(first, last + 1)[::-1], *range(last + 1, len(affine.shape))]
        affine = permute(affine, turned, wording)
    merged = prod(affine.shape[first : last + 1])
    return reshape(affine, (*affine.shape[:first], merged, *affine.shape[last + 1 :]), wording)


def insert_axis(affine: Affine, axis: int) -> Affine:
    """A new axis of size one before `axis`."""
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
    """The order along some axes reversed."""
    axes = checked_axes(affine, dims, wording)
    for axis in axes:
        affine = _part(affine, axis, range(affine.shape[axis])[::-1])
    return reworded(affine, wording)


def roll(affine: Affine, shift: object, dim: object, wording: Wording) -> Affine:
    """Entries moved `shift` places up along axes, those beyond the end coming in at the front."""
    if dim is None:
        flat = roll(reshape(affine, (-1,), wording), shift, 0, wording)
        return reshape(flat, affine.shape, wording)
    shifts = tuple(shift) if isinstance(shift, tuple | list) else (shift,)
    axes = checked_axes(affine, dim, wording)
    if len(shifts) != len(axes):
        raise ShapeError(
            f"in ({say(wording)}) the number of shifts, {len(shifts)}, is not that of the axes, {len(axes)}."
        )
    for places, axis in zip(shifts, axes, strict=True):
        size, moved = affine.shape[axis], checked_integer(places, wording)
        seam = size - moved % size if size else 0
        if seam != size:
            parts = [_part(affine, axis, range(seam, size)), _part(affine, axis, range(seam))]
            affine = concatenated(parts, axis, wording)
    return reworded(affine, wording)


def quarter_turns(affine: Affine, turns: object, dims: object, wording: Wording) -> Affine:
    """The plane of two axes turned by so many right angles, from the first towards the second, as `numpy.rot90`.

    Errors: `ShapeError` unless two different axes are named.
    """
    axes = checked_axes(affine, dims, wording)
    if len(axes) != 2:
        raise ShapeError(f"in ({say(wording)}) a turn needs two different axes.")
    first, second = axes
    turned = checked_integer(turns, wording) % 4
    if turned == 1:
        return swap(flip(affine, second, wording), first, second, wording)
    if turned == 3:
        return flip(swap(affine, first, second, wording), second, wording)
    return flip(affine, axes if turned else (), wording)


def move_axes(affine: Affine, source: object, destination: object, wording: Wording) -> Affine:
    """The axes `source` at the places `destination`, the others in their order."""
    old, new = (checked_axes(affine, () if dims is None else dims, wording) for dims in (source, destination))
    if len(old) != len(new) or not old:
        raise ShapeError(f"in ({say(wording)}) {len(old)} axes are moved to {len(new)} places; name a place for each.")
    order = [axis for axis in range(len(affine.shape)) if axis not in old]
    for place, axis in sorted(zip(new, old, strict=True)):
        order.insert(place, axis)
    return permute(affine, order, wording)


def diagonal(affine: Affine, offset: object, dim1: object, dim2: object, wording: Wording) -> Affine:
    """The entries at `[…, i, …, i + offset, …]`; their axis comes last."""
    first, second = checked_axis(affine, dim1, wording), checked_axis(affine, dim2, wording)
    if first == second:
        raise ShapeError(f"in ({say(wording)}) a diagonal needs two different axes.")
    shift = checked_integer(offset, wording)
    row, column = max(-shift, 0), max(shift, 0)
    size = max(0, min(affine.shape[first] - row, affine.shape[second] - column))
    square = _part(_part(affine, first, range(row, row + size)), second, range(column, column + size))
    rest = [axis for axis in range(len(affine.shape)) if axis not in (first, second)]
    places: list[int | None] = [rest.index(axis) if axis in rest else None for axis in range(len(affine.shape))]
    places[first] = len(rest)

    def met(term: Term) -> Term | None:
        found = meet(term, first, second, size)
        return None if found is None else relabel(found, places, len(rest) + 1)

    shape = [*(affine.shape[axis] for axis in rest), size]
    return transform(square, shape, met, lambda c: np.diagonal(c, 0, first, second), wording)


def difference(affine: Affine, dim: object, wording: Wording) -> tuple[Affine, Affine]:
    """The expression without its first and without its last place along `dim`."""
    axis = checked_axis(affine, dim, wording)
    size = max(affine.shape[axis], 1)
    return _part(affine, axis, range(1, size)), _part(affine, axis, range(size - 1))


def _by_columns(order: object, wording: Wording) -> bool:
    """Whether NumPy's `order` says column by column. Errors: `ShapeError` for one that depends on memory."""
    if order in (None, "C"):
        return False
    if order == "F":
        return True
    raise ShapeError(
        f'in ({say(wording)}) the order of entries is {order!r:.40}, and must be "C" (row by row) or "F" (column by '
        f"column)."
    )


def _completed(affine: Affine, shape: Sequence[object], wording: Wording) -> tuple[int, ...]:
    """The shape asked for with its -1 worked out, checked to hold as many entries."""
    sizes = [checked_integer(n, wording) for n in shape]
    have, known = prod(affine.shape), prod(n for n in sizes if n != -1)
    if sizes.count(-1) == 1 and known and have % known == 0:
        sizes[sizes.index(-1)] = have // known
    if min(sizes, default=0) < 0 or prod(sizes) != have:
        raise ShapeError(
            f"({say(wording)}) does not fit: {say(affine.wording)} of shape {affine.shape} has {have} entries. "
            f"One size may be -1; the product of the sizes must be {have}."
        )
    return tuple(sizes)


def _part(affine: Affine, axis: int, positions: range) -> Affine:
    """`affine[…, positions, …]`, wording unchanged."""
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
