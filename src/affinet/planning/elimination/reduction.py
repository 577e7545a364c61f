"""Eliminate simple equations, which fix one entry or tie two, until every remaining equation has three unknowns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination.forest import Edges, Forest, spanning_forest
from affinet.planning.refit.record import from_coefficients
from affinet.system.distinct import ranked
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows, gather_rows
from affinet.system.tolerance import Tolerance

MOST_ROUNDS = 64
"""A triangular system loses one entry per round; after this many rounds the remaining equations go to the core."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """`w[columns] = scale · z[node] + shift`, where z is known at `fixed` nodes and obeys `core` elsewhere.

    `local` is the place in `columns` of every stored value of the rows. Nodes are numbered by a representative place
    in `columns`. The columns of `core` are nodes; it has at least three entries per row unless the rounds ran out.

    Rounding is relative to magnitudes before cancellation. `terms` (for the right-hand sides of `core`), `size` (for
    `shift`) and `value_size` (for `value`) are the sums of the magnitudes that each was computed from. `norms` are the
    norms of the rows of `core` before any substitution, for the rounding of their coefficients.
    """

    columns: Integers
    local: Integers
    node: Integers
    scale: Floats
    shift: Floats
    fixed: Integers
    value: Floats
    core: Rows
    terms: Floats
    norms: Floats
    size: Floats
    value_size: Floats


@dataclass(eq=False)
class _State:
    """The unknowns while they are eliminated; local to `reduce`."""

    node: Integers
    scale: Floats
    shift: Floats
    size: Floats
    known: np.ndarray
    value: Floats
    value_size: Floats


def reduce(rows: Rows, tolerance: Tolerance) -> Reduction:
    """Fix, tie and substitute until every remaining equation has three unknowns or more.

    Raises Contradiction. Time per round is linear in the number of entries.
    """
    columns, place_of_value = from_coefficients(ranked, rows.columns)
    count = len(columns)
    state = _State(
        np.arange(count), np.ones(1), np.zeros(1), np.zeros(1), np.zeros(count, bool), np.zeros(count), np.zeros(count)
    )
    core = Rows(rows.bounds, place_of_value, rows.values, rows.rhs, rows.rule, rows.index)
    norms = from_coefficients(norms_of_runs, rows.values, rows.bounds)
    return _eliminate(state, core, rows.magnitude, norms, columns, place_of_value, tolerance)


def refine(
    reduction: Reduction,
    fixes: Rows,
    ties: Rows,
    core: Rows,
    terms: Floats,
    norms: Floats,
    tolerance: Tolerance,
) -> Reduction:
    """Reduce further: fix nodes by equations of one node (`fixes`), and tie nodes by equations of two (`ties`).

    `core` are the equations that remain, before these are substituted. Raises Contradiction.
    """
    count = len(reduction.columns)
    known, value, value_size = np.zeros(count, bool), np.zeros(count), np.zeros(count)
    known[reduction.fixed], value[reduction.fixed] = True, reduction.value
    value_size[reduction.fixed] = reduction.value_size
    state = _State(reduction.node, reduction.scale, reduction.shift, reduction.size, known, value, value_size)
    if fixes.count:
        _fix(state, fixes, np.arange(fixes.count), fixes.magnitude, tolerance)
    if ties.count:
        _tie(state, ties, np.arange(ties.count), ties.magnitude, tolerance)
    core, terms = _substitute(state, core, terms, tolerance)
    return _eliminate(state, core, terms, norms, reduction.columns, reduction.local, tolerance)


def _eliminate(
    state: _State,
    core: Rows,
    terms: Floats,
    norms: Floats,
    columns: Integers,
    place_of_value: Integers,
    tolerance: Tolerance,
) -> Reduction:
    column_count = len(columns)
    fixed_before = False
    for _ in range(MOST_ROUNDS):
        lengths = core.lengths
        _check_empty(core, terms, tolerance)
        if lengths.min(initial=3) > 2:
            break
        single, double = np.flatnonzero(lengths == 1), np.flatnonzero(lengths == 2)
        # Fixing and tying take turns: a chain of ties that hangs on a fixed end is one class, and one round.
        if len(single) and not (fixed_before and len(double)):
            _fix(state, core, single, terms, tolerance)
            remaining, fixed_before = np.flatnonzero(lengths > 1), True
        else:
            changed = _tie(state, core, double, terms, tolerance)
            remaining, fixed_before = np.flatnonzero((lengths == 1) | (lengths > 2)), False
            if not changed and not len(remaining):
                core, terms, norms = core.select(remaining), terms[remaining], norms[remaining]
                break
        core, terms = _substitute(state, core.select(remaining), terms[remaining], tolerance)
        norms = norms[remaining]
    return Reduction(
        columns,
        place_of_value,
        state.node,
        np.broadcast_to(state.scale, (column_count,)),
        np.broadcast_to(state.shift, (column_count,)),
        np.flatnonzero(state.known),
        state.value[state.known],
        core,
        terms,
        norms,
        np.broadcast_to(state.size, (column_count,)),
        state.value_size[state.known],
    )


def _check_empty(core: Rows, terms: Floats, tolerance: Tolerance) -> None:
    empty = core.lengths == 0
    contradicting = empty & (np.abs(core.rhs) > tolerance.consistency(8) * terms)
    if contradicting.any():
        raise Contradiction


def _fix(state: _State, core: Rows, single: Integers, terms: Floats, tolerance: Tolerance) -> None:
    """Fix the unknowns of equations with one unknown. Several equations for one unknown must agree."""
    place = core.bounds[single]
    node, coefficient, rhs = core.columns[place], core.values[place], core.rhs[single]
    # At the far end of a long chain of ratios a coefficient may underflow, and then no float64 number solves it.
    with np.errstate(divide="ignore", over="ignore"):
        value = np.divide(rhs, coefficient, out=np.zeros_like(rhs), where=rhs != 0.0)
        size = np.divide(terms[single], np.abs(coefficient), out=np.zeros_like(rhs), where=terms[single] != 0.0)
    if not np.isfinite(value).all():
        raise Contradiction
    state.value[node[::-1]] = value[::-1]
    np.maximum.at(state.value_size, node, size)
    state.known[node] = True
    # Relative to the largest magnitudes behind any of these values, as either of the two may be the rounded one.
    bound = tolerance.consistency(8) * np.maximum(state.value_size[node], np.abs(value))
    if (np.abs(state.value[node] - value) > bound).any():
        raise Contradiction


def _tie(state: _State, core: Rows, double: Integers, terms: Floats, tolerance: Tolerance) -> bool:
    """Join the classes of the two unknowns of each equation. True if a cycle gave a class its value."""
    place = core.bounds[double]
    x, y, a, b = core.columns[place], core.columns[place + 1], core.values[place], core.values[place + 1]
    edges = Edges(x, y, a, b, core.rhs[double], terms[double])
    forest = spanning_forest(edges, len(state.node))
    cycle_fixed = _close_cycles(state, edges, forest, terms[double], tolerance)
    _compose(state, forest)
    return cycle_fixed


def _close_cycles(state: _State, edges: Edges, forest: Forest, terms: Floats, tolerance: Tolerance) -> bool:
    """Check edges outside the tree: they repeat it, contradict it, or fix the class by a second ratio on a cycle."""
    if len(forest.scale) == 1:
        return False
    x_coefficient, y_coefficient = edges.a * forest.scale[edges.x], edges.b * forest.scale[edges.y]
    rhs = edges.c - edges.a * forest.shift[edges.x] - edges.b * forest.shift[edges.y]
    size = terms + np.abs(edges.a) * forest.size[edges.x] + np.abs(edges.b) * forest.size[edges.y]
    bound = tolerance.consistency(len(forest.root))
    coefficient = x_coefficient + y_coefficient
    # Scales that underflow have too few digits to detect a second ratio.
    floor = np.finfo(np.float64).tiny * (np.abs(edges.a) + np.abs(edges.b))
    free = np.abs(coefficient) <= np.maximum(bound * (np.abs(x_coefficient) + np.abs(y_coefficient)), floor)
    if (np.abs(rhs[free]) > bound * size[free]).any():
        raise Contradiction
    if free.all():
        return False
    node, value = forest.root[edges.x[~free]], rhs[~free] / coefficient[~free]
    state.value[node[::-1]] = value[::-1]
    np.maximum.at(state.value_size, node, size[~free] / np.abs(coefficient[~free]))
    state.known[node] = True
    if (np.abs(state.value[node] - value) > bound * (state.value_size[node] + np.abs(value))).any():
        raise Contradiction
    return True


def _compose(state: _State, forest: Forest) -> None:
    """Follow every entry from its old node to the root that the forest gave it."""
    if len(forest.scale) > 1:
        state.shift = state.scale * forest.shift[state.node] + state.shift
        state.size = np.abs(state.scale) * forest.size[state.node] + state.size
        state.scale = state.scale * forest.scale[state.node]
    state.node = forest.root[state.node]


def _substitute(state: _State, core: Rows, terms: Floats, tolerance: Tolerance) -> tuple[Rows, Floats]:
    """The remaining equations over the remaining unknowns, and their terms."""
    node = state.node[core.columns]
    scale = np.broadcast_to(state.scale, state.node.shape)[core.columns]
    shift, size = (np.broadcast_to(part, state.node.shape)[core.columns] for part in (state.shift, state.size))
    known = state.known[node]
    offset = core.values * (shift + np.where(known, scale * state.value[node], 0.0))
    row = core.row_of_each()
    rhs = core.rhs - np.bincount(row, offset, core.count)
    magnitude = np.abs(core.values) * (size + np.where(known, np.abs(scale) * state.value_size[node], 0.0))
    terms = terms + np.bincount(row, np.maximum(magnitude, np.abs(offset)), core.count)
    unknown = ~known
    values = core.values[unknown] * scale[unknown]
    triples = row[unknown], node[unknown], values
    zeros = np.zeros(core.count)
    substituted = from_coefficients(gather_rows, *triples, zeros, core.rule, core.index, tolerance.cancellation)
    return replace(substituted, rhs=rhs), terms
