"""Index expressions as NumPy indexes arrays: by integers, slices, `...`, `None`, masks and integer arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinet.errors import ConstantError, ShapeError
from affinet.language.affine import Affine
from affinet.language.calculus.selecting import entry
from affinet.language.calculus.terms import Integers, narrow
from affinet.language.constants import read_array, word_of
from affinet.language.labels import has_names, labels_of, positions_of, shown_key
from affinet.language.masking import index_by_mask
from affinet.language.placement import Item, select
from affinet.language.wording import Subscript, Wording, say


def index(affine: Affine, key: object) -> Affine:
    """`affine[key]`; names in the key are positions along axes with labels.

    Errors: `ShapeError` for positions out of range, too many indices, masks of another shape, and other keys,
    `UnknownFeatureError` for names that are not among the labels.
    """
    items = key if isinstance(key, tuple) else (key,)
    if len(items) == len(affine.shape) and all(type(item) is int for item in items):
        return _single_entry(affine, items)
    if has_names(items) and (labels := labels_of(affine)):
        entries = index(affine, positions_of(affine, labels, items))
        return replace(entries, wording=Subscript(affine.wording, tuple(map(shown_key, items))))
    arrays = [_as_array(affine, item) for item in items]
    wording = Subscript(affine.wording, tuple(map(_shown_key, items, arrays)))
    masked = index_by_mask(affine, items, arrays, wording)
    if masked is not None:
        return masked
    full_items = _expand(
        affine, [item if array is None else array for item, array in zip(items, arrays, strict=True)], wording
    )
    return select(affine, full_items, wording)


def _single_entry(affine: Affine, key: tuple[Any, ...]) -> Affine:
    """Read a single entry; this is the fast path for rules that are written in a loop over entries."""
    wording = Subscript(affine.wording, key)
    position: list[int] = []
    for item, size in zip(key, affine.shape, strict=True):
        if not -size <= item < size:
            raise _out_of_range(affine, item, len(position), wording)
        position.append(item if item >= 0 else item + size)
    terms = [entry(term, position) for term in affine.terms]
    constant = affine.constant
    if not isinstance(constant, float):
        constant = float(np.broadcast_to(constant, affine.shape)[tuple(position)])
    return Affine((), tuple([term for term in terms if term is not None]), constant, affine.epsilon, wording)


def _as_array(affine: Affine, item: object) -> NDArray[Any] | None:
    """The item as an array of positions or a mask; None where it is an integer, a slice, `None` or `...`."""
    if item is None or item is Ellipsis or (isinstance(item, slice | int | np.integer) and not isinstance(item, bool)):
        return None
    if str(getattr(item, "dtype", "")) == "torch.uint8":
        raise ShapeError(
            f"an index of {say(affine.wording)} is a tensor of uint8, which is a mask in torch and positions in NumPy. "
            f"Give item.bool() for a mask, or item.long() for positions."
        )
    try:
        array = read_array(item)[0]
    except ConstantError:
        raise _no_index(affine, item) from None
    if array.size == 0 and isinstance(item, list | tuple):
        array = array.astype(np.intp)
    if (
        array.dtype.kind not in "biu"
        or isinstance(item, bool | np.bool_)
        or (array.dtype.kind == "b" and not array.ndim)
    ):
        raise _no_index(affine, item)
    return array


def _shown_key(item: object, array: NDArray[Any] | None) -> object:
    if array is None:
        return int(item) if isinstance(item, np.integer) else item
    return int(array) if array.ndim == 0 else word_of(array)


def _expand(affine: Affine, items: Sequence[Any], wording: Wording) -> list[Item]:
    """Write an index out as one checked item per axis, old or new: `...` becomes slices and masks become positions."""
    axes_indexed = sum(_axes_of(item) for item in items)
    ellipses = [place for place, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise ShapeError(f"({say(wording)}) has `...` twice. Write it once.")
    if axes_indexed > len(affine.shape):
        indices = "1 index" if axes_indexed == 1 else f"{axes_indexed} indices"
        raise ShapeError(f"({say(wording)}) has {indices}, but {say(affine.wording)} has shape {affine.shape}.")
    place = ellipses[0] if ellipses else len(items)
    full_slices = [slice(None)] * (len(affine.shape) - axes_indexed)
    full_items: list[Item] = []
    axis = 0
    for item in (*items[:place], *full_slices, *items[place + 1 :]):
        full_items.extend(_checked(affine, item, axis, wording))
        axis += _axes_of(item)
    return full_items


def _axes_of(item: object) -> int:
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype.kind == "b" else 1


def _checked(affine: Affine, item: Any, axis: int, wording: Wording) -> list[Item]:
    if item is None:
        return [None]
    if isinstance(item, slice):
        return [_checked_slice(item, wording)]
    size = affine.shape[axis]
    if isinstance(item, np.ndarray) and item.dtype.kind == "b":
        indexed_shape = affine.shape[axis : axis + item.ndim]
        if item.shape != indexed_shape:
            raise ShapeError(
                f"the mask in ({say(wording)}) has shape {item.shape}, and the axes that it indexes "
                f"have {indexed_shape}."
            )
        return [narrow(positions) for positions in item.nonzero()]
    if isinstance(item, np.ndarray) and item.ndim:
        return [_checked_positions(affine, item, axis, wording)]
    position = int(item)
    if not -size <= position < size:
        raise _out_of_range(affine, position, axis, wording)
    return [position % size]


def _checked_slice(item: slice, wording: Wording) -> slice:
    for part in (item.start, item.stop, item.step):
        if part is not None and not hasattr(part, "__index__"):
            raise ShapeError(f"in ({say(wording)}) the bounds of a slice must be integers; got {part!r:.60}.")
    start, stop, step = (None if part is None else part.__index__() for part in (item.start, item.stop, item.step))
    if step == 0:
        raise ShapeError(f"in ({say(wording)}) a slice has step 0. Write another step, such as 1 or -1.")
    return slice(start, stop, step)


def _checked_positions(affine: Affine, item: Integers, axis: int, wording: Wording) -> Integers:
    size = affine.shape[axis]
    kind = np.int32 if size < 2**31 else np.int64
    if item.size == 0:
        return item.astype(kind)
    low, high = int(item.min()), int(item.max())
    if low < -size or high >= size:
        raise _out_of_range(affine, low if low < -size else high, axis, wording)
    positions: Integers = item.astype(kind)
    return np.where(positions < 0, positions + size, positions) if low < 0 else positions


def _no_index(affine: Affine, item: object) -> ShapeError:
    return ShapeError(
        f"an index of {say(affine.wording)} must be an integer, a slice, `...`, None, a mask or an array of integers; "
        f"got {item!r:.60}."
    )


def _out_of_range(affine: Affine, position: int, axis: int, wording: Wording) -> ShapeError:
    return ShapeError(
        f"index {position} in ({say(wording)}) is out of range: axis {axis} of {say(affine.wording)} "
        f"has size {affine.shape[axis]}."
    )
