"""Make blocks of programs: boxes, cones, chains and polyhedra."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from affinet.blocks.chain import Chain
from affinet.blocks.classes import Classes
from affinet.blocks.cone import Cone
from affinet.blocks.offsets import Nest, compress
from affinet.blocks.places import Listed, Part, Places, Stepped
from affinet.blocks.polyhedron import Polyhedron
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.inequalities.halfspaces import Unknowns
from affinet.planning.inequalities.programs import Programs
from affinet.system.layout import Layout

Owners = Callable[[Programs], tuple[int, ...]]
"""The rules of programs."""
Set = Cone | Chain | Polyhedron


def make_sets(programs: Sequence[Programs], unknowns: Unknowns, layout: Layout, owners: Owners) -> list[Set]:
    """One block for all programs of one form, or several where they lie in several parameters."""
    entries = np.bincount(unknowns.node, minlength=len(unknowns.columns))
    blocks: list[Set] = []
    for program in programs:
        plain = (entries[program.nodes] == 1).all(axis=1)
        inside = plain & _in_one_parameter(unknowns.columns[program.nodes], layout)
        for cells in _by_parameter(program, inside, unknowns, layout):
            blocks += _structured(program.select(cells), unknowns, layout, owners)
        if not inside.all():
            blocks += _polyhedra(program.select(np.flatnonzero(~inside)), unknowns, layout, owners)
    return blocks


def _in_one_parameter(columns: Integers, layout: Layout) -> np.ndarray:
    numbers = layout.numbers(columns.ravel()).reshape(columns.shape)
    return np.asarray((numbers == numbers[:, :1]).all(axis=1))


def _by_parameter(program: Programs, inside: np.ndarray, unknowns: Unknowns, layout: Layout) -> list[Integers]:
    """The cells marked, by the parameter of their entries."""
    cells = np.flatnonzero(inside)
    numbers = layout.numbers(unknowns.columns[program.nodes[cells, 0]])
    return [cells[numbers == number] for number in np.unique(numbers)]


def _structured(program: Programs, unknowns: Unknowns, layout: Layout, owners: Owners) -> list[Set]:
    """Cells of untied entries of one parameter."""
    if program.height <= 1:
        return [_cone(program, unknowns, layout, owners)]
    chain = None if program.equations else _chain(program, unknowns, layout, owners)
    return [chain] if chain is not None else _polyhedra(program, unknowns, layout, owners)


def _cone(program: Programs, unknowns: Unknowns, layout: Layout, owners: Owners) -> Cone:
    columns, order, within = _in_order(unknowns.columns[program.nodes])
    program = program.select(order)
    row = np.take_along_axis(program.dense()[:, 0], within, axis=1) if program.height else None
    lower, upper = (np.take_along_axis(side, within, axis=1) for side in (program.lower, program.upper))
    return Cone(
        places_of_cells(columns, layout),
        len(columns),
        columns.shape[1],
        None if row is None else _collapsed(row),
        _collapsed(program.rhs) if program.height else np.zeros((1, 1)),
        program.equations == 1,
        _collapsed(lower),
        _collapsed(upper),
        owners(program),
    )


def _chain(program: Programs, unknowns: Unknowns, layout: Layout, owners: Owners) -> Chain | None:
    """The chains that the programs are, if each is a path `w_i <= w_j − gap` with equal bounds for all its entries."""
    (count, width), height = program.nodes.shape, program.height
    if width != height + 1 or any((side != side[:, :1]).any() for side in (program.lower, program.upper)):
        return None
    differences = _differences(program.matrix)
    if differences is None:
        return None
    below, above, size = differences
    following = np.full((count, width), -1)
    gap_after = np.zeros((count, width))
    cells = np.arange(count)[:, None]
    following[cells, below], gap_after[cells, below] = above, -program.rhs / size
    is_first = np.ones((count, width), bool)
    is_first[cells, above] = False
    if (is_first.sum(axis=1) != 1).any() or ((following >= 0).sum(axis=1) != height).any():
        return None
    at, order, gaps = is_first.argmax(axis=1), [], []
    for _ in range(width):
        order.append(at)
        gaps.append(gap_after[np.arange(count), at])
        at = following[np.arange(count), at]
    places = np.stack(order, axis=1)
    bounded = np.isfinite(program.lower).any() or np.isfinite(program.upper).any()
    if bounded and any(gap.any() for gap in gaps[:-1]):  # clipping after pooling is exact only without gaps
        return None
    if (places < 0).any() or (np.sort(places, axis=1) != np.arange(width)).any():
        return None
    columns = np.take_along_axis(unknowns.columns[program.nodes], places, axis=1)
    cell_order = np.argsort(columns[:, 0], kind="stable")
    gap = np.stack(gaps[:-1], axis=1)[cell_order]
    chosen = program.select(cell_order)
    return Chain(
        places_of_cells(columns[cell_order], layout), count, width, _collapsed(gap),
        _collapsed(chosen.lower[:, :1]), _collapsed(chosen.upper[:, :1]), owners(program),
    )  # fmt: skip


def _differences(matrix: Floats | sparse.csr_array) -> tuple[Integers, Integers, Floats] | None:
    """Of rows `size · (w[below] − w[above])`, these numbers (cells, rows); None if a row has another form."""
    if isinstance(matrix, sparse.csr_array):
        if (np.diff(matrix.indptr) != 2).any():
            return None
        values, places = matrix.data.reshape(1, -1, 2), matrix.indices.reshape(1, -1, 2).astype(np.int64)
    else:
        if ((matrix != 0).sum(axis=2) != 2).any():
            return None
        places = np.stack([matrix.argmax(axis=2), matrix.argmin(axis=2)], axis=2)
        values = np.take_along_axis(matrix, places, axis=2)
    if np.abs(values.sum(axis=2)).max() > 0.0:
        return None
    larger = values.argmax(axis=2)[..., None]
    below, above = (np.take_along_axis(places, place, axis=2)[..., 0] for place in (larger, 1 - larger))
    return below, above, np.take_along_axis(values, larger, axis=2)[..., 0]


def _polyhedra(program: Programs, unknowns: Unknowns, layout: Layout, owners: Owners) -> list[Set]:
    """One polyhedron of all cells; its classes are the nodes, cell after cell."""
    nodes = program.nodes.ravel()
    number = np.full(len(unknowns.columns), -1, np.int64)
    number[nodes] = np.arange(len(nodes))
    places = np.flatnonzero(number[unknowns.node] >= 0)
    pieces = layout.split(unknowns.columns[places])
    order = places[np.concatenate([within for _, within, _ in pieces])]
    parts = tuple(Part(parameter, positions) for parameter, _, positions in pieces)
    at = np.full(len(unknowns.columns), -1, np.int64)
    at[order] = np.arange(len(order))
    classes = Classes(
        number[unknowns.node[order]],
        _collapsed_flat(unknowns.scale[order]),
        _collapsed_flat(unknowns.shift[order]),
        at[nodes],
    )
    matrix = program.matrix
    return [
        Polyhedron(
            parts, classes, matrix, program.rhs, program.equations, program.lower, program.upper, owners(program)
        )
    ]


def _in_order(columns: Integers) -> tuple[Integers, Integers, Integers]:
    """Cells by their first entry and entries in ascending order; the order of the cells, and of entries in each."""
    within = np.argsort(columns, axis=1)
    columns = np.take_along_axis(columns, within, axis=1)
    order = np.argsort(columns[:, 0], kind="stable")
    return columns[order], order, within[order]


def places_of_cells(columns: Integers, layout: Layout) -> Places:
    """Cells of one parameter, as steps where the cells have one form and lie at regular places."""
    number = int(layout.numbers(columns[:1, 0])[0])
    parameter, start = layout.parameters[number], layout.starts[number]
    inner = columns[0] - columns[0, 0]
    if (columns - columns[:, :1] == inner).all():
        first, outer = compress(columns[:, 0])
        _, places = compress(inner)
        if isinstance(outer, Nest) and isinstance(places, Nest):
            return Stepped(parameter, int(first - start), outer, places)
    return Listed((Part(parameter, columns.ravel() - start),))


def _collapsed(values: Floats) -> Floats:
    """Rows or columns that are all equal, once."""
    for axis in range(values.ndim):
        first = np.take(values, [0], axis=axis) if values.shape[axis] else values
        values = first if values.shape[axis] and (values == first).all() else values
    return values


def _collapsed_flat(values: Floats) -> Floats:
    return values[:1].copy() if len(values) and (values == values[0]).all() else values
