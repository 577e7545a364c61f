"""From equations one by one to blocks: eliminate, split into components, factor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from affinet.blocks.classes import Classes
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed, fixed_at
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.places import Part, others
from affinet.blocks.regular import RowBatch
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination.components import Giant
from affinet.planning.elimination.filling import forecast_fill
from affinet.planning.elimination.peeling import independent_rows
from affinet.planning.elimination.pieces import Piece, entries_of, pieces_of, some_of
from affinet.planning.elimination.reduction import Reduction, reduce
from affinet.planning.factors.slices import factor_slices
from affinet.planning.refit.record import from_coefficients
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.limits import Limits
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

MOST = 8
"""Entries of which at most one in so many is missing are kept by what is missing."""


def blocks_of(
    rows: Rows, layout: Layout, tolerance: Tolerance, limits: Limits, names: Sequence[str] = ()
) -> list[AnyBlock]:
    """Blocks that hold exactly the given equations. Raises Contradiction with the rules they came from.

    `names` are those of the rules, for the TooLargeError of what memory cannot hold.
    """
    if not rows.count:
        return []
    try:
        return _blocks_of(rows, layout, tolerance, limits, names)
    except Contradiction:
        raise Contradiction(distinct(rows.rule)) from None


def _blocks_of(
    rows: Rows, layout: Layout, tolerance: Tolerance, limits: Limits, names: Sequence[str]
) -> list[AnyBlock]:
    reduction, pieces = pieces_of(reduce(rows, tolerance), layout, tolerance, limits, names)
    owners = _Owners(rows, reduction)
    blocks: list[AnyBlock] = []
    known = np.zeros(len(reduction.columns), bool)
    known[reduction.fixed] = True
    fixed = known[reduction.node]
    if fixed.any():
        blocks += _fixed(reduction, np.flatnonzero(fixed), layout, owners)
    cored = np.zeros(len(reduction.columns), bool)
    for piece in pieces:
        cored[piece.component.nodes.ravel()] = True
        blocks.append(_solved(piece, reduction, layout, tolerance, limits, owners))
    columns = from_coefficients(_tied, reduction.node, known | cored)
    if len(columns):
        parts, classes, _ = _parts_and_classes(reduction, columns, layout)
        blocks.append(Ties(parts, classes, owners.of(columns)))
    return blocks


def _tied(node: Integers, taken: np.ndarray) -> Integers:
    """Entries, rising, that share their node with another one, of the nodes that are not taken."""
    several = np.bincount(node, minlength=len(node)) > 1
    found: Integers = np.flatnonzero((several & ~taken)[node])
    return found


class _Owners:
    """Which rules touch which entries: what the blocks report."""

    def __init__(self, rows: Rows, reduction: Reduction) -> None:
        self._rows, self._place, self._count = rows, reduction.local, len(reduction.columns)
        self._rules = distinct(rows.rule)

    def of(self, columns: Integers) -> tuple[int, ...]:
        if len(self._rules) == 1:
            return (int(self._rules[0]),)
        return from_coefficients(_owners, columns, self._count, self._place, self._rows.bounds, self._rows.rule)


def _owners(columns: Integers, count: int, place: Integers, bounds: Integers, rule: Integers) -> tuple[int, ...]:
    """The rules of the rows that hold any of the columns, of `count`; `place` is the column of every stored value."""
    inside = np.zeros(count, bool)
    inside[columns] = True
    rows = np.repeat(np.arange(len(rule)), np.diff(bounds))[inside[place]]
    return tuple(int(found) for found in distinct(rule[rows]))


def _parts_and_classes(
    reduction: Reduction, columns: Integers, layout: Layout
) -> tuple[tuple[Part, ...], Classes, Integers]:
    """The given entries by parameter, the classes that they form in that order, and the order."""
    parts, order, grouping = from_coefficients(_grouped, reduction.columns, reduction.node, columns, layout)
    scale, shift = _one_if_equal(some_of(reduction.scale, order)), _one_if_equal(some_of(reduction.shift, order))
    return parts, Classes(grouping[0], scale, shift, grouping[1]), order


def _grouped(
    every: Integers, node: Integers, columns: Integers, layout: Layout
) -> tuple[tuple[Part, ...], Integers, tuple[Integers, Integers]]:
    """Entries by parameter, the order in which they then stand, the class of each and the representatives."""
    pieces = layout.split(every[columns])
    order = columns[np.concatenate([places for _, places, _ in pieces])]
    parts = tuple(_part(parameter, positions) for parameter, _, positions in pieces)
    nodes, class_of = ranked(node[order])
    place = np.full(len(every), -1, np.int64)
    place[order] = np.arange(len(order))
    return parts, order, (_narrow(class_of, len(nodes)), _narrow(place[nodes], len(order)))


def _part(parameter: Parameter, positions: Integers) -> Part:
    """Positions that rise, or where they are most of the parameter those that are missing."""
    if len(positions) * MOST < parameter.size * (MOST - 1):
        return Part(parameter, _narrow(positions, parameter.size))
    return Part(parameter, None, _narrow(others(positions, parameter.size), parameter.size))


def _fixed(reduction: Reduction, columns: Integers, layout: Layout, owners: _Owners) -> list[Fixed]:
    """A block for each parameter."""
    value = np.zeros(len(reduction.columns))
    value[reduction.fixed] = reduction.value
    values = reduction.scale[columns] * value[reduction.node[columns]] + reduction.shift[columns]
    return [
        fixed_at(parameter, positions, values[places], owners.of(columns[places]))
        for parameter, places, positions in layout.split(reduction.columns[columns])
    ]


def _narrow(numbers: Integers, bound: int) -> Integers:
    """Numbers below `bound` in four bytes where they fit."""
    return numbers.astype(np.int32) if bound < 2**31 else numbers


def _one_if_equal(values: Floats) -> Floats:
    return values[:1].copy() if (values == values[:1]).all() else values


def _solved(
    piece: Piece, reduction: Reduction, layout: Layout, tolerance: Tolerance, limits: Limits, owners: _Owners
) -> AnyBlock:
    component, solved = piece.component, piece.solved
    columns = from_coefficients(entries_of, component.nodes, reduction.node)
    rules = owners.of(columns)
    if isinstance(solved, RowBatch):
        return factor_slices(solved, tolerance, rules)
    parts, classes, order = _parts_and_classes(reduction, columns, layout)
    members = from_coefficients(_members, reduction.node, order, classes.class_of, component.nodes)
    if isinstance(component, Giant):
        return _sparse(component, parts, classes, members, tolerance, limits, rules)
    assert solved is not None
    condition = float(solved.condition.max())
    return Dense(parts, classes, members, solved.basis, solved.target, solved.ranks, rules, solved.ambiguous, condition)


def _members(node: Integers, order: Integers, class_of: Integers, nodes: Integers) -> Integers:
    """The class of each of the nodes, where the entries in `order` belong to the classes `class_of`."""
    number = np.full(len(node), -1, np.int64)
    number[node[order]] = class_of
    return np.asarray(number[nodes])


def _sparse(
    giant: Giant,
    parts: tuple[Part, ...],
    classes: Classes,
    members: Integers,
    tolerance: Tolerance,
    limits: Limits,
    rules: tuple[int, ...],
) -> Sparse:
    matrix, norms = from_coefficients(_equilibrated, giant.matrix, members, classes.weight)
    rhs, terms = giant.rhs / norms, giant.terms / norms
    found = independent_rows(matrix, rhs, terms, tolerance, limits)
    if not found.consistent:
        raise Contradiction
    matrix, rhs = from_coefficients(_chosen, matrix, found.kept), rhs[found.kept]
    direct = found.exact and from_coefficients(forecast_fill, matrix) <= limits.largest_fill
    return Sparse(parts, classes, matrix, rhs, found.rank, found.exact, direct, rules, found.ambiguous)


def _equilibrated(matrix: sparse.csr_array, members: Integers, weight: Floats) -> tuple[sparse.csr_array, Floats]:
    """Rows over classes of these weights, `members` the class of each column, divided by their norms; the norms."""
    columns = members[matrix.indices]
    values = matrix.data * (1.0 / np.sqrt(weight))[columns]
    norms = norms_of_runs(values, matrix.indptr)
    values /= np.repeat(norms, np.diff(matrix.indptr))
    return sparse.csr_array((values, columns, matrix.indptr), shape=(matrix.shape[0], len(weight))), norms


def _chosen(matrix: sparse.csr_array, rows: Integers) -> sparse.csr_array:
    return matrix[rows]
