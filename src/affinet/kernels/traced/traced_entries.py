"""Reads the entries of a block from arrays in their own shapes, and makes arrays with new entries.

Regular entries are read by reshaping, slicing and permuting axes, so that arrays that are split over devices stay so.
Others are read at indices along the axes of the array: at indices into a flat array, all devices would need all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import assert_never

import numpy as np

from affinet.blocks.entry_sets import View, positions_of
from affinet.blocks.namespace import Array
from affinet.blocks.offsets import Dim, Nest
from affinet.blocks.places import Adjacent, Chosen, Following, Listed, Part, Places, Stepped
from affinet.kernels.traced.library import Library

Arrays = Mapping[str, Array]


def read(library: Library, places: Places, arrays: Arrays) -> Array:
    """The entries in the order of the places, of any shape with as many numbers."""
    match places:
        case Stepped():
            return _of_positions_or_box(library, places, arrays[places.parameter.name])
        case Chosen():
            return _of_set(library, places, arrays[places.parameter.name])
        case Listed():
            parts = [_of_part(library, part, arrays[part.parameter.name]) for part in places.parts]
            return (_stacked if all(map(_is_whole, places.parts)) else _joined)(library, parts)
        case Following():
            return _stacked(library, [read(library, piece, arrays) for piece in _pieces(places)])
        case Adjacent():
            shape = (places.rows, -1)
            views = [_of_view(library, view, arrays[view.parameter.name]) for view in places.members]
            return library.xp.concat([library.xp.reshape(view, shape) for view in views])
        case _:
            assert_never(places)


def axes_of(places: Places) -> tuple[int, ...] | None:
    """The shape in which `read` returns the entries of a box, or of boxes that are stacked; None for other places."""
    if isinstance(places, Following):
        pieces = [axes_of(piece) for piece in _pieces(places)]
        axes = pieces[0] if len(set(pieces)) == 1 else None
        return None if axes is None or len(pieces) == 1 else (len(pieces), *axes)
    box = None
    if isinstance(places, Stepped):
        box = _box_of_steps(places)
    elif isinstance(places, Chosen) and isinstance(places.entries, View):
        box = _box(places.entries.offset, places.entries.dims, places.parameter.shape)
    return None if box is None else tuple(box.sizes[axis] for axis in box.order)


def in_stored_order(places: Stepped) -> tuple[tuple[int, ...], Stepped]:
    """The loops over a box from the longest step to the shortest, as their numbers, and the same entries in this order.

    Read so, the axes of the box are those of its array, and none has to be permuted.
    """
    loops = tuple(loop for part in (places.outer, places.inner) if isinstance(part, Nest) for loop in part.dims)
    order = tuple(sorted(range(len(loops)), key=lambda number: -abs(loops[number][1])))
    return order, replace(places, outer=Nest(tuple(loops[number] for number in order)), inner=Nest(()))


def write(library: Library, places: Places, arrays: Arrays, values: Array) -> dict[str, Array]:
    """The arrays with these entries, rounded to the dtype of each array."""
    written = dict(arrays)
    match places:
        case Stepped():
            name = places.parameter.name
            written[name] = _with_stepped(library, places, arrays[name], values)
        case Chosen():
            name = places.parameter.name
            written[name] = _with_set(library, places, arrays[name], values)
        case Listed():
            for part, numbers in zip(places.parts, _unstacked(library, values, places.parts), strict=True):
                name = part.parameter.name
                written[name] = _with_part(library, part, written[name], numbers)
        case Following():
            pieces = _pieces(places)
            for piece, numbers in zip(pieces, _unstacked(library, values, pieces), strict=True):
                written = write(library, piece, written, numbers)
        case Adjacent():
            matrix = library.xp.reshape(values, (places.rows, -1))
            for view, first, last in zip(places.members, places.bounds, places.bounds[1:], strict=False):
                name = view.parameter.name
                written[name] = _with_view(library, view, written[name], matrix[:, first:last])
        case _:
            assert_never(places)
    return written


def _pieces(places: Following) -> list[Places]:
    """The places that contain any entry."""
    return [piece for piece in places.pieces if piece.count]


@dataclass(frozen=True)
class _Box:
    """A strided box of an array as axes: the array reshaped to `radices`, sliced, flipped, and its axes permuted."""

    radices: tuple[int, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    flipped: tuple[int, ...]
    order: tuple[int, ...]

    def read(self, library: Library, x: Array) -> Array:
        axes = library.xp.reshape(x, self.radices)
        if self.sizes != self.radices:
            axes = library.slice(axes, self.starts, self.sizes)
        return library.xp.permute(library.xp.flip(axes, self.flipped) if self.flipped else axes, self.order)

    def write(self, library: Library, x: Array, values: Array) -> Array:
        xp = library.xp
        box = xp.reshape(library.cast(values, x.dtype), tuple(self.sizes[axis] for axis in self.order))
        box = xp.permute(box, tuple(int(axis) for axis in np.argsort(self.order)))
        if self.flipped:
            box = xp.flip(box, self.flipped)
        if self.sizes != self.radices:
            box = library.with_slice(xp.reshape(x, self.radices), self.starts, box)
        return xp.reshape(box, tuple(x.shape))


def _box(offset: int, dims: tuple[Dim, ...], shape: tuple[int, ...]) -> _Box | None:
    """Loops over positions in an array of a shape as axes, those of the array where possible; None without any."""
    size = prod(shape)
    return _nested(offset, _along_array(dims, shape), size) or _nested(offset, dims, size)


def _along_array(dims: tuple[Dim, ...], shape: tuple[int, ...]) -> tuple[Dim, ...]:
    """The same loops, those over several axes of the array as a loop along each."""
    loops = []
    for count, step in dims:
        within = abs(step)
        for stride in (prod(shape[axis:]) for axis in range(1, len(shape))):
            if 0 < within < stride < count * within and not stride % within and not count * within % stride:
                outer = count * within // stride
                loops.append((outer, stride if step > 0 else -stride))
                count //= outer
        loops.append((count, step))
    return tuple(loops)


def _nested(offset: int, dims: tuple[Dim, ...], size: int) -> _Box | None:
    """Loops over positions below `size` as axes; None where their steps do not nest."""
    first = offset + sum(step * (count - 1) for count, step in dims if step < 0)
    loops = sorted(((abs(step), count, number) for number, (count, step) in enumerate(dims)), reverse=True)
    steps = [step for step, _, _ in loops] + [1] * (not loops or loops[-1][0] != 1)
    if any(step == 0 for step in steps) or size % steps[0] or any(a % b for a, b in pairwise(steps)):
        return None
    outer = [size, *steps[:-1]]
    radices = tuple(a // b for a, b in zip(outer, steps, strict=True))
    starts = tuple(int(k) for k in np.unravel_index(first, radices)) if first < size else None
    counts = tuple(count for _, count, _ in loops) + (1,) * (len(steps) - len(loops))
    if starts is None or any(k + count > radix for k, count, radix in zip(starts, counts, radices, strict=True)):
        return None
    places = {number: axis for axis, (_, _, number) in enumerate(loops)}
    order = (*(places[number] for number in range(len(dims))), *range(len(loops), len(steps)))
    flipped = tuple(places[number] for number, (_, step) in enumerate(dims) if step < 0)
    return _Box(radices, starts, counts, flipped, order)


def _box_of_steps(places: Stepped) -> _Box | None:
    if isinstance(places.outer, Nest) and isinstance(places.inner, Nest):
        return _box(places.offset, (*places.outer.dims, *places.inner.dims), places.parameter.shape)
    return None


def _of_positions_or_box(library: Library, places: Stepped, x: Array) -> Array:
    box = _box_of_steps(places)
    return library.at(x, _positions(places)) if box is None else box.read(library, x)


def _with_stepped(library: Library, places: Stepped, x: Array, values: Array) -> Array:
    box = _box_of_steps(places)
    return _put(library, x, _positions(places), values) if box is None else box.write(library, x, values)


def _positions(places: Stepped) -> np.ndarray:
    return np.asarray(places.offset + places.outer.table()[:, None] + places.inner.table()).ravel()


def _of_view(library: Library, view: View, x: Array) -> Array:
    box = _box(view.offset, view.dims, tuple(x.shape))
    return library.at(x, positions_of(view)) if box is None else box.read(library, x)


def _with_view(library: Library, view: View, x: Array, values: Array) -> Array:
    box = _box(view.offset, view.dims, tuple(x.shape))
    return _put(library, x, positions_of(view), values) if box is None else box.write(library, x, values)


def _of_set(library: Library, places: Chosen, x: Array) -> Array:
    if isinstance(places.entries, View):
        return _of_view(library, places.entries, x)
    return library.at(x, positions_of(places.entries))


def _with_set(library: Library, places: Chosen, x: Array, values: Array) -> Array:
    if isinstance(places.entries, View):
        return _with_view(library, places.entries, x, values)
    return _put(library, x, positions_of(places.entries), values)


def _of_part(library: Library, part: Part, x: Array) -> Array:
    return x if _is_whole(part) else library.at(x, part.positions)


def _with_part(library: Library, part: Part, x: Array, values: Array) -> Array:
    if _is_whole(part):
        return library.xp.reshape(library.cast(values, x.dtype), tuple(x.shape))
    return _put(library, x, part.positions, values)


def _is_whole(part: Part) -> bool:
    return part.listed is None and not len(part.missing)


def _put(library: Library, x: Array, positions: np.ndarray, values: Array) -> Array:
    return library.put(x, positions, library.xp.reshape(library.cast(values, x.dtype), (-1,)))


def _joined(library: Library, pieces: list[Array]) -> Array:
    """A single piece unchanged, several pieces as one flat row."""
    return pieces[0] if len(pieces) == 1 else library.xp.concat([library.xp.reshape(piece, (-1,)) for piece in pieces])


def _stacked(library: Library, pieces: list[Array]) -> Array:
    """As `_joined`, but pieces of one shape keep their axes, along which they may be split over devices."""
    shapes = {tuple(piece.shape) for piece in pieces}
    if len(pieces) == 1 or len(shapes) > 1:
        return _joined(library, pieces)
    return library.xp.stack(pieces, -1 - pieces[0].ndim)


def _unstacked(library: Library, values: Array, pieces: Sequence[Places | Part]) -> list[Array]:
    """The numbers of each piece, of values that are stacked or in one row."""
    sizes = [piece.size if isinstance(piece, Part) else piece.count for piece in pieces]
    if len(values.shape) > 1 and values.shape[0] == len(sizes) and len(set(sizes)) == 1:
        return [values[number] for number in range(len(sizes))]
    return _split(library, values, sizes)


def _split(library: Library, values: Array, sizes: list[int]) -> list[Array]:
    row, ends = library.xp.reshape(values, (-1,)), np.cumsum([0, *sizes]).tolist()
    return [row[first:last] for first, last in pairwise(ends)]
