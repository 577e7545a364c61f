"""Pack arrays for a file: views of the same memory share it in the file, so that a view of a few numbers stays one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from affinet.language.calculus.marked import BIT_COUNTS
from affinet.system.malformed import LARGEST, MOST, Malformed, fields, integer, integers, items

Array = NDArray[Any]
DTYPES = ("float64", "int32", "int64", "float32", "uint8")
WIDEST = 8
"""Bytes of a number of the widest dtype."""

MOST_AXES = 32
"""Axes that every version of NumPy supports."""

MOST_READ = 2**30
"""At least this many entries of tables may be read to check a file, which takes seconds."""


@dataclass(frozen=True)
class View:
    """An array as a window on the row of numbers `row`; `strides` count numbers, not bytes."""

    row: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def table(self) -> dict[str, Any]:
        """The view as a table of a file."""
        return {"row": self.row, "offset": self.offset, "shape": [*self.shape], "strides": [*self.strides]}


@dataclass(frozen=True)
class Arrays:
    """Arrays to be stored; `put` returns the number of an array, always the same for the same array."""

    _numbers: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _arrays: list[Array] = field(default_factory=list)

    def put(self, array: Array) -> int:
        """The number under which `packed` lists the view of `array`."""
        assert array.dtype.name in DTYPES, f"arrays of {array.dtype} are not stored"
        key = (_address(array), array.dtype.str, array.shape, array.strides)
        number = self._numbers.setdefault(key, len(self._arrays))
        if number == len(self._arrays):
            self._arrays.append(array)
        return number

    def packed(self) -> tuple[list[Array], list[View]]:
        """Rows of numbers, and every array as a view of one of them, in the order in which they were put.

        Arrays whose memory overlaps share a row that spans them, if it is not longer than the sum of their lengths. The
        memory order of an array is kept: rounding of sums and products depends on it, and a loaded plan has the same
        bits.
        """
        pieces = [piece for group in _group_overlapping(self._arrays) for piece in _pack_group(self._arrays, group)]
        pieces.sort(key=lambda piece: min(piece[1]))
        views = {
            k: View(number, *window) for number, (_, windows) in enumerate(pieces) for k, window in windows.items()
        }
        return [row for row, _ in pieces], [views[k] for k in range(len(self._arrays))]


@dataclass(frozen=True, eq=False)
class Restored:
    """Arrays from a file by number; `largest` bounds the finite magnitudes in each, `infinite` flags rows with others.

    `_budget` is how many entries of tables may still be read: a small file can hold many long tables that overlap.
    """

    arrays: tuple[Array, ...]
    largest: tuple[float, ...]
    infinite: tuple[bool, ...]
    _budget: list[int]
    _reaches: dict[int, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[Array], views: object) -> Restored:
        """Windows on rows of numbers. Raises Malformed for a window that reaches beyond its row."""
        sizes = [_largest(row, f"array {number}") for number, row in enumerate(rows)]
        windows = [_read_view(value, f"view {number}", rows) for number, value in enumerate(items(views, "views"))]
        arrays = tuple(_restore_view(rows[view.row], view) for view in windows)
        budget = max(MOST_READ, 4 * sum(row.size for row in rows))
        of_views = [sizes[view.row] for view in windows]
        largest, infinite = tuple(size for size, _ in of_views), tuple(has_infinite for _, has_infinite in of_views)
        return cls(arrays, largest, infinite, [budget])

    def number(self, value: object, where: str) -> int:
        """The number of an array that a table `{"view": …}` names. Raises Malformed."""
        return integer(fields(value, where, ("view",))["view"], f"view of {where}", 0, len(self.arrays) - 1)

    def marked(self, number: int, size: int) -> int:
        """The Trues of a mask of `size` places that is packed in an array of bits. Raises Malformed."""
        bits = self.arrays[number]
        if bits.dtype.name != "uint8" or bits.shape != (-(-size // 8),) or not bits.flags.c_contiguous:
            raise Malformed(f"a mask of {size} places is {bits.dtype} of shape {bits.shape}, not their bits")
        self._spend(bits.size)
        if size % 8 and int(bits[-1]) & (255 >> size % 8):
            raise Malformed("a mask is longer than its places")
        return int(BIT_COUNTS[bits].sum(dtype=np.int64))

    def reach(self, number: int) -> tuple[float, float]:
        """The smallest and the largest number in an array."""
        if number not in self._reaches:
            numbers = self.arrays[number]
            self._spend(numbers.size)
            self._reaches[number] = numbers.min().item(), numbers.max().item()
        return self._reaches[number]

    def _spend(self, entries: int) -> None:
        self._budget[0] -= entries
        if self._budget[0] < 0:
            raise Malformed("its tables overlap so often that reading them would take too long")


Window = tuple[int, tuple[int, ...], tuple[int, ...]]
Piece = tuple[Array, dict[int, Window]]


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _extent(array: Array) -> tuple[int, int]:
    """The address of the first byte of an array, and of the byte after the last."""
    reach = [step * (n - 1) for step, n in zip(array.strides, array.shape, strict=True)]
    start = _address(array)
    return start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0) + array.itemsize


def _group_overlapping(arrays: Sequence[Array]) -> list[list[int]]:
    """Numbers of arrays of one dtype whose memory overlaps, directly or through others."""
    extents = [_extent(array) for array in arrays]
    groups: list[list[int]] = []
    first, reach, kind = 0, 0, ""
    for k in sorted(range(len(arrays)), key=lambda k: (arrays[k].dtype.str, extents[k])):
        (low, high), dtype = extents[k], arrays[k].dtype
        if groups and dtype.str == kind and low < reach and (low - first) % dtype.itemsize == 0:
            groups[-1].append(k)
            reach = max(reach, high)
        else:
            groups.append([k])
            first, reach, kind = low, high, dtype.str
    return groups


def _pack_group(arrays: Sequence[Array], group: Sequence[int]) -> list[Piece]:
    """One row that spans the group, or one row per array if the span holds more numbers than the arrays."""
    extents = [_extent(arrays[k]) for k in group]
    low, high = min(low for low, _ in extents), max(high for _, high in extents)
    if high - low <= sum(_bytes_without_repetitions(arrays[k]) for k in group):
        lowest = arrays[group[extents.index(min(extents))]]
        corner = lowest[tuple(slice(0, 1) if step >= 0 else slice(-1, None) for step in lowest.strides)]
        row = as_strided(corner, ((high - low) // lowest.itemsize,), (lowest.itemsize,), writeable=False)
        if np.isfinite(row).all():  # numbers between those of a view may be anything
            return [(row, {k: _window_on(arrays[k], low) for k in group})]
    return [_repack(arrays[k], k) for k in group]


def _bytes_without_repetitions(array: Array) -> int:
    numbers: int = prod(n for n, step in zip(array.shape, array.strides, strict=True) if step)
    return numbers * array.itemsize


def _window_on(array: Array, low: int) -> Window:
    size = array.itemsize
    return (_address(array) - low) // size, array.shape, tuple(step // size for step in array.strides)


def _repack(array: Array, number: int) -> Piece:
    """The numbers of an array in the order in which they lie in memory, without repetitions and gaps."""
    turned = tuple(slice(None, None, -1) if step < 0 else slice(None) for step in array.strides)
    once = tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)
    small = np.copy(array[turned][once], order="K")
    view = np.broadcast_to(small, array.shape)[turned]
    return small.ravel(order="K"), {number: _window_on(view, _address(small))}


def _largest(row: Array, where: str) -> tuple[float, bool]:
    """The largest finite magnitude in a row, and whether it has infinite numbers, which only bounds may be.

    Raises Malformed for anything but a row of numbers, and for NaN.
    """
    if row.ndim != 1 or not row.size or row.dtype.name not in DTYPES:
        raise Malformed(f"{where} has shape {row.shape} and dtype {row.dtype}, not one axis of {', '.join(DTYPES)}")
    largest = float(max(-float(row.min()), float(row.max())))
    infinite = largest == math.inf
    if infinite:
        largest = float(np.abs(row[~np.isinf(row)]).max(initial=0.0))
    if not largest <= LARGEST:
        raise Malformed(f"{where} has numbers that are NaN or beyond {LARGEST:g}")
    return largest, infinite


def _read_view(value: object, where: str, rows: Sequence[Array]) -> View:
    table = fields(value, where, ("row", "offset", "shape", "strides"))
    row = integer(table["row"], f"row of {where}", 0, len(rows) - 1)
    shape = integers(table["shape"], f"shape of {where}", 1)
    strides = integers(table["strides"], f"strides of {where}", -MOST // WIDEST, MOST // WIDEST)
    offset = integer(table["offset"], f"offset of {where}")
    if len(shape) != len(strides) or len(shape) > MOST_AXES or WIDEST * prod(shape) > MOST:
        raise Malformed(f"{where} has {len(shape)} axes and {len(strides)} strides, or more bytes than 64 bits count")
    reach = [step * (n - 1) for step, n in zip(strides, shape, strict=True)]
    low, high = offset + sum(r for r in reach if r < 0), offset + sum(r for r in reach if r > 0)
    if low < 0 or high >= rows[row].size:
        raise Malformed(f"{where} reaches from {low} to {high} of the {rows[row].size} numbers of its row")
    return View(row, offset, shape, strides)


def _restore_view(row: Array, view: View) -> Array:
    strides = tuple(step * row.itemsize for step in view.strides)
    return as_strided(row[view.offset :], view.shape, strides, writeable=row.flags.writeable and _entries_differ(view))


def _entries_differ(view: View) -> bool:
    """Whether no two entries of the view are the same number, so that it may be written to."""
    reach = sum(abs(step) * (n - 1) for step, n in zip(view.strides, view.shape, strict=True))
    return 0 not in view.strides and reach + 1 >= prod(view.shape)
