"""Dense equations: a matrix of numbers over entries of one or several parameters, never spelt out pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from affinet.blocks.classes import Classes
from affinet.blocks.dense import Dense
from affinet.blocks.places import Part
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats, Integers, Parameter, Term, spanned_bytes, table
from affinet.language.expression import Expression
from affinet.language.forecast import forecast
from affinet.planning.contradiction import Contradiction
from affinet.planning.factors.factor import factor
from affinet.planning.factors.implied import fixing_equations, implied, tying_equations
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.rows import Rows
from affinet.system.system import System

Span = tuple[Parameter, int, int]
MOSTLY_ZEROS = 4
"""A matrix of which less than one number in four is not zero is no panel: a sparse form is smaller."""


@dataclass(frozen=True, eq=False)
class Piece:
    """What a panel says of one parameter: `matrix @ w[entries]`; the matrix is a view of the user's where it can be."""

    parameter: Parameter
    entries: Integers
    matrix: Floats


@dataclass(frozen=True, eq=False)
class Panel:
    """`Σ_pieces matrix @ w[entries] == rhs`, dense; `size` is what the rounding of each rhs is relative to."""

    pieces: tuple[Piece, ...]
    rhs: Floats
    size: Floats
    rule: int

    def columns(self, layout: Layout) -> Integers:
        """The columns of all pieces, as they come; one may come twice."""
        return np.concatenate([layout.start(piece.parameter) + piece.entries for piece in self.pieces])


def read_panel(system: System, number: int) -> Panel | None:
    """A rule as a panel; None where it is not a sum of full matrices times entries."""
    rule = system.rules[number]
    pieces = dense_pieces(rule.expression.terms, rule.expression.shape)
    if pieces is None:
        return None
    rhs = _spread(-np.asarray(rule.expression.constant, np.float64), rule.expression)
    size = np.abs(rhs) if rule.size is None else _spread(np.asarray(rule.size, np.float64), rule.expression)
    return Panel(pieces, rhs, size, number)


def dense_pieces(terms: Sequence[Term], shape: tuple[int, ...]) -> tuple[Piece, ...] | None:
    """Terms as matrices over entries, equations in row-major order of `shape`; None where one of them is not that.

    A matrix that is mostly zeros is left to be read pair by pair.
    """
    pieces = [_piece(term, shape) for term in terms]
    found = tuple(piece for piece in pieces if piece is not None)
    if not pieces or len(found) < len(pieces):
        return None
    full = sum(np.count_nonzero(piece.matrix) for piece in found)
    return found if full * MOSTLY_ZEROS >= sum(piece.matrix.size for piece in found) else None


def joined(pieces: Sequence[Piece], entries: Integers, cancellation: float, what: object) -> tuple[Integers, Floats]:
    """The distinct numbers in `entries`, one a column of the pieces, and the matrix over them.

    Coefficients of one entry that add up to at most `cancellation` of their size count as zero.
    Raises TooLargeError, in the words of `what` the pieces say.
    """
    columns, places = ranked(entries)
    rows = len(pieces[0].matrix)
    forecast(f"the matrix of ({what}), {rows:,} equations over {len(columns):,} entries,", rows * len(columns))
    if len(pieces) == 1 and np.array_equal(columns, entries):
        return columns, pieces[0].matrix
    once = len(columns) == len(entries)
    matrix = np.empty((rows, len(columns))) if once else np.zeros((rows, len(columns)))
    size = None if once else np.zeros_like(matrix)
    first = 0
    for piece in pieces:
        where = places[first : first + len(piece.entries)]
        first += len(piece.entries)
        if size is not None:
            np.add.at(matrix.T, where, piece.matrix.T)
            np.add.at(size.T, where, np.abs(piece.matrix.T))
        elif (np.diff(where) == 1).all():
            matrix[:, where[0] : where[0] + len(where)] = piece.matrix
        else:
            matrix[:, where] = piece.matrix
    if size is not None:
        matrix[np.abs(matrix) <= cancellation * size] = 0.0
    return columns, matrix


def panel_block(panels: Sequence[Panel], system: System) -> tuple[list[Dense], list[Rows]]:
    """One dense component from panels that share entries, and what it says of single entries.

    No component where all coefficients cancel: the equations, without entries, are then among the second.
    Raises Contradiction with their rules, and TooLargeError.
    """
    rows = sum(len(panel.rhs) for panel in panels)
    columns = distinct(np.concatenate([panel.columns(system.layout) for panel in panels]))
    names = ", ".join(f'"{system.rules[panel.rule].name}"' for panel in panels)
    forecast(f"the dense factor of {names}, {rows:,} equations over {len(columns):,} entries,", rows * len(columns))
    if len(panels) == 1:
        _, matrix = joined(panels[0].pieces, panels[0].columns(system.layout), system.tolerance.cancellation, names)
    else:
        matrix = np.zeros((rows, len(columns)))
        first = 0
        for panel in panels:
            listed, cancellation = panel.columns(system.layout), system.tolerance.cancellation
            own, numbers = joined(panel.pieces, listed, cancellation, names)
            matrix[first : first + len(numbers), np.searchsorted(columns, own)] = numbers
            first += len(numbers)
    used = matrix.any(axis=0)
    if not used.any():
        return [], [system.rows([panel.rule for panel in panels])]
    if not used.all():
        columns, matrix = columns[used], matrix[:, used]
    rhs, size = (np.concatenate([getattr(p, name) for p in panels])[None] for name in ("rhs", "size"))
    rules = tuple(panel.rule for panel in panels)
    found = factor(matrix[None], rhs, size, system.tolerance)
    if not found.consistent.all():
        raise Contradiction(rules)
    parts = tuple(Part(parameter, positions) for parameter, _, positions in system.layout.split(columns))
    condition = float(found.condition[0])
    block = _component(parts, found.basis[0], found.target[0], rules, found.ambiguous, condition)
    return [block], _said_of_entries(block, found.condition, rows, system)


def single_cell(slices: Slices, large_basis: int) -> Slices | Dense:
    """Slices of one cell with a large basis as a dense component, whose kernel reads that once; others as they are."""
    small = slices.outer.size > 1 or slices.basis.size < large_basis or not any(slices.basis.strides)
    if small or len(slices.pinned) or len(slices.copies):
        return slices
    positions = slices.offset + slices.outer.table()[0] + slices.inner.table()
    part = Part(slices.parameter, positions)
    return _component((part,), slices.basis, slices.target[0], slices.rules, slices.ambiguous, slices.condition)


def _component(
    parts: tuple[Part, ...], basis: Floats, target: Floats, rules: tuple[int, ...], ambiguous: int, condition: float
) -> Dense:
    """Orthonormal rows over entries as they are, in the order of the parts."""
    every = np.arange(basis.shape[1])
    classes = Classes(every, np.ones(1), np.zeros(1), every)
    ranks = np.array([len(basis)], np.int64)
    return Dense(parts, classes, every[None], basis[None], target[None], ranks, rules, ambiguous, condition)


def panel_blocks(
    panels: Sequence[Panel], others: Sequence[Span], rows: Rows, system: System
) -> tuple[list[Dense], list[Rows]]:
    """Panels that nothing regular touches, those that share entries as one block; the others one equation at a time.

    So are small ones (`limits.one_by_one` pairs) that irregular equations touch.
    """
    found: list[Dense] = []
    lowered: list[Rows] = []
    if not panels:
        return [], lowered
    touched = distinct(rows.columns)
    for cluster in _clusters(panels, system.layout):
        columns = distinct(np.concatenate([panel.columns(system.layout) for panel in cluster]))
        numbers = tuple(panel.rule for panel in cluster)
        hit = len(np.intersect1d(columns, touched, assume_unique=True)) > 0
        small = sum(system.rules[number].nonzeros for number in numbers) <= system.limits.one_by_one
        if _any_within(columns, others, system.layout) or (hit and small):
            lowered.append(system.rows(numbers))
        else:
            block, said = panel_block(cluster, system)
            found += block
            lowered += said
    return found, lowered


def _said_of_entries(block: Dense, condition: Floats, rows: int, system: System) -> list[Rows]:
    """What a component determines, and what it makes equal or opposite, as equations: on top they are exact."""
    one = np.ones(block.members.shape)
    exact = None
    if not block.ambiguous:
        exact = implied(block.basis, block.target, one, condition, rows, system.tolerance)
    if exact is None:
        return []
    positions = [(system.layout.start(part.parameter), part.positions.astype(np.int64)) for part in block.parts]
    columns = np.concatenate([start + own for start, own in positions])
    rule = np.array(block.rules[:1])
    return [said(columns[None], rule, exact) for said in (fixing_equations, tying_equations)]


def _clusters(panels: Sequence[Panel], layout: Layout) -> list[list[Panel]]:
    """Panels that share entries, directly or through others."""
    clusters: list[tuple[list[Panel], Integers]] = []
    for panel in panels:
        columns = distinct(panel.columns(layout))
        meeting = [one for one in clusters if len(np.intersect1d(one[1], columns, assume_unique=True))]
        clusters = [one for one in clusters if not any(one is other for other in meeting)]
        members = [*(member for one, _ in meeting for member in one), panel]
        clusters.append((members, distinct(np.concatenate([*(held for _, held in meeting), columns]))))
    return [sorted(members, key=lambda panel: panel.rule) for members, _ in clusters]


def _any_within(columns: Integers, spans: Sequence[Span], layout: Layout) -> bool:
    """Whether any of the (sorted) columns lies within one of the ranges."""
    for parameter, low, high in spans:
        start = layout.start(parameter)
        if np.searchsorted(columns, start + low) < np.searchsorted(columns, start + high, side="right"):
            return True
    return False


def _piece(term: Term, shape: tuple[int, ...]) -> Piece | None:
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
    (held,) = term.factors
    if spanned_bytes(held.values) < held.values.nbytes:
        return None  # a view of a few numbers, such as a running sum's
    order = [held.variables.index(k) for k in (*(row_of[axis] for axis in sorted(row_of)), *inside)]
    positions = np.full(1, term.offset, np.int64)
    for k in inside:
        steps = table(term.variables[k].source, term.variables[k].size).astype(np.int64)
        positions = (positions[:, None] + steps).ravel()
    matrix = held.values.transpose(order).reshape(prod(shape), len(positions))
    return Piece(term.parameter, positions, matrix if term.scalar == 1.0 else term.scalar * matrix)


def _spread(values: Floats, expression: Expression) -> Floats:
    return np.broadcast_to(values, expression.shape).reshape(expression.size)
