"""Repeat entries of expressions along axes, and insert and remove axes of size one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Affine, broadcast, checked_axes, checked_axis, checked_integer, reword
from affinet.language.constants import read_array
from affinet.language.placement import select
from affinet.language.rearranging import reshape
from affinet.language.wording import Wording, say


def expand(affine: Affine, sizes: Sequence[object], wording: Wording) -> Affine:
    """Repeat axes of size one to `sizes`; -1 keeps a size, and new axes come first."""
    wanted_sizes = [checked_integer(size, wording) for size in sizes]
    leading = len(wanted_sizes) - len(affine.shape)
    own_shape = (1,) * leading + affine.shape if leading >= 0 else affine.shape
    target = [n if size == -1 else size for size, n in zip(wanted_sizes, own_shape, strict=leading >= 0)]
    fits = leading >= 0 and all(n in (1, size) for n, size in zip(own_shape, target, strict=True))
    if not fits or min(target, default=0) < 0 or -1 in wanted_sizes[: max(leading, 0)]:
        raise ShapeError(
            f"({say(wording)}) does not fit: {say(affine.wording)} has shape {affine.shape}. Only axes of size one can "
            f"be repeated; -1 keeps the size of an axis, and new axes come first."
        )
    return reword(broadcast(affine, tuple(target)), wording)


def tile(affine: Affine, repeats: Sequence[object], wording: Wording) -> Affine:
    """Repeat the whole array `repeats` times along each axis; new axes come first."""
    counts = [checked_integer(count, wording) for count in repeats]
    leading = len(counts) - len(affine.shape)
    if leading < 0 or min(counts, default=0) < 0:
        raise ShapeError(
            f"({say(wording)}) does not fit: {say(affine.wording)} of shape {affine.shape} needs a number of "
            f"repetitions, 0 or more, for each of its {len(affine.shape)} axes."
        )
    own_shape = (1,) * leading + affine.shape
    split_axes = reshape(affine, [size for n in own_shape for size in (1, n)], wording)
    repeated = broadcast(
        split_axes, tuple(size for count, n in zip(counts, own_shape, strict=True) for size in (count, n))
    )
    return reshape(repeated, [count * n for count, n in zip(counts, own_shape, strict=True)], wording)


def repeat_each(affine: Affine, repeats: object, dim: object, wording: Wording) -> Affine:
    """Repeat each position along `dim`; `repeats` is a number, or one for every position.

    Without `dim` positions are those of the flattened array.
    """
    if dim is None:
        affine, dim = reshape(affine, (-1,) if affine.shape else (1,), wording), 0
    axis = checked_axis(affine, dim, wording)
    counts = read_array(repeats)[0]
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or (counts < 0).any():
        raise ShapeError(f"({say(wording)}) takes an integer or a list of integers, 0 or more; got {repeats!r:.60}.")
    if counts.size != 1 and counts.size != affine.shape[axis]:
        raise ShapeError(f"({say(wording)}) has {counts.size} counts, and axis {axis} has size {affine.shape[axis]}.")
    if counts.size == 1:
        count, n = int(counts.reshape(())), affine.shape[axis]
        before, after = affine.shape[:axis], affine.shape[axis + 1 :]
        split_axes = reshape(affine, (*before, n, 1, *after), wording)
        return reshape(broadcast(split_axes, (*before, n, count, *after)), (*before, n * count, *after), wording)
    places = np.repeat(np.arange(affine.shape[axis]), counts)
    full_slices = [slice(None)] * len(affine.shape)
    return select(affine, [*full_slices[:axis], places, *full_slices[axis + 1 :]], wording)


def squeeze(affine: Affine, dims: object, wording: Wording) -> Affine:
    """Remove axes of size one: those in `dims`, or all.

    Errors: `ShapeError` for an axis of another size.
    """
    axes = checked_axes(affine, dims, wording)
    long_axes = [axis for axis in axes if affine.shape[axis] != 1]
    if dims is not None and long_axes:
        raise ShapeError(
            f"in ({say(wording)}) axis {long_axes[0]} has size {affine.shape[long_axes[0]]}: only axes of size "
            f"one can be removed."
        )
    remaining = [n for axis, n in enumerate(affine.shape) if axis not in axes or n != 1]
    return reshape(affine, remaining, wording)


def unsqueeze(affine: Affine, dim: object, wording: Wording) -> Affine:
    """Insert a new axis of size one at place `dim` of the result."""
    axis, axes = checked_integer(dim, wording), len(affine.shape)
    if not -axes - 1 <= axis <= axes:
        raise ShapeError(f"in ({say(wording)}) the place of a new axis must be from -{axes + 1} to {axes}; got {axis}.")
    axis %= axes + 1
    return reshape(affine, (*affine.shape[:axis], 1, *affine.shape[axis:]), wording)
