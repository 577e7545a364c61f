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
from affinet.planning.elimination.pieces import Piece, pieces_of
from affinet.planning.elimination.reduction import Reduction, reduce
from affinet.planning.factors.slices import slices_of
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

MOST = 8
"""Entries of which at most one in so many is missing are kept by what is missing."""


def blocks_of(rows: Rows, layout: Layout, tolerance: Tolerance, names: Sequence[str] = ()) -> list[AnyBlock]:
    """Blocks that hold exactly the given equations. Raises Contradiction with the rules they came from.

    `names` are those of the rules, for the TooLargeError of what memory cannot hold.
    """
    if not rows.count:
        return []
    try:
        return _blocks_of(rows, layout, tolerance, names)
    except Contradiction:
        raise Contradiction(distinct(rows.rule)) from None


def _blocks_of(rows: Rows, layout: Layout, tolerance: Tolerance, names: Sequence[str]) -> list[AnyBlock]:
    reduction, pieces = pieces_of(reduce(rows, tolerance), layout, tolerance, names)
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
        blocks.append(_solved(piece, reduction, layout, tolerance, owners))
    free = ~fixed & ~cored[reduction.node]
    tied = free & (np.bincount(reduction.node, minlength=len(free))[reduction.node] > 1)
    if tied.any():
        columns = np.flatnonzero(tied)
        parts, order = _parts(reduction, columns, layout)
        blocks.append(Ties(parts, _classes(reduction, columns[order]), owners.of(columns)))
    return blocks


class _Owners:
    """Which rules touch which entries: what the blocks report."""

    def __init__(self, rows: Rows, reduction: Reduction) -> None:
        self._rows, self._place, self._count = rows, reduction.local, len(reduction.columns)
        self._rules = distinct(rows.rule)

    def of(self, columns: Integers) -> tuple[int, ...]:
        if len(self._rules) == 1:
            return (int(self._rules[0]),)
        inside = np.zeros(self._count, bool)
        inside[columns] = True
        rows = self._rows.row_of_each()[inside[self._place]]
        return tuple(int(rule) for rule in distinct(self._rows.rule[rows]))


def _parts(reduction: Reduction, columns: Integers, layout: Layout) -> tuple[tuple[Part, ...], Integers]:
    """Entries by parameter, and the order in which they then stand."""
    pieces = layout.split(reduction.columns[columns])
    order = np.concatenate([places for _, places, _ in pieces])
    return tuple(_part(parameter, positions) for parameter, _, positions in pieces), order


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


def _classes(reduction: Reduction, columns: Integers) -> Classes:
    """The classes that the given entries form, in the entries' order."""
    nodes, class_of = ranked(reduction.node[columns])
    place = np.full(len(reduction.columns), -1, np.int64)
    place[columns] = np.arange(len(columns))
    return Classes(
        _narrow(class_of, len(nodes)),
        _one_if_equal(reduction.scale[columns]),
        _one_if_equal(reduction.shift[columns]),
        _narrow(place[nodes], len(columns)),
    )


def _narrow(numbers: Integers, bound: int) -> Integers:
    """Numbers below `bound` in four bytes where they fit."""
    return numbers.astype(np.int32) if bound < 2**31 else numbers


def _one_if_equal(values: Floats) -> Floats:
    return values[:1].copy() if (values == values[:1]).all() else values


def _solved(piece: Piece, reduction: Reduction, layout: Layout, tolerance: Tolerance, owners: _Owners) -> AnyBlock:
    component, solved = piece.component, piece.solved
    inside = np.zeros(len(reduction.columns), bool)
    inside[component.nodes.ravel()] = True
    columns = np.flatnonzero(inside[reduction.node])
    rules = owners.of(columns)
    if isinstance(solved, RowBatch):
        return slices_of(solved, tolerance, rules)
    parts, order = _parts(reduction, columns, layout)
    classes = _classes(reduction, columns[order])
    number = np.full(len(reduction.columns), -1, np.int64)
    number[reduction.node[columns[order]]] = classes.class_of
    members = number[component.nodes]
    if isinstance(component, Giant):
        return _sparse(component, parts, classes, members, 1.0 / np.sqrt(classes.weight), tolerance, rules)
    assert solved is not None
    condition = float(solved.condition.max())
    return Dense(parts, classes, members, solved.basis, solved.target, solved.ranks, rules, solved.ambiguous, condition)


def _sparse(
    giant: Giant,
    parts: tuple[Part, ...],
    classes: Classes,
    members: Integers,
    scaled: Floats,
    tolerance: Tolerance,
    rules: tuple[int, ...],
) -> Sparse:
    columns = members[giant.matrix.indices]
    values = giant.matrix.data * scaled[columns]
    norms = norms_of_runs(values, giant.matrix.indptr)
    values /= np.repeat(norms, np.diff(giant.matrix.indptr))
    shape = (giant.matrix.shape[0], classes.count)
    matrix = sparse.csr_array((values, columns, giant.matrix.indptr), shape=shape)
    rhs, terms = giant.rhs / norms, giant.terms / norms
    found = independent_rows(matrix, rhs, terms, tolerance)
    if not found.consistent:
        raise Contradiction
    matrix, rhs = matrix[found.kept], rhs[found.kept]
    fill = forecast_fill(matrix) if found.exact else 0
    return Sparse(parts, classes, matrix, rhs, found.rank, found.exact, fill, rules, found.ambiguous)
