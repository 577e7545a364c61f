"""Join boxes of one or several weights that equations tie cell by cell: side by side they form one matrix.

An example: sums along both axes of two matrices, and columns of one matrix that equal columns of the other. The row
sums and the ties are the same small system over row i of both matrices, for every i, and the sums over i commute with
it.
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
from affinet.planning.factors.slice_factors import factor_slices
from affinet.planning.overlaps.grouping import group_batches
from affinet.planning.overlaps.merging import arrange, common_loops, inner_places, loops_of, product
from affinet.planning.reading.candidates import Candidate
from affinet.system.rows import Rows
from affinet.system.system import System

MOST_ORIENTATIONS = 64
"""Combinations of orientations that are tried; each box with sums along both axes has two."""
LARGEST = 2**31
"""Entries of all boxes together."""


@dataclass(frozen=True, eq=False)
class _Box:
    """One box as a matrix (cells, places): the first `loops` loops of `view` run over cells.

    Each equation of the batches `within` is over one cell; each of the batches `across` is over one place.
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


def join(
    candidates: Sequence[Candidate], rows: Rows, system: System, *, most_remaining: int
) -> tuple[Candidate, Integers] | None:
    """Join the candidates and the rows that are equal in every cell into one candidate; also the numbers of these rows.

    None if the rows do not repeat so, or more than `most_remaining` rows would remain. Law: the block has the solutions
    of the batches of all candidates and of the rows it includes. Raises Contradiction if these cannot hold together.
    """
    if len(rows.columns) > system.limits.most_tying:
        return None
    if any(candidate.rules or candidate.extra is not None for candidate in candidates):
        return None
    if all(candidate.divisible is not None for candidate in candidates):
        return None  # no equation connects the cells: components solve them as quickly
    orientations = [list(_list_orientations(candidate.batches)) for candidate in candidates]
    if prod(len(boxes) for boxes in orientations) > MOST_ORIENTATIONS:
        return None
    for boxes in combinations_of(*orientations):
        cells, places = boxes[0].cells, sum(box.places for box in boxes)
        if any(box.cells != cells for box in boxes) or cells < 2 or cells * places > LARGEST:
            continue
        repetition = _find_repeated(boxes, rows, system)
        if repetition is None or rows.count - len(repetition[1]) > most_remaining:
            continue
        equations, used_rows = repetition
        block = _make_block(boxes, equations, system)
        if block is not None:
            batches = tuple(batch for candidate in candidates for batch in candidate.batches)
            return Candidate(system, batches, extra=rows.select(used_rows), solved=block), used_rows
    return None


def can_join(batches: list[RowBatch], rows: Rows, system: System) -> bool:
    """Whether `join` makes one block of the batches and of all the rows."""
    groups, products, clashing = group_batches(batches, system)
    candidates = [Candidate(system, tuple(group), solved=products.get(tuple(group))) for group in groups]
    return not clashing and join(candidates, rows, system, most_remaining=0) is not None


def _list_orientations(batches: Sequence[RowBatch]) -> Iterator[_Box]:
    """The box that all batches fill, in every orientation: the inner or the outer loops of a batch run over cells."""
    boxes = [box for box in map(loops_of, batches) if box is not None]
    if len(boxes) < len(batches) or len({(batch.parameter, batch.offset) for batch in batches}) > 1:
        return
    dims = common_loops(boxes)
    inner = [None] if dims is None else [inner_places(batch, dims) for batch in batches]
    if dims is None or any(axes is None for axes in inner):
        return
    known = [axes for axes in inner if axes is not None]
    tried: set[tuple[int, ...]] = set()
    for axes in known:
        outer_axes = tuple(axis for axis in range(len(dims)) if axis not in axes)
        for cell_axes, place_axes in ((outer_axes, axes), (axes, outer_axes)):
            if cell_axes in tried or not cell_axes or not {*known} <= {cell_axes, place_axes}:
                continue
            tried.add(cell_axes)
            ordered = [arrange(batch, dims, inner_axes) for batch, inner_axes in zip(batches, known, strict=True)]
            yield _Box(
                View(batches[0].parameter, batches[0].offset, tuple(dims[axis] for axis in (*cell_axes, *place_axes))),
                len(cell_axes),
                tuple(batch for batch, inner_axes in zip(ordered, known, strict=True) if inner_axes == place_axes),
                tuple(batch for batch, inner_axes in zip(ordered, known, strict=True) if inner_axes == cell_axes),
            )


@dataclass(frozen=True, eq=False)
class _Equations:
    """`matrix @ x[k] == rhs[k]` for every cell or place k; `owner` has the shape of `rhs` and holds the rules."""

    matrix: Floats
    rhs: Floats
    owner: Integers

    @classmethod
    def of(cls, batches: Sequence[RowBatch], count: int, width: int) -> _Equations:
        """The equations of all batches over each of `count` cells of `width` entries; all batches order cells alike."""
        no_equations = cls(np.zeros((0, width)), np.zeros((count, 0)), np.zeros((count, 0), np.int64))
        return _concatenate([no_equations, *(cls(batch.matrix, batch.rhs, batch.owner) for batch in batches)], count)

    def batch(self, parameter: Parameter, offset: int, outer: Nest, inner: Nest) -> RowBatch:
        """The equations as a batch; what is equal for all cells is stored once."""
        return RowBatch(
            parameter, offset, outer, inner, shared(self.matrix), collapsed(self.rhs), collapsed(self.owner)
        )


def _concatenate(parts: Sequence[_Equations], count: int) -> _Equations:
    rhs = [np.broadcast_to(part.rhs, (count, len(part.matrix))) for part in parts]
    owner = [np.broadcast_to(part.owner, (count, len(part.matrix))) for part in parts]
    matrix = np.concatenate([part.matrix for part in parts])
    return _Equations(matrix, np.concatenate(rhs, axis=1), np.concatenate(owner, axis=1))


def _find_repeated(boxes: Sequence[_Box], rows: Rows, system: System) -> tuple[_Equations, Integers] | None:
    """The rows within one cell that every cell has with the same coefficients, and their numbers."""
    cells, width = boxes[0].cells, sum(box.places for box in boxes)
    cell, place = _locate(boxes, rows.columns, system)
    plain = np.abs(rows.rhs) == rows.magnitude  # right-hand sides with frozen weights are rounded relative to more
    ends = np.maximum(rows.bounds[1:] - 1, 0)
    cell_of_row = cell[np.minimum(ends, len(cell) - 1)]
    in_one_cell = np.ones(rows.count, bool)
    np.logical_and.at(in_one_cell, rows.row_of_each(), (cell >= 0) & (cell == np.repeat(cell_of_row, rows.lengths)))
    members = np.flatnonzero(in_one_cell & plain & (rows.lengths > 0))
    equations: list[tuple[Floats, Integers]] = []
    for length in np.unique(rows.lengths[members]):
        rows_of_length = members[rows.lengths[members] == length]
        values_at = rows.bounds[rows_of_length][:, None] + np.arange(length)
        order = np.argsort(place[values_at], axis=1)
        places, values = (np.take_along_axis(part[values_at], order, axis=1) for part in (place, rows.values))
        equations += _find_patterns(places, values, rows_of_length, cell_of_row[rows_of_length], cells, width)
    stacked = (len(equations) + sum(len(batch.matrix) for box in boxes for batch in box.within)) * width
    if not equations or stacked > system.limits.most_stacked:
        return None
    row_numbers = np.stack([numbers for _, numbers in equations], axis=1)
    matrix = np.stack([equation for equation, _ in equations])
    return _Equations(matrix, rows.rhs[row_numbers], rows.rule[row_numbers]), np.sort(row_numbers.ravel())


def _find_patterns(
    places: Integers, values: Floats, rows: Integers, cell: Integers, cells: int, width: int
) -> Iterator[tuple[Floats, Integers]]:
    """Dense equations that every cell has equally often, with the number of their row in each cell."""
    keys = np.concatenate([places.astype(np.float64), values], axis=1)
    unique, pattern_of, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((cell, pattern_of.ravel()))
    for number, (first, count) in enumerate(zip(np.cumsum(counts) - counts, counts, strict=True)):
        members = order[first : first + count]
        if count % cells or (cell[members] != np.repeat(np.arange(cells), count // cells)).any():
            continue
        equation = np.zeros(width)
        equation[unique[number, : places.shape[1]].astype(np.int64)] = unique[number, places.shape[1] :]
        for repetition in members.reshape(cells, -1).T:
            yield equation, rows[repetition]


def _locate(boxes: Sequence[_Box], columns: Integers, system: System) -> tuple[Integers, Integers]:
    """The cell of each column, and its place in the cell of all boxes side by side; −1 for columns in no box."""
    cell, place = np.full(len(columns), -1, np.int64), np.full(len(columns), -1, np.int64)
    first = 0
    for box in boxes:
        parameter = box.view.parameter
        position = columns - system.layout.start(parameter)
        in_parameter = np.flatnonzero((position >= 0) & (position < parameter.size))
        place_in_box = located(box.view.dims, position[in_parameter] - box.view.offset)
        in_box = place_in_box >= 0
        cell[in_parameter[in_box]], place_in_cell = np.divmod(place_in_box[in_box], box.places)
        place[in_parameter[in_box]] = first + place_in_cell
        first += box.places
    return cell, place


def _make_block(boxes: Sequence[_Box], repeated: _Equations, system: System) -> Joined | Commuting | Slices | None:
    """The block of all equations; None if the equations across cells differ between boxes."""
    cells, width = boxes[0].cells, sum(box.places for box in boxes)
    if len(boxes) == 1:
        view, loops = boxes[0].view, boxes[0].loops
        parameter, offset = view.parameter, view.offset
        cell_loops, place_loops = Nest(view.dims[:loops]), Nest(view.dims[loops:])
    else:
        name = " and ".join(dict.fromkeys(box.view.parameter.name for box in boxes))
        parameter, offset = Parameter(name, (cells, width)), 0
        cell_loops, place_loops = Nest(((cells, width),)), Nest(((width, 1),))
    within = _equations_within(boxes, repeated).batch(parameter, offset, cell_loops, place_loops)
    across = _equations_across(boxes)
    if across is None:
        return None
    if not len(across.matrix):
        block: Commuting | Slices | None = factor_slices(within, system.tolerance)
    else:
        block = product(
            [within, across.batch(parameter, offset, place_loops, cell_loops)], system.tolerance, system.limits
        )
        if block is not None and len(block.slices) < 2:
            return None
    if block is None or len(boxes) == 1:
        return block
    return Joined(tuple(box.view for box in boxes), cells, block)


def _equations_within(boxes: Sequence[_Box], repeated: _Equations) -> _Equations:
    """The equations of every cell, boxes side by side."""
    cells, width = boxes[0].cells, sum(box.places for box in boxes)
    parts, first = [repeated], 0
    for box in boxes:
        equations = _Equations.of(box.within, cells, box.places)
        matrix = np.zeros((len(equations.matrix), width))
        matrix[:, first : first + box.places] = equations.matrix
        parts.append(_Equations(matrix, equations.rhs, equations.owner))
        first += box.places
    return _concatenate(parts, cells)


def _equations_across(boxes: Sequence[_Box]) -> _Equations | None:
    """The equations of every place; None unless they are equal for all boxes up to factors."""
    parts = [_Equations.of(box.across, box.places, box.cells) for box in boxes]
    matrix, rhs = parts[0].matrix, []
    for part in parts:
        factors = _find_factors(matrix, part.matrix)
        if factors is None:
            return None
        rhs.append(part.rhs * factors)
    return _Equations(matrix, np.concatenate(rhs), np.concatenate([part.owner for part in parts]))


def _find_factors(first: Floats, second: Floats) -> Floats | None:
    """The factors that turn the rows of `second` into those of `first`; None if they are not multiples."""
    if first.shape != second.shape:
        return None
    numbers, largest = np.arange(len(first)), np.abs(first).argmax(axis=1)
    scale = first[numbers, largest] / np.where(second[numbers, largest] == 0.0, np.inf, second[numbers, largest])
    return scale if np.array_equal(first, second * scale[:, None]) else None


__all__ = ["can_join", "join"]
