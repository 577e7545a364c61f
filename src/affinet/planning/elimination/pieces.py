"""Components factored, until none of them determines an unknown or makes two equal or opposite."""

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
    fixing_equations,
    implied,
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
"""How many times larger the numbers may be that a right-hand side is left of."""
MOST_PASSES = 8
"""What one pass takes out leaves nothing for the next but for rounding."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Components of one form: `solved` is their factor, the slices that they are, or None for a large one."""

    component: Batch | Giant
    solved: Factor | RowBatch | None


def pieces_of(
    reduction: Reduction, layout: Layout, tolerance: Tolerance, limits: Limits, names: Sequence[str] = ()
) -> tuple[Reduction, list[Piece]]:
    """The components that are left when all that they say of single unknowns has been eliminated, factored.

    Raises Contradiction, and TooLargeError.
    """
    pieces: list[Piece] = []
    for _ in range(MOST_PASSES):
        weight = from_coefficients(_weight, reduction.node, reduction.scale)
        components = split(reduction.core, reduction.terms, limits, names)
        pieces = [_factored(component, reduction, weight, layout, tolerance) for component in components]
        said = [(piece, found) for piece in pieces if (found := _implied(piece, weight, tolerance)) is not None]
        if not said:
            break
        reduction = _without(reduction, said, weight, tolerance)
    return reduction, pieces


def _weight(node: Integers, scale: Floats) -> Floats:
    """`D = Σ scale²` of the entries of each node."""
    weight: Floats = np.bincount(node, scale**2, len(node)).astype(np.float64)
    return weight


def _of(weight: Floats, nodes: Integers) -> Floats:
    return weight[nodes]


def _scaled(matrix: Floats, weight: Floats) -> Floats:
    """Coefficients (k, r, n) of unknowns of these weights (k, n), of y = √weight z."""
    scaled = 1.0 / np.sqrt(weight)
    return np.asarray(matrix * scaled[:, None, :])


def _factored(
    component: Batch | Giant, reduction: Reduction, weight: Floats, layout: Layout, tolerance: Tolerance
) -> Piece:
    if isinstance(component, Giant):
        return Piece(component, None)
    if _untied(component, reduction) and _whole(component):
        columns = reduction.columns[component.nodes]
        regular = recognise(columns, component.matrix, component.rhs, layout)
        if regular is not None:
            return Piece(component, regular)
    matrix = from_coefficients(_scaled, component.matrix, from_coefficients(_of, weight, component.nodes))
    said = reduction.norms[component.rows]
    solved = factor(matrix, component.rhs, component.terms, tolerance, said)
    if not solved.consistent.all():
        raise Contradiction
    return Piece(component, solved)


def _whole(component: Batch) -> bool:
    """Whether right-hand sides are as large as what they are left of.

    Where they are rounding of larger numbers, a contradiction is told from it by these numbers, which batches of
    regular rows do not carry. A single equation contradicts nothing.
    """
    left, of = np.abs(component.rhs).max(axis=1), component.terms.max(axis=1)
    return component.matrix.shape[1] == 1 or bool((of <= LARGER * left).all())


def entries_of(nodes: Integers, node: Integers) -> Integers:
    """The entries, rising, whose `node` is one of these nodes."""
    inside = np.zeros(len(node), bool)
    inside[nodes.ravel()] = True
    found: Integers = np.flatnonzero(inside[node])
    return found


def _untied(component: Batch, reduction: Reduction) -> bool:
    """Whether every unknown of the component is one entry as it is."""
    columns = from_coefficients(entries_of, component.nodes, reduction.node)
    if component.nodes.size != len(columns):
        return False
    return bool((some_of(reduction.scale, columns) == 1.0).all()) and not some_of(reduction.shift, columns).any()


def some_of(values: Floats, places: Integers) -> Floats:
    """The values at some places; the one that there is where all are the same number."""
    return values[:1] if values.strides == (0,) else values[places]


def _implied(piece: Piece, weight: Floats, tolerance: Tolerance) -> Implied | None:
    """What components say of single unknowns; nothing where a rank is in doubt, for that would settle it."""
    solved = piece.solved
    if not isinstance(solved, Factor) or solved.ambiguous:
        return None
    assert isinstance(piece.component, Batch)
    rows, own = piece.component.matrix.shape[1], from_coefficients(_of, weight, piece.component.nodes)
    return implied(solved.basis, solved.target, own, solved.condition, rows, tolerance)


def _without(
    reduction: Reduction, said: Sequence[tuple[Piece, Implied]], weight: Floats, tolerance: Tolerance
) -> Reduction:
    """The reduction with what is implied eliminated, and as many independent equations as then are left."""
    core = reduction.core
    kept, fixes, ties, fresh, fresh_terms = np.ones(core.count, bool), [], [], [], []
    for piece, found in said:
        component, solved = piece.component, piece.solved
        assert isinstance(component, Batch)
        assert isinstance(solved, Factor)
        nodes, taken = component.nodes[found.systems], component.rows[found.systems]
        rule = core.rule[taken[:, 0]]
        fixes.append(fixing_equations(nodes, rule, found))
        ties.append(tying_equations(nodes, rule, found))
        kept[taken] = False
        if len(found.systems) <= FEW_SYSTEMS:
            kept[_chosen(component, solved, weight, found)] = True
        else:
            left, right = remaining_equations(solved.basis, solved.target, weight[component.nodes], found)
            size = np.broadcast_to(np.abs(solved.target[found.systems]).sum(axis=1)[:, None], right.shape)
            some = np.asarray(left.any(axis=2))
            fresh.append(_spelt(nodes, left * np.sqrt(weight[nodes])[:, None, :], right, rule, some))
            fresh_terms.append(size[some])
    left_over = np.flatnonzero(kept)
    rows = concatenate([core.select(left_over), *fresh])
    terms = np.concatenate([reduction.terms[left_over], *fresh_terms])
    norms = np.concatenate([reduction.norms[left_over], *(norms_of_runs(some.values, some.bounds) for some in fresh)])
    return refine(reduction, concatenate(fixes), concatenate(ties), rows, terms, norms, tolerance)


def _chosen(component: Batch, solved: Factor, weight: Floats, found: Implied) -> Integers:
    """Equations of the core that say what is left beside what is implied, as they were said."""
    chosen = [np.zeros(0, np.int64)]
    for k, root, sign, count in zip(found.systems, found.root, found.sign, found.counts, strict=True):
        if solved.ranks[k] == count:
            continue
        own = weight[component.nodes[k]]
        matrix = component.matrix[k] / np.sqrt(own)
        norms = norms_of_rows(matrix)[:, None]
        matrix /= np.where(norms > 0, norms, 1.0)
        spread = classes(root[None], sign[None], own[None])
        picked = from_coefficients(independent, matrix, spread, int(solved.ranks[k] - count))
        chosen.append(component.rows[k, picked])
    return np.concatenate(chosen)


def _spelt(nodes: Integers, left: Floats, right: Floats, rule: Integers, some: np.ndarray) -> Rows:
    """Dense equations (f, r, n) one by one."""
    system, row = np.nonzero(some)
    values, columns = left[system, row], nodes[system]
    order = np.argsort(columns, axis=1)
    values, columns = np.take_along_axis(values, order, 1), np.take_along_axis(columns, order, 1)
    used = values != 0
    bounds = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return Rows(
        bounds, columns[used], values[used], right[system, row], rule[system], np.full(len(system), -1, np.int64)
    )
