"""Read and factor dense equations as panels: matrices over entries of one or several parameters, not lists of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from affinet.blocks.classes import Classes
from affinet.blocks.dense import Dense
from affinet.blocks.places import Part
from affinet.blocks.slices import Slices
from affinet.errors import counted
from affinet.language.calculus.terms import Floats, Integers, Parameter, Term, spanned_bytes, table
from affinet.language.expression import Expression
from affinet.language.forecast import forecast
from affinet.planning.contradiction import Contradiction
from affinet.planning.factors.factor import factor
from affinet.planning.factors.implied import find_implied, fixing_equations, tying_equations
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.rows import Rows
from affinet.system.system import System

Span = tuple[Parameter, int, int]
MOSTLY_ZEROS = 4
"""A matrix with fewer than one nonzero number in four is not a panel, as a sparse form is smaller."""


@dataclass(frozen=True, eq=False)
class Piece:
    """The part `matrix @ w[entries]` of a panel, for one parameter; the matrix is a view of the user's if possible."""

    parameter: Parameter
    entries: Integers
    matrix: Floats


@dataclass(frozen=True, eq=False)
class Panel:
    """Dense equations `Σ_pieces matrix @ w[entries] == rhs`; the rounding of each rhs is relative to its `size`."""

    pieces: tuple[Piece, ...]
    rhs: Floats
    size: Floats
    rule: int

    def columns(self, layout: Layout) -> Integers:
        """The columns of all pieces, in their order; a column may occur twice."""
        return np.concatenate([layout.start(piece.parameter) + piece.entries for piece in self.pieces])


def read_panel(system: System, number: int) -> Panel | None:
    """A rule as a panel; None if it is not a sum of full matrices times entries."""
    rule = system.rules[number]
    pieces = dense_pieces(rule.expression.terms, rule.expression.shape)
    if pieces is None:
        return None
    rhs = _spread_over_equations(-np.asarray(rule.expression.constant, np.float64), rule.expression)
    size = (
        np.abs(rhs) if rule.size is None else _spread_over_equations(np.asarray(rule.size, np.float64), rule.expression)
    )
    return Panel(pieces, rhs, size, number)


def dense_pieces(terms: Sequence[Term], shape: tuple[int, ...]) -> tuple[Piece, ...] | None:
    """Terms as matrices over entries, equations in row-major order of `shape`; None if a term has another form.

    None also if the matrices are mostly zeros.
    """
    pieces = [_read_piece(term, shape) for term in terms]
    dense = tuple(piece for piece in pieces if piece is not None)
    if not pieces or len(dense) < len(pieces):
        return None
    nonzeros = sum(np.count_nonzero(piece.matrix) for piece in dense)
    return dense if nonzeros * MOSTLY_ZEROS >= sum(piece.matrix.size for piece in dense) else None


def join_pieces(
    pieces: Sequence[Piece], entries: Integers, cancellation: float, description: object
) -> tuple[Integers, Floats]:
    """The distinct numbers in `entries`, which are the columns of the pieces, and the matrix over them.

    Coefficients of one entry that add up to at most `cancellation` of their size count as zero.
    Raises TooLargeError, with `description` as the name of the equations.
    """
    columns, places = ranked(entries)
    rows = len(pieces[0].matrix)
    forecast(
        f"the matrix of ({description}), {counted(rows, 'equation')} over {len(columns):,} entries,",
        rows * len(columns),
    )
    if len(pieces) == 1 and np.array_equal(columns, entries):
        return columns, pieces[0].matrix
    are_distinct = len(columns) == len(entries)
    matrix = np.empty((rows, len(columns))) if are_distinct else np.zeros((rows, len(columns)))
    size = None if are_distinct else np.zeros_like(matrix)
    first = 0
    for piece in pieces:
        places_of_piece = places[first : first + len(piece.entries)]
        first += len(piece.entries)
        if size is not None:
            np.add.at(matrix.T, places_of_piece, piece.matrix.T)
            np.add.at(size.T, places_of_piece, np.abs(piece.matrix.T))
        elif (np.diff(places_of_piece) == 1).all():
            matrix[:, places_of_piece[0] : places_of_piece[0] + len(places_of_piece)] = piece.matrix
        else:
            matrix[:, places_of_piece] = piece.matrix
    if size is not None:
        matrix[np.abs(matrix) <= cancellation * size] = 0.0
    return columns, matrix


def factor_panels(panels: Sequence[Panel], system: System) -> tuple[list[Dense], list[Rows]]:
    """Factor panels that share entries as one dense component; also equations that it implies on single entries.

    If all coefficients cancel, there is no component, and the second list has the equations, without entries.
    Raises Contradiction with their rules, and TooLargeError.
    """
    rows = sum(len(panel.rhs) for panel in panels)
    columns = distinct(np.concatenate([panel.columns(system.layout) for panel in panels]))
    names = ", ".join(f'"{system.rules[panel.rule].name}"' for panel in panels)
    forecast(
        f"the dense factor of {names}, {counted(rows, 'equation')} over {len(columns):,} entries,",
        rows * len(columns),
    )
    if len(panels) == 1:
        _, matrix = join_pieces(
            panels[0].pieces, panels[0].columns(system.layout), system.tolerance.cancellation, names
        )
    else:
        matrix = np.zeros((rows, len(columns)))
        first = 0
        for panel in panels:
            listed, cancellation = panel.columns(system.layout), system.tolerance.cancellation
            panel_columns, numbers = join_pieces(panel.pieces, listed, cancellation, names)
            matrix[first : first + len(numbers), np.searchsorted(columns, panel_columns)] = numbers
            first += len(numbers)
    used = matrix.any(axis=0)
    if not used.any():
        return [], [system.rows([panel.rule for panel in panels])]
    if not used.all():
        columns, matrix = columns[used], matrix[:, used]
    rhs, size = (np.concatenate([getattr(p, name) for p in panels])[None] for name in ("rhs", "size"))
    rules = tuple(panel.rule for panel in panels)
    factored = factor(matrix[None], rhs, size, system.tolerance)
    if not factored.consistent.all():
        raise Contradiction(rules)
    parts = tuple(Part(parameter, positions) for parameter, _, positions in system.layout.split(columns))
    condition = float(factored.condition[0])
    block = _make_component(parts, factored.basis[0], factored.target[0], rules, factored.ambiguous, condition)
    return [block], _equations_on_entries(block, factored.condition, rows, system)


def single_cell(slices: Slices, large_basis: int) -> Slices | Dense:
    """Slices of one cell with a large basis as a dense component, whose kernel reads it once; others unchanged."""
    small = slices.outer.size > 1 or slices.basis.size < large_basis or not any(slices.basis.strides)
    if small or len(slices.pinned) or len(slices.copies):
        return slices
    positions = slices.offset + slices.outer.table()[0] + slices.inner.table()
    part = Part(slices.parameter, positions)
    return _make_component((part,), slices.basis, slices.target[0], slices.rules, slices.ambiguous, slices.condition)


def _make_component(
    parts: tuple[Part, ...], basis: Floats, target: Floats, rules: tuple[int, ...], ambiguous: int, condition: float
) -> Dense:
    """A component of orthonormal rows over single entries, in the order of the parts."""
    entries = np.arange(basis.shape[1])
    classes = Classes(entries, np.ones(1), np.zeros(1), entries)
    ranks = np.array([len(basis)], np.int64)
    return Dense(parts, classes, entries[None], basis[None], target[None], ranks, rules, ambiguous, condition)


def make_panel_blocks(
    panels: Sequence[Panel], spans: Sequence[Span], rows: Rows, system: System
) -> tuple[list[Dense], list[Rows]]:
    """Blocks of panels that share entries, and the equations of the other panels, one at a time.

    Panels that share entries with regular rules (`spans`), and small ones (`limits.one_by_one` pairs) that irregular
    equations (`rows`) touch, are read one equation at a time.
    """
    blocks: list[Dense] = []
    rows_to_read: list[Rows] = []
    if not panels:
        return [], rows_to_read
    touched = distinct(rows.columns)
    for cluster in _find_clusters(panels, system.layout):
        columns = distinct(np.concatenate([panel.columns(system.layout) for panel in cluster]))
        numbers = tuple(panel.rule for panel in cluster)
        is_touched = len(np.intersect1d(columns, touched, assume_unique=True)) > 0
        small = sum(system.rules[number].nonzeros for number in numbers) <= system.limits.one_by_one
        if _touches_spans(columns, spans, system.layout) or (is_touched and small):
            rows_to_read.append(system.rows(numbers))
        else:
            block, implied_rows = factor_panels(cluster, system)
            blocks += block
            rows_to_read += implied_rows
    return blocks, rows_to_read


def _equations_on_entries(block: Dense, condition: Floats, rows: int, system: System) -> list[Rows]:
    """Equations on entries that a component determines, or makes equal or opposite: in a border these are exact."""
    weights = np.ones(block.members.shape)
    facts = None
    if not block.ambiguous:
        facts = find_implied(block.basis, block.target, weights, condition, rows, system.tolerance)
    if facts is None:
        return []
    columns = np.concatenate(
        [system.layout.start(part.parameter) + part.positions.astype(np.int64) for part in block.parts]
    )
    rule = np.array(block.rules[:1])
    return [equations(columns[None], rule, facts) for equations in (fixing_equations, tying_equations)]


def _find_clusters(panels: Sequence[Panel], layout: Layout) -> list[list[Panel]]:
    """Clusters of panels that share entries, directly or through others."""
    clusters: list[tuple[list[Panel], Integers]] = []
    for panel in panels:
        columns = distinct(panel.columns(layout))
        meeting = [cluster for cluster in clusters if len(np.intersect1d(cluster[1], columns, assume_unique=True))]
        clusters = [cluster for cluster in clusters if not any(cluster is other for other in meeting)]
        members = [*(member for panels_of_cluster, _ in meeting for member in panels_of_cluster), panel]
        all_columns = np.concatenate([*(columns_of_cluster for _, columns_of_cluster in meeting), columns])
        clusters.append((members, distinct(all_columns)))
    return [sorted(members, key=lambda panel: panel.rule) for members, _ in clusters]


def _touches_spans(columns: Integers, spans: Sequence[Span], layout: Layout) -> bool:
    """Whether any of the (sorted) columns lies within one of the ranges."""
    for parameter, low, high in spans:
        start = layout.start(parameter)
        if np.searchsorted(columns, start + low) < np.searchsorted(columns, start + high, side="right"):
            return True
    return False


def _read_piece(term: Term, shape: tuple[int, ...]) -> Piece | None:
    if len(term.factors) != 1 or sorted(term.factors[0].variables) != list(range(len(term.variables))):
        return None
    inside = [k for k, variable in enumerate(term.variables) if not variable.outputs]
    row_of = {}
    for k, variable in enumerate(term.variables):
        if variable.outputs:
            ((axis, step), *more) = variable.outputs
            moves = not isinstance(variable.source, int) or variable.source != 0
            if (
                more
                or moves
                or not isinstance(step, int)
                or step != 1
                or variable.size != shape[axis]
                or axis in row_of
            ):
                return None
            row_of[axis] = k
    if sorted(row_of) != [axis for axis, n in enumerate(shape) if n > 1]:
        return None
    (factor,) = term.factors
    if spanned_bytes(factor.values) < factor.values.nbytes:
        return None  # a view of a few numbers, such as a running sum's
    order = [factor.variables.index(k) for k in (*(row_of[axis] for axis in sorted(row_of)), *inside)]
    positions = np.full(1, term.offset, np.int64)
    for k in inside:
        steps = table(term.variables[k].source, term.variables[k].size).astype(np.int64)
        positions = (positions[:, None] + steps).ravel()
    matrix = factor.values.transpose(order).reshape(prod(shape), len(positions))
    return Piece(term.parameter, positions, matrix if term.scalar == 1.0 else term.scalar * matrix)


def _spread_over_equations(values: Floats, expression: Expression) -> Floats:
    return np.broadcast_to(values, expression.shape).reshape(expression.size)
