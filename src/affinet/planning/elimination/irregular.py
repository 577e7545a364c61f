"""Solve irregular equations by blocks: eliminate simple ones, split the others into components, and factor these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from affinet.blocks.classes import Classes
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed, fixed_at
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.places import Part, complement
from affinet.blocks.regular import RowBatch
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination.components import Giant
from affinet.planning.elimination.filling import forecast_fill
from affinet.planning.elimination.peeling import independent_rows
from affinet.planning.elimination.pieces import Piece, entries_of, factor_pieces, take_values
from affinet.planning.elimination.reduction import Reduction, reduce
from affinet.planning.factors.slice_factors import factor_slices
from affinet.planning.refit.record import from_coefficients
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.limits import Limits
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

FULL_SHARE = 8
"""If at most one in this many entries of a parameter is missing, a part stores the missing ones."""


def solve_irregular(
    rows: Rows, layout: Layout, tolerance: Tolerance, limits: Limits, names: Sequence[str] = ()
) -> list[AnyBlock]:
    """Blocks that hold exactly these equations. Raises Contradiction with their rules.

    `names` are those of the rules, for the TooLargeError of a component that does not fit in memory.
    """
    if not rows.count:
        return []
    try:
        return _solve(rows, layout, tolerance, limits, names)
    except Contradiction:
        raise Contradiction(distinct(rows.rule)) from None


def _solve(rows: Rows, layout: Layout, tolerance: Tolerance, limits: Limits, names: Sequence[str]) -> list[AnyBlock]:
    reduction, pieces = factor_pieces(reduce(rows, tolerance), layout, tolerance, limits, names)
    return make_blocks(rows, reduction, pieces, layout, tolerance, limits)


def make_blocks(
    rows: Rows,
    reduction: Reduction,
    pieces: Sequence[Piece],
    layout: Layout,
    tolerance: Tolerance,
    limits: Limits,
    elsewhere: np.ndarray | None = None,
) -> list[AnyBlock]:
    """The blocks of factored equations; `elsewhere` marks the nodes that belong to other blocks."""
    owners = _Owners(rows, reduction)
    blocks: list[AnyBlock] = []
    fixed_nodes = np.zeros(len(reduction.columns), bool)
    fixed_nodes[reduction.fixed] = True
    fixed = fixed_nodes[reduction.node]
    if fixed.any():
        blocks += _make_fixed(reduction, np.flatnonzero(fixed), layout, owners)
    core_nodes = np.zeros(len(reduction.columns), bool) if elsewhere is None else elsewhere.copy()
    for piece in pieces:
        core_nodes[piece.component.nodes.ravel()] = True
        blocks.append(_make_block(piece, reduction, layout, tolerance, limits, owners))
    columns = from_coefficients(_find_tied, reduction.node, fixed_nodes | core_nodes)
    if len(columns):
        parts, classes, _ = _group_by_class(reduction, columns, layout)
        blocks.append(Ties(parts, classes, owners.of(columns)))
    return blocks


def _find_tied(node: Integers, excluded: np.ndarray) -> Integers:
    """Entries, in ascending order, that share a node with another entry, unless the node is excluded."""
    several = np.bincount(node, minlength=len(node)) > 1
    tied: Integers = np.flatnonzero((several & ~excluded)[node])
    return tied


def check_consistent(pieces: Sequence[Piece], tolerance: Tolerance, limits: Limits) -> None:
    """Raise Contradiction for factored equations that have no point, as making their blocks would."""
    for piece in pieces:
        component, solved = piece.component, piece.solved
        if isinstance(solved, RowBatch):
            factor_slices(solved, tolerance, ())
        elif isinstance(component, Giant):
            norms = norms_of_runs(component.matrix.data, component.matrix.indptr)
            matrix = sparse.csr_array(sparse.diags_array(1.0 / norms) @ component.matrix)
            sides, terms = component.rhs / norms, component.terms / norms
            if not independent_rows(matrix, sides, terms, tolerance, limits).consistent:
                raise Contradiction


class _Owners:
    """The rules that touch the entries of each block, for reports."""

    def __init__(self, rows: Rows, reduction: Reduction) -> None:
        self._rows, self._place, self._count = rows, reduction.local, len(reduction.columns)
        self._rules = distinct(rows.rule)

    def of(self, columns: Integers) -> tuple[int, ...]:
        if len(self._rules) == 1:
            return (int(self._rules[0]),)
        return from_coefficients(_find_owners, columns, self._count, self._place, self._rows.bounds, self._rows.rule)


def _find_owners(
    columns: Integers, count: int, column_of_value: Integers, bounds: Integers, rule: Integers
) -> tuple[int, ...]:
    """The rules of the rows with any of the columns, out of `count` columns."""
    selected = np.zeros(count, bool)
    selected[columns] = True
    rows = np.repeat(np.arange(len(rule)), np.diff(bounds))[selected[column_of_value]]
    return tuple(int(number) for number in distinct(rule[rows]))


def _group_by_class(
    reduction: Reduction, columns: Integers, layout: Layout
) -> tuple[tuple[Part, ...], Classes, Integers]:
    """The entries of `columns` by parameter, the classes that they form in that order, and the order."""
    parts, order, grouping = from_coefficients(_group_entries, reduction.columns, reduction.node, columns, layout)
    scale, shift = (
        _collapse_if_equal(take_values(reduction.scale, order)),
        _collapse_if_equal(take_values(reduction.shift, order)),
    )
    return parts, Classes(grouping[0], scale, shift, grouping[1]), order


def _group_entries(
    every: Integers, node: Integers, columns: Integers, layout: Layout
) -> tuple[tuple[Part, ...], Integers, tuple[Integers, Integers]]:
    """Entries by parameter, their order, the class of each and the representatives."""
    pieces = layout.split(every[columns])
    order = columns[np.concatenate([places for _, places, _ in pieces])]
    parts = tuple(_make_part(parameter, positions) for parameter, _, positions in pieces)
    nodes, class_of = ranked(node[order])
    place = np.full(len(every), -1, np.int64)
    place[order] = np.arange(len(order))
    return parts, order, (_narrow(class_of, len(nodes)), _narrow(place[nodes], len(order)))


def _make_part(parameter: Parameter, positions: Integers) -> Part:
    """A part of ascending positions, or of the missing positions where they are few."""
    if len(positions) * FULL_SHARE < parameter.size * (FULL_SHARE - 1):
        return Part(parameter, _narrow(positions, parameter.size))
    return Part(parameter, None, _narrow(complement(positions, parameter.size), parameter.size))


def _make_fixed(reduction: Reduction, columns: Integers, layout: Layout, owners: _Owners) -> list[Fixed]:
    """One block of fixed entries per parameter."""
    node_values = np.zeros(len(reduction.columns))
    node_values[reduction.fixed] = reduction.value
    values = reduction.scale[columns] * node_values[reduction.node[columns]] + reduction.shift[columns]
    return [
        fixed_at(parameter, positions, values[places], owners.of(columns[places]))
        for parameter, places, positions in layout.split(reduction.columns[columns])
    ]


def _narrow(numbers: Integers, bound: int) -> Integers:
    """Numbers below `bound`, in four bytes if they fit."""
    return numbers.astype(np.int32) if bound < 2**31 else numbers


def _collapse_if_equal(values: Floats) -> Floats:
    return values[:1].copy() if (values == values[:1]).all() else values


def _make_block(
    piece: Piece, reduction: Reduction, layout: Layout, tolerance: Tolerance, limits: Limits, owners: _Owners
) -> AnyBlock:
    component, solved = piece.component, piece.solved
    columns = from_coefficients(entries_of, component.nodes, reduction.node)
    rules = owners.of(columns)
    if isinstance(solved, RowBatch):
        return factor_slices(solved, tolerance, rules)
    parts, classes, order = _group_by_class(reduction, columns, layout)
    members = from_coefficients(_find_members, reduction.node, order, classes.class_of, component.nodes)
    if isinstance(component, Giant):
        return _make_sparse(component, parts, classes, members, tolerance, limits, rules)
    assert solved is not None
    condition = float(solved.condition.max())
    return Dense(parts, classes, members, solved.basis, solved.target, solved.ranks, rules, solved.ambiguous, condition)


def _find_members(node: Integers, order: Integers, class_of: Integers, nodes: Integers) -> Integers:
    """The class of each of the nodes, where the entries in `order` belong to the classes `class_of`."""
    number = np.full(len(node), -1, np.int64)
    number[node[order]] = class_of
    return np.asarray(number[nodes])


def _make_sparse(
    giant: Giant,
    parts: tuple[Part, ...],
    classes: Classes,
    members: Integers,
    tolerance: Tolerance,
    limits: Limits,
    rules: tuple[int, ...],
) -> Sparse:
    matrix, norms = from_coefficients(_equilibrate, giant.matrix, members, classes.weight)
    rhs, terms = giant.rhs / norms, giant.terms / norms
    independence = independent_rows(matrix, rhs, terms, tolerance, limits)
    if not independence.consistent:
        raise Contradiction
    matrix, rhs = from_coefficients(_select_rows, matrix, independence.rows), rhs[independence.rows]
    direct = independence.exact and from_coefficients(forecast_fill, matrix) <= limits.largest_fill
    return Sparse(
        parts, classes, matrix, rhs, independence.rank, independence.exact, direct, rules, independence.ambiguous
    )


def _equilibrate(matrix: sparse.csr_array, members: Integers, weight: Floats) -> tuple[sparse.csr_array, Floats]:
    """Rows over classes, divided by their norms, and the norms; `members` is the class of each column."""
    columns = members[matrix.indices]
    values = matrix.data * (1.0 / np.sqrt(weight))[columns]
    norms = norms_of_runs(values, matrix.indptr)
    values /= np.repeat(norms, np.diff(matrix.indptr))
    return sparse.csr_array((values, columns, matrix.indptr), shape=(matrix.shape[0], len(weight))), norms


def _select_rows(matrix: sparse.csr_array, rows: Integers) -> sparse.csr_array:
    return matrix[rows]
