"""Entries repeated, and axes of size one: what an expression looks like beside larger ones, without new numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Affine, broadcast, checked_axes, checked_axis, checked_integer, reworded
from affinet.language.constants import read_array
from affinet.language.placement import select
from affinet.language.rearranging import reshape
from affinet.language.wording import Wording, say


def expand(affine: Affine, sizes: Sequence[object], wording: Wording) -> Affine:
    """Axes of size one repeated to the sizes; -1 keeps a size, and new axes stand in front."""
    given = [checked_integer(size, wording) for size in sizes]
    ahead = len(given) - len(affine.shape)
    have = (1,) * ahead + affine.shape if ahead >= 0 else affine.shape
    target = [n if wanted == -1 else wanted for wanted, n in zip(given, have, strict=ahead >= 0)]
    fits = ahead >= 0 and all(n in (1, wanted) for n, wanted in zip(have, target, strict=True))
    if not fits or min(target, default=0) < 0 or -1 in given[: max(ahead, 0)]:
        raise ShapeError(
            f"({say(wording)}) does not fit: {say(affine.wording)} has shape {affine.shape}. Only axes of size one are "
            f"repeated; -1 keeps the size of an axis, and new axes stand in front."
        )
    return reworded(broadcast(affine, tuple(target)), wording)


def tile(affine: Affine, repeats: Sequence[object], wording: Wording) -> Affine:
    """The whole laid beside itself so many times along each axis; new axes stand in front."""
    counts = [checked_integer(count, wording) for count in repeats]
    ahead = len(counts) - len(affine.shape)
    if ahead < 0 or min(counts, default=0) < 0:
        raise ShapeError(
            f"({say(wording)}) does not fit: {say(affine.wording)} of shape {affine.shape} needs a number of "
            f"repetitions, 0 or more, for each of its {len(affine.shape)} axes."
        )
    have = (1,) * ahead + affine.shape
    apart = reshape(affine, [size for n in have for size in (1, n)], wording)
    wide = broadcast(apart, tuple(size for count, n in zip(counts, have, strict=True) for size in (count, n)))
    return reshape(wide, [count * n for count, n in zip(counts, have, strict=True)], wording)


def repeat_each(affine: Affine, repeats: object, dim: object, wording: Wording) -> Affine:
    """Every place along `dim` so many times in a row; `repeats` is a number, or one for every place.

    Without `dim` in the flattened array.
    """
    if dim is None:
        affine, dim = reshape(affine, (-1,) if affine.shape else (1,), wording), 0
    axis = checked_axis(affine, dim, wording)
    counts = read_array(repeats)[0]
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or (counts < 0).any():
        raise ShapeError(f"({say(wording)}) takes an integer or a list of them, 0 or more, and not {repeats!r:.60}.")
    if counts.size != 1 and counts.size != affine.shape[axis]:
        raise ShapeError(f"({say(wording)}) has {counts.size} counts, and axis {axis} has size {affine.shape[axis]}.")
    if counts.size == 1:
        count, n = int(counts.reshape(())), affine.shape[axis]
        before, after = affine.shape[:axis], affine.shape[axis + 1 :]
        apart = reshape(affine, (*before, n, 1, *after), wording)
        return reshape(broadcast(apart, (*before, n, count, *after)), (*before, n * count, *after), wording)
    places = np.repeat(np.arange(affine.shape[axis]), counts)
    whole = [slice(None)] * len(affine.shape)
    return select(affine, [*whole[:axis], places, *whole[axis + 1 :]], wording)


def squeeze(affine: Affine, dims: object, wording: Wording) -> Affine:
    """Without axes of size one: those named, or all of them.

    Errors: `ShapeError` for an axis of another size.
    """
    axes = checked_axes(affine, dims, wording)
    longer = [axis for axis in axes if affine.shape[axis] != 1]
    if dims is not None and longer:
        raise ShapeError(
            f"in ({say(wording)}) axis {longer[0]} has size {affine.shape[longer[0]]}: only axes of size one can go."
        )
    left = [n for axis, n in enumerate(affine.shape) if axis not in axes or n != 1]
    return reshape(affine, left, wording)


def unsqueeze(affine: Affine, dim: object, wording: Wording) -> Affine:
    """A new axis of size one at place `dim` of the result."""
    axis, most = checked_integer(dim, wording), len(affine.shape)
    if not -most - 1 <= axis <= most:
        raise ShapeError(f"in ({say(wording)}) a new axis stands at -{most + 1} to {most}, and not at {axis}.")
    axis %= most + 1
    return reshape(affine, (*affine.shape[:axis], 1, *affine.shape[axis:]), wording)
