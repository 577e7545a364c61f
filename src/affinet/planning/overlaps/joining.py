"""Join boxes of one or several weights that equations tie cell by cell: side by side they are one matrix again.

Sums along both axes of two matrices, and columns of the one that equal columns of the other: all of it says the same
small system about row i of both, for every i, and the sums over i commute with that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product as combinations_of
from math import prod

import numpy as np

from affinet.blocks.commuting import Commuting
from affinet.blocks.entry_sets import View
from affinet.blocks.joined import Joined
from affinet.blocks.offsets import Nest, located
from affinet.blocks.regular import RowBatch, collapsed, shared
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.planning.factors.slices import factor_slices
from affinet.planning.overlaps.grouping import grouped
from affinet.planning.overlaps.merging import arranged, common_loops, inner_places, loops_of, product
from affinet.planning.reading.candidates import Candidate
from affinet.system.rows import Rows
from affinet.system.system import System

MOST_ORIENTATIONS = 64
"""Ways to tell cells from the places inside them that are tried: two for each box with sums along both axes."""
LARGEST = 2**31
"""Entries of all boxes together."""


@dataclass(frozen=True, eq=False)
class _Box:
    """One box seen as a matrix (cells, places): the first `loops` of `view` run over cells.

    `within` are batches of which each equation is about one cell, `across` those of which each is about one place.
    """

    view: View
    loops: int
    within: tuple[RowBatch, ...]
    across: tuple[RowBatch, ...]

    @property
    def cells(self) -> int:
        return prod(size for size, _ in self.view.dims[: self.loops])

    @property
    def places(self) -> int:
        return prod(size for size, _ in self.view.dims[self.loops :])


def joined(
    candidates: Sequence[Candidate], rows: Rows, system: System, *, most_left: int
) -> tuple[Candidate, Integers] | None:
    """The candidates as one, with the rows that every cell has alike, and the numbers of these rows.

    None where they are not so tied, or more than `most_left` rows would be left over. Law: the block has the solutions
    of the batches of all candidates and of the rows it takes. Raises Contradiction where these cannot hold together.
    """
    if len(rows.columns) > system.limits.most_tying or any(one.whole or one.extra is not None for one in candidates):
        return None
    if all(one.divisible is not None for one in candidates):
        return None  # cells that share no equation: components solve them as quickly
    ways = [list(_orientations(one.batches)) for one in candidates]
    if prod(len(some) for some in ways) > MOST_ORIENTATIONS:
        return None
    for boxes in combinations_of(*ways):
        cells, places = boxes[0].cells, sum(box.places for box in boxes)
        if any(box.cells != cells for box in boxes) or cells < 2 or cells * places > LARGEST:
            continue
        repeated = _repeated(boxes, rows, system)
        if repeated is None or rows.count - len(repeated[1]) > most_left:
            continue
        equations, taken = repeated
        block = _block(boxes, equations, system)
        if block is not None:
            batches = tuple(batch for one in candidates for batch in one.batches)
            return Candidate(system, batches, extra=rows.select(taken), found=block), taken
    return None


def joins(batches: list[RowBatch], rows: Rows, system: System) -> bool:
    """Whether `joined` makes one block of the batches and of all the rows."""
    groups, products, clashing = grouped(batches, system)
    candidates = [Candidate(system, tuple(group), found=products.get(tuple(group))) for group in groups]
    return not clashing and joined(candidates, rows, system, most_left=0) is not None


def _orientations(batches: Sequence[RowBatch]) -> Iterator[_Box]:
    """The box that all batches fill, with the loops of one of them, inner or outer, over cells."""
    boxes = [box for box in map(loops_of, batches) if box is not None]
    if len(boxes) < len(batches) or len({(batch.parameter, batch.offset) for batch in batches}) > 1:
        return
    dims = common_loops(boxes)
    inner = [None] if dims is None else [inner_places(batch, dims) for batch in batches]
    if dims is None or any(axes is None for axes in inner):
        return
    known = [axes for axes in inner if axes is not None]
    seen: set[tuple[int, ...]] = set()
    for axes in known:
        rest = tuple(axis for axis in range(len(dims)) if axis not in axes)
        for over, inside in ((rest, axes), (axes, rest)):
            if over in seen or not over or any(own not in (over, inside) for own in known):
                continue
            seen.add(over)
            ordered = [arranged(batch, dims, own) for batch, own in zip(batches, known, strict=True)]
            yield _Box(
                View(batches[0].parameter, batches[0].offset, tuple(dims[axis] for axis in (*over, *inside))),
                len(over),
                tuple(batch for batch, own in zip(ordered, known, strict=True) if own == inside),
                tuple(batch for batch, own in zip(ordered, known, strict=True) if own == over),
            )


@dataclass(frozen=True, eq=False)
class _Equations:
    """`matrix @ x[k] == rhs[k]` for every k of a few things alike; `owner`, like `rhs`, has the rule of each."""

    matrix: Floats
    rhs: Floats
    owner: Integers

    @classmethod
    def of(cls, batches: Sequence[RowBatch], count: int, width: int) -> _Equations:
        """What all batches say of each of `count` cells of `width` entries, which they have in one order."""
        nothing = cls(np.zeros((0, width)), np.zeros((count, 0)), np.zeros((count, 0), np.int64))
        return _together([nothing, *(cls(batch.matrix, batch.rhs, batch.owner) for batch in batches)], count)

    def batch(self, parameter: Parameter, offset: int, outer: Nest, inner: Nest) -> RowBatch:
        """The same as a batch, what is equal for all held once."""
        return RowBatch(
            parameter, offset, outer, inner, shared(self.matrix), collapsed(self.rhs), collapsed(self.owner)
        )


def _together(parts: Sequence[_Equations], count: int) -> _Equations:
    rhs = [np.broadcast_to(part.rhs, (count, len(part.matrix))) for part in parts]
    owner = [np.broadcast_to(part.owner, (count, len(part.matrix))) for part in parts]
    matrix = np.concatenate([part.matrix for part in parts])
    return _Equations(matrix, np.concatenate(rhs, axis=1), np.concatenate(owner, axis=1))


def _repeated(boxes: Sequence[_Box], rows: Rows, system: System) -> tuple[_Equations, Integers] | None:
    """The rows of which each is about one cell, and which every cell has with the same coefficients; their numbers."""
    cells, width = boxes[0].cells, sum(box.places for box in boxes)
    cell, place = _located(boxes, rows.columns, system)
    known = np.abs(rows.rhs) == rows.magnitude  # what frozen weights leave of a right-hand side is rounded otherwise
    ends = np.maximum(rows.bounds[1:] - 1, 0)
    own = cell[np.minimum(ends, len(cell) - 1)]
    inside = np.ones(rows.count, bool)
    np.logical_and.at(inside, rows.row_of_each(), (cell >= 0) & (cell == np.repeat(own, rows.lengths)))
    members = np.flatnonzero(inside & known & (rows.lengths > 0))
    found: list[tuple[Floats, Integers]] = []
    for length in np.unique(rows.lengths[members]):
        some = members[rows.lengths[members] == length]
        at = rows.bounds[some][:, None] + np.arange(length)
        order = np.argsort(place[at], axis=1)
        places, values = (np.take_along_axis(part[at], order, axis=1) for part in (place, rows.values))
        found += _patterns(places, values, some, own[some], cells, width)
    stacked = (len(found) + sum(len(batch.matrix) for box in boxes for batch in box.within)) * width
    if not found or stacked > system.limits.most_stacked:
        return None
    taken = np.stack([numbers for _, numbers in found], axis=1)
    matrix = np.stack([equation for equation, _ in found])
    return _Equations(matrix, rows.rhs[taken], rows.rule[taken]), np.sort(taken.ravel())


def _patterns(
    places: Integers, values: Floats, rows: Integers, cell: Integers, cells: int, width: int
) -> Iterator[tuple[Floats, Integers]]:
    """Equations that every cell has as often as any other, dense, with the number of the row that says it in each."""
    keys = np.concatenate([places.astype(np.float64), values], axis=1)
    unique, which, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((cell, which.ravel()))
    for number, (first, count) in enumerate(zip(np.cumsum(counts) - counts, counts, strict=True)):
        members = order[first : first + count]
        if count % cells or (cell[members] != np.repeat(np.arange(cells), count // cells)).any():
            continue
        equation = np.zeros(width)
        equation[unique[number, : places.shape[1]].astype(np.int64)] = unique[number, places.shape[1] :]
        for again in members.reshape(cells, -1).T:
            yield equation, rows[again]


def _located(boxes: Sequence[_Box], columns: Integers, system: System) -> tuple[Integers, Integers]:
    """The cell of each column and its place there among those of all boxes side by side; −1 where no box has it."""
    cell, place = np.full(len(columns), -1, np.int64), np.full(len(columns), -1, np.int64)
    first = 0
    for box in boxes:
        parameter = box.view.parameter
        position = columns - system.layout.start(parameter)
        of_it = np.flatnonzero((position >= 0) & (position < parameter.size))
        found = located(box.view.dims, position[of_it] - box.view.offset)
        held = found >= 0
        cell[of_it[held]], within = np.divmod(found[held], box.places)
        place[of_it[held]] = first + within
        first += box.places
    return cell, place


def _block(boxes: Sequence[_Box], repeated: _Equations, system: System) -> Joined | Commuting | Slices | None:
    """The block of all equations; None where those across cells differ from box to box."""
    cells, width = boxes[0].cells, sum(box.places for box in boxes)
    if len(boxes) == 1:
        view, loops = boxes[0].view, boxes[0].loops
        parameter, offset = view.parameter, view.offset
        over, inside = Nest(view.dims[:loops]), Nest(view.dims[loops:])
    else:
        name = " and ".join(dict.fromkeys(box.view.parameter.name for box in boxes))
        parameter, offset = Parameter(name, (cells, width)), 0
        over, inside = Nest(((cells, width),)), Nest(((width, 1),))
    within = _within(boxes, repeated).batch(parameter, offset, over, inside)
    across = _across(boxes)
    if across is None:
        return None
    if not len(across.matrix):
        found: Commuting | Slices | None = factor_slices(within, system.tolerance)
    else:
        found = product([within, across.batch(parameter, offset, inside, over)], system.tolerance, system.limits)
        if found is not None and len(found.slices) < 2:
            return None
    if found is None or len(boxes) == 1:
        return found
    return Joined(tuple(box.view for box in boxes), cells, found)


def _within(boxes: Sequence[_Box], repeated: _Equations) -> _Equations:
    """What is said about every cell, boxes side by side."""
    cells, width = boxes[0].cells, sum(box.places for box in boxes)
    parts, first = [repeated], 0
    for box in boxes:
        own = _Equations.of(box.within, cells, box.places)
        matrix = np.zeros((len(own.matrix), width))
        matrix[:, first : first + box.places] = own.matrix
        parts.append(_Equations(matrix, own.rhs, own.owner))
        first += box.places
    return _together(parts, cells)


def _across(boxes: Sequence[_Box]) -> _Equations | None:
    """What is said about every place, which has to be the same for all boxes but for factors; None where it is not."""
    parts = [_Equations.of(box.across, box.places, box.cells) for box in boxes]
    matrix, rhs = parts[0].matrix, []
    for part in parts:
        factors = _factors(matrix, part.matrix)
        if factors is None:
            return None
        rhs.append(part.rhs * factors)
    return _Equations(matrix, np.concatenate(rhs), np.concatenate([part.owner for part in parts]))


def _factors(one: Floats, other: Floats) -> Floats | None:
    """By what the rows of `other` are to be multiplied to be those of `one`; None where they are none of these."""
    if one.shape != other.shape:
        return None
    numbers, largest = np.arange(len(one)), np.abs(one).argmax(axis=1)
    scale = one[numbers, largest] / np.where(other[numbers, largest] == 0.0, np.inf, other[numbers, largest])
    return scale if np.array_equal(one, other * scale[:, None]) else None


__all__ = ["joined", "joins"]
