"""Factor components, and eliminate what they imply, until none determines an unknown or makes two equal or opposite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from affinet.blocks.regular import RowBatch
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination.components import Batch, Giant, split
from affinet.planning.elimination.recognition import recognise
from affinet.planning.elimination.reduction import Reduction, refine
from affinet.planning.factors.factor import FEW_SYSTEMS, Factor, factor
from affinet.planning.factors.implied import (
    Implied,
    classes,
    find_implied,
    fixing_equations,
    independent,
    remaining_equations,
    tying_equations,
)
from affinet.planning.refit.record import from_coefficients
from affinet.system.layout import Layout
from affinet.system.limits import Limits
from affinet.system.norms import norms_of_rows, norms_of_runs
from affinet.system.rows import Rows, concatenate
from affinet.system.tolerance import Tolerance

LARGER = 8.0
"""How many times larger than a right-hand side the terms may be that it was computed from."""
MOST_PASSES = 8
"""One pass finds everything but for rounding, so that few passes suffice."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Components of one form; `solved` is their factor, a regular batch that equals them, or None for a large one."""

    component: Batch | Giant
    solved: Factor | RowBatch | None


def factor_pieces(
    reduction: Reduction, layout: Layout, tolerance: Tolerance, limits: Limits, names: Sequence[str] = ()
) -> tuple[Reduction, list[Piece]]:
    """Factor the components, after elimination of all single unknowns that they determine, equate or oppose.

    Raises Contradiction and TooLargeError.
    """
    pieces: list[Piece] = []
    for _ in range(MOST_PASSES):
        weight = from_coefficients(_node_weights, reduction.node, reduction.scale)
        components = split(reduction.core, reduction.terms, limits, names)
        pieces = [_factor_component(component, reduction, weight, layout, tolerance) for component in components]
        informative = [
            (piece, facts) for piece in pieces if (facts := _find_facts(piece, weight, tolerance)) is not None
        ]
        if not informative:
            break
        reduction = _eliminate_facts(reduction, informative, weight, tolerance)
    return reduction, pieces


def _node_weights(node: Integers, scale: Floats) -> Floats:
    """`D = Σ scale²` of the entries of each node."""
    weight: Floats = np.bincount(node, scale**2, len(node)).astype(np.float64)
    return weight


def _take(weight: Floats, nodes: Integers) -> Floats:
    return weight[nodes]


def _scale_columns(matrix: Floats, weight: Floats) -> Floats:
    """Coefficients (k, r, n) over y = √weight z, from those over unknowns z of these weights (k, n)."""
    scaled = 1.0 / np.sqrt(weight)
    return np.asarray(matrix * scaled[:, None, :])


def _factor_component(
    component: Batch | Giant, reduction: Reduction, weight: Floats, layout: Layout, tolerance: Tolerance
) -> Piece:
    if isinstance(component, Giant):
        return Piece(component, None)
    if _is_untied(component, reduction) and _keeps_magnitudes(component):
        columns = reduction.columns[component.nodes]
        regular = recognise(columns, component.matrix, component.rhs, layout)
        if regular is not None:
            return Piece(component, regular)
    matrix = from_coefficients(_scale_columns, component.matrix, from_coefficients(_take, weight, component.nodes))
    original_norms = reduction.norms[component.rows]
    solved = factor(matrix, component.rhs, component.terms, tolerance, original_norms)
    if not solved.consistent.all():
        raise Contradiction
    return Piece(component, solved)


def _keeps_magnitudes(component: Batch) -> bool:
    """Whether right-hand sides are about as large as the terms that they were computed from.

    Otherwise rounding and contradiction can be distinguished only by the size of the terms, which batches of regular
    rows do not store. A single equation contradicts nothing.
    """
    largest_rhs, largest_terms = np.abs(component.rhs).max(axis=1), component.terms.max(axis=1)
    return component.matrix.shape[1] == 1 or bool((largest_terms <= LARGER * largest_rhs).all())


def entries_of(nodes: Integers, node: Integers) -> Integers:
    """The entries, in ascending order, whose `node` is one of these nodes."""
    inside = np.zeros(len(node), bool)
    inside[nodes.ravel()] = True
    entries: Integers = np.flatnonzero(inside[node])
    return entries


def _is_untied(component: Batch, reduction: Reduction) -> bool:
    """Whether every unknown of the component is a single entry, without scale or shift."""
    columns = from_coefficients(entries_of, component.nodes, reduction.node)
    if component.nodes.size != len(columns):
        return False
    return (
        bool((take_values(reduction.scale, columns) == 1.0).all()) and not take_values(reduction.shift, columns).any()
    )


def take_values(values: Floats, places: Integers) -> Floats:
    """The values at some places; a single value if all values are one repeated number."""
    return values[:1] if values.strides == (0,) else values[places]


def _find_facts(piece: Piece, weight: Floats, tolerance: Tolerance) -> Implied | None:
    """Unknowns that components determine, equate or oppose; None if a rank is in doubt, as that would decide it."""
    solved = piece.solved
    if not isinstance(solved, Factor) or solved.ambiguous:
        return None
    assert isinstance(piece.component, Batch)
    rows, weight_of_nodes = piece.component.matrix.shape[1], from_coefficients(_take, weight, piece.component.nodes)
    return find_implied(solved.basis, solved.target, weight_of_nodes, solved.condition, rows, tolerance)


def _eliminate_facts(
    reduction: Reduction, informative: Sequence[tuple[Piece, Implied]], weight: Floats, tolerance: Tolerance
) -> Reduction:
    """The reduction after elimination of the facts, with as many independent equations as then remain."""
    core = reduction.core
    remains, fixes, ties, new_rows, new_terms = np.ones(core.count, bool), [], [], [], []
    for piece, facts in informative:
        component, solved = piece.component, piece.solved
        assert isinstance(component, Batch)
        assert isinstance(solved, Factor)
        nodes, explained_rows = component.nodes[facts.systems], component.rows[facts.systems]
        rules = core.rule[explained_rows[:, 0]]
        fixes.append(fixing_equations(nodes, rules, facts))
        ties.append(tying_equations(nodes, rules, facts))
        remains[explained_rows] = False
        if len(facts.systems) <= FEW_SYSTEMS:
            remains[_choose_rows(component, solved, weight, facts)] = True
        else:
            lhs, rhs = remaining_equations(solved.basis, solved.target, weight[component.nodes], facts)
            size = np.broadcast_to(np.abs(solved.target[facts.systems]).sum(axis=1)[:, None], rhs.shape)
            nonzero = np.asarray(lhs.any(axis=2))
            new_rows.append(_list_rows(nodes, lhs * np.sqrt(weight[nodes])[:, None, :], rhs, rules, nonzero))
            new_terms.append(size[nonzero])
    remaining = np.flatnonzero(remains)
    rows = concatenate([core.select(remaining), *new_rows])
    terms = np.concatenate([reduction.terms[remaining], *new_terms])
    new_norms = (norms_of_runs(new.values, new.bounds) for new in new_rows)
    norms = np.concatenate([reduction.norms[remaining], *new_norms])
    return refine(reduction, concatenate(fixes), concatenate(ties), rows, terms, norms, tolerance)


def _choose_rows(component: Batch, solved: Factor, weight: Floats, facts: Implied) -> Integers:
    """Original equations of the core that, together with the facts, imply all others."""
    chosen = [np.zeros(0, np.int64)]
    for k, root, sign, count in zip(facts.systems, facts.root, facts.sign, facts.counts, strict=True):
        if solved.ranks[k] == count:
            continue
        weights = weight[component.nodes[k]]
        matrix = component.matrix[k] / np.sqrt(weights)
        norms = norms_of_rows(matrix)[:, None]
        matrix /= np.where(norms > 0, norms, 1.0)
        spread = classes(root[None], sign[None], weights[None])
        picked = from_coefficients(independent, matrix, spread, int(solved.ranks[k] - count))
        chosen.append(component.rows[k, picked])
    return np.concatenate(chosen)


def _list_rows(nodes: Integers, lhs: Floats, rhs: Floats, rule: Integers, nonzero: np.ndarray) -> Rows:
    """Dense equations (f, r, n) as single rows."""
    system, row = np.nonzero(nonzero)
    values, columns = lhs[system, row], nodes[system]
    order = np.argsort(columns, axis=1)
    values, columns = np.take_along_axis(values, order, 1), np.take_along_axis(columns, order, 1)
    used = values != 0
    bounds = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return Rows(bounds, columns[used], values[used], rhs[system, row], rule[system], np.full(len(system), -1, np.int64))
