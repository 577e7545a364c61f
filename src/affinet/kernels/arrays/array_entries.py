"""Reads the entries of a block from flat row-major arrays, as a view where they are regular, and writes them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import as_strided

from affinet.blocks.entry_sets import Intervals, Masked, View, box_in
from affinet.blocks.offsets import Nest
from affinet.blocks.places import Adjacent, Chosen, Following, Listed, Part, Places, Stepped

Flat = Mapping[str, np.ndarray]
"""The numbers of each parameter, flat and row-major."""


def read(places: Places, flat: Flat) -> np.ndarray:
    """The entries in the order of the places: a view of one array in its dtype where that is possible."""
    match places:
        case Stepped():
            return _of_steps(places).read(flat[places.parameter.name])
        case Chosen():
            return _of_set(places, flat[places.parameter.name])
        case Listed():
            return _joined([_of_part(part, flat[part.parameter.name]) for part in places.parts])
        case Following():
            return _joined([read(piece, flat) for piece in _pieces(places)])
        case Adjacent():
            pieces = [box_in(flat[view.parameter.name], view).reshape(places.rows, -1) for view in places.members]
            return np.concatenate(pieces, axis=1)
        case _:
            assert_never(places)


def write(places: Places, flat: Flat, values: np.ndarray) -> None:
    """Write entries back, rounded to the dtype of their array."""
    match places:
        case Stepped():
            _of_steps(places).write(flat[places.parameter.name], values)
        case Chosen():
            _put_set(places, flat[places.parameter.name], values)
        case Listed():
            sizes = [part.size for part in places.parts]
            for part, part_values in zip(places.parts, _split(values, sizes), strict=True):
                flat[part.parameter.name][_index(part)] = part_values
        case Following():
            pieces = _pieces(places)
            parts = [values] if len(pieces) == 1 else _split(values, [piece.count for piece in pieces])
            for piece, part_values in zip(pieces, parts, strict=True):
                write(piece, flat, part_values)
        case Adjacent():
            ends = zip(places.members, places.bounds, places.bounds[1:], strict=False)
            for view, first, last in ends:
                box = box_in(flat[view.parameter.name], view)
                box[...] = values[:, first:last].reshape(box.shape)
        case _:
            assert_never(places)


def _pieces(places: Following) -> list[Places]:
    """The places that contain any entry."""
    return [piece for piece in places.pieces if piece.count]


@dataclass(frozen=True)
class _Box:
    """Cells of one parameter as a strided view: the loops over cells, then those inside a cell."""

    places: Stepped
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    def read(self, flat: np.ndarray) -> np.ndarray:
        strides = tuple(step * flat.itemsize for step in self.steps)
        return as_strided(flat[self.places.offset :], self.sizes, strides)

    def write(self, flat: np.ndarray, values: np.ndarray) -> None:
        box = self.read(flat)
        values = values.reshape(box.shape)
        same = values.dtype == box.dtype and values.strides == box.strides
        if not (same and values.__array_interface__["data"] == box.__array_interface__["data"]):
            box[...] = values


@dataclass(frozen=True)
class _Cells:
    """Cells of one parameter at irregular positions, (cells, entries of a cell)."""

    places: Stepped

    def read(self, flat: np.ndarray) -> np.ndarray:
        return np.asarray(flat[self._positions()])

    def write(self, flat: np.ndarray, values: np.ndarray) -> None:
        positions = self._positions()
        flat[positions] = values.reshape(positions.shape)

    def _positions(self) -> np.ndarray:
        outer, inner = self.places.outer.table(), self.places.inner.table()
        return np.asarray(self.places.offset + outer[:, None] + inner)


def _of_steps(places: Stepped) -> _Box | _Cells:
    if isinstance(places.outer, Nest) and isinstance(places.inner, Nest):
        dims = (*places.outer.dims, *places.inner.dims)
        return _Box(places, tuple(size for size, _ in dims), tuple(step for _, step in dims))
    return _Cells(places)


def _of_set(places: Chosen, flat: np.ndarray) -> np.ndarray:
    match places.entries:
        case View():
            return np.asarray(box_in(flat, places.entries))
        case Masked():
            return flat[places.entries.mask]
        case Intervals():
            return np.concatenate([flat[first:last] for first, last in _runs(places.entries)])
        case _:
            assert_never(places.entries)


def _put_set(places: Chosen, flat: np.ndarray, values: np.ndarray) -> None:
    match places.entries:
        case View():
            box = box_in(flat, places.entries)
            box[...] = values.reshape(box.shape)
        case Masked():
            flat[places.entries.mask] = values.reshape(-1)
        case Intervals():
            runs = _runs(places.entries)
            for (first, last), run_values in zip(
                runs, _split(values, [last - first for first, last in runs]), strict=True
            ):
                flat[first:last] = run_values
        case _:
            assert_never(places.entries)


def _runs(places: Intervals) -> list[tuple[int, int]]:
    return list(zip(places.first.tolist(), places.last.tolist(), strict=True))


def _of_part(part: Part, flat: np.ndarray) -> np.ndarray:
    return np.asarray(flat[_index(part)])


def _index(part: Part) -> np.ndarray | slice:
    if part.listed is None and not len(part.missing):
        return slice(None)
    return part.positions


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    """A single piece unchanged, several pieces as one flat row."""
    return pieces[0] if len(pieces) == 1 else np.concatenate([piece.reshape(-1) for piece in pieces])


def _split(values: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(values.reshape(-1), np.cumsum(sizes)[:-1])
