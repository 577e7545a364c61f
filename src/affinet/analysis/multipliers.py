"""Multipliers: the combination of equations that a gradient is made of, in the units in which the user wrote them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsmr

from affinet.analysis.lookup.incidence import reach
from affinet.blocks.entry_sets import positions_of
from affinet.language.calculus.terms import Floats, Term
from affinet.planning.elimination.components import Batch, Giant, split
from affinet.planning.reading.fixings import Fixing, read_fixings
from affinet.system import lapack
from affinet.system.limits import Limits
from affinet.system.norms import norms_of_rows, norms_of_runs
from affinet.system.rows import Rows
from affinet.system.system import Rule, System
from affinet.system.tolerance import Tolerance

FAINT = 1e-6
"""Share of a random vector below which a row of a large component lies in no redundancy."""
APART = 1e6
"""Of redundant equations that differ more in size, ν is the smallest as if they differed by so much (small components),
or of smallest size relative to its equations (large ones): there is nothing to tell which is meant."""


@dataclass(frozen=True, eq=False)
class Multipliers:
    """`values` (equations,): the ν of smallest norm with `Aᵀν` nearest to the gradient (but see APART).

    `shared` (equations,) marks equations that follow from others together with which they stand: their multipliers
    are not unique, and only sums `νᵀδb` over changes `δb` that keep the rules consistent have a meaning.
    """

    values: Floats
    shared: np.ndarray


def multipliers(rows: Rows, gradient: Floats, tolerance: Tolerance, limits: Limits) -> Multipliers:
    """Solve `min ‖ν‖ subject to ‖Aᵀν − gradient‖ minimal`, component by component.

    `gradient` is by column of the layout the rows were made with. Source: minimum-norm least squares through the
    pseudo-inverse of each small component, LSMR for a large one (Fong & Saunders, SISC 2011).
    """
    values, shared = np.zeros(rows.count), np.zeros(rows.count, bool)
    used = rows.select(np.flatnonzero(rows.lengths > 0))
    places = np.flatnonzero(rows.lengths > 0)
    for component in split(used, np.zeros(used.count), limits):
        at = places[component.rows]
        if isinstance(component, Batch):
            values[at], shared[at] = _small(component, gradient, tolerance)
        else:
            values[at], shared[at] = _large(component, gradient)
    return Multipliers(values, shared)


def of_system(system: System, gradient: Floats) -> Multipliers:
    """The multipliers of all rules, one rule after the other.

    Large rules that fix entries of which no other rule speaks are told from the gradient entry by entry: `ν = g / a`.
    """
    alone = _alone(system)
    others = [number for number in range(len(system.rules)) if number not in alone]
    rows = system.rows(others)
    found = multipliers(rows, gradient, system.tolerance, system.limits)
    values, shared, first = [], [], 0
    for number, rule in enumerate(system.rules):
        if number in alone:
            values.append(_of_fixing(alone[number], system, gradient))
            shared.append(np.zeros(rule.equations, bool))
            continue
        own = slice(first, first + rule.equations)
        values.append(found.values[own])
        shared.append(found.shared[own])
        first += rule.equations
    return Multipliers(np.concatenate([np.zeros(0), *values]), np.concatenate([np.zeros(0, bool), *shared]))


def by_rule(system: System, gradient: Floats) -> dict[str, Floats]:
    """Rule name → its multipliers, in the rule's shape."""
    rules = system.rules
    parts = np.split(of_system(system, gradient).values, np.cumsum([rule.equations for rule in rules])[:-1])
    return {rule.name: part.reshape(rule.expression.shape).copy() for rule, part in zip(rules, parts, strict=False)}


def shared_by_rule(system: System) -> dict[str, tuple[str, ...]]:
    """Rule name → the other rules together with which it is redundant; rules that stand alone are left out."""
    rules = system.rules
    bounds = np.cumsum([rule.equations for rule in rules])[:-1]
    marks = dict(enumerate(np.split(of_system(system, np.zeros(system.layout.size)).shared, bounds)))
    some = [number for number in range(len(rules)) if marks[number].any()]
    shared = np.concatenate([np.zeros(0, bool), *(marks[number] for number in some)])
    groups = sharing(system.rows(some), shared)
    return {rules[rule].name: tuple(rules[k].name for k in others) for rule, others in groups.items()}


def _alone(system: System) -> dict[int, tuple[Fixing, float]]:
    """Large rules that fix entries of which no other rule speaks, and the coefficient that they have."""
    found: dict[int, tuple[Fixing, float]] = {}
    for number, rule in enumerate(system.rules):
        if rule.nonzeros <= system.limits.one_by_one or len(rule.expression.terms) > 1:
            continue
        names = {term.parameter.name for term in rule.expression.terms}
        others = (term for k, other in enumerate(system.rules) if k != number for term in other.expression.terms)
        if any(term.parameter.name in names and _meets(term, rule) for term in others):
            continue
        fixings = read_fixings(rule, number, system.tolerance.cancellation)
        if fixings is not None and len(fixings) == 1 and fixings[0].whole:
            found[number] = fixings[0], rule.expression.terms[0].scalar
    return found


def _meets(term: Term, rule: Rule) -> bool:
    """Whether the ranges of entries that a term and a rule of one term read overlap."""
    (low, high), (least, most) = reach(term), reach(rule.expression.terms[0])
    return low <= most and least <= high


def _of_fixing(fixing: tuple[Fixing, float], system: System, gradient: Floats) -> Floats:
    one, coefficient = fixing
    start = system.layout.start(one.block.parameter)
    own = gradient[start : start + one.block.parameter.size]
    found: Floats = own[positions_of(one.block.places)] / coefficient
    return found


def sharing(rows: Rows, shared: np.ndarray) -> dict[int, list[int]]:
    """Rule → the other rules whose redundant equations are connected with its own."""
    marked = np.flatnonzero(shared)
    if not len(marked):
        return {}
    together: dict[int, set[int]] = {}
    for component in split(rows.select(marked), np.zeros(len(marked)), Limits()):
        for owners in rows.rule[marked[component.rows]].reshape(-1, component.rows.shape[-1]):
            found = {int(rule) for rule in owners}
            for rule in found:
                together.setdefault(rule, set()).update(found - {rule})
    return {rule: sorted(others) for rule, others in sorted(together.items()) if others}


def _small(component: Batch, gradient: Floats, tolerance: Tolerance) -> tuple[Floats, np.ndarray]:
    """Of equilibrated rows, so that a rule of size 1e-20 beside one of size 1 is as much of an equation."""
    norms, sought = norms_of_rows(component.matrix), gradient[component.nodes]
    even = component.matrix / norms[..., None]
    if even.shape[1] == 1:
        return np.einsum("krn,kn->kr", even, sought) / norms, np.zeros(norms.shape, bool)
    u, s, vt = (
        lapack.svd(even, full_matrices=True) if even.shape[1] > even.shape[2] else lapack.svd(even, full_matrices=False)
    )
    kept = s > tolerance.rank(*even.shape[1:]) * s[:, :1]
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=kept)
    along = np.einsum("kqn,kn->kq", vt[:, : s.shape[1]], sought) * inverse
    left = u[:, :, : s.shape[1]]
    values = np.einsum("krq,kq->kr", left, along)
    # A row is independent of the others exactly where it lies in no left-null vector: ‖row of U over the rank‖ = 1.
    shared = np.einsum("krq,kq->kr", left * left, kept.astype(np.float64)) < 1.0 - 1e-9
    ranks = kept.sum(axis=1)
    for rank in np.unique(ranks[shared.any(axis=1)]):
        some = np.flatnonzero((ranks == rank) & shared.any(axis=1))
        values[some] = _smallest(values[some], u[some][:, :, rank:] * shared[some, :, None], norms[some])
    return values / norms, shared


def _smallest(values: Floats, null: Floats, norms: Floats) -> Floats:
    """Multipliers (k, r) of equilibrated rows, moved along their left-null vectors (k, r, q) to where ν is smallest.

    They solve the same equations wherever they are moved to; only how small ν is has to do with how far rows differ.
    """
    least = norms.min(axis=1, keepdims=True)
    weight = np.maximum(least / norms, 1.0 / APART)
    basis, triangle = lapack.batched_qr(null * weight[..., None])
    along = lapack.solve(triangle, np.einsum("krq,kr->kq", basis, values * weight)[..., None])
    found: Floats = values - np.einsum("krq,kq->kr", null, along[..., 0])
    return found


def _large(component: Giant, gradient: Floats) -> tuple[Floats, np.ndarray]:
    """A random vector has a part in the left null space, and a row takes part in a redundancy where that is not zero.

    With probability one: the rows whose component vanishes for a random vector are those of no left-null vector.
    """
    scale = norms_of_runs(component.matrix.data, component.matrix.indptr)
    even = sparse.csr_array(sparse.diags_array(1.0 / scale) @ component.matrix)
    values = _least_squares(sparse.csr_array(even.T), gradient[component.nodes]) / scale
    draw = np.random.default_rng(0).standard_normal(even.shape[0])
    outside = draw - even @ _least_squares(even, draw)
    shared = np.abs(outside) > FAINT * np.linalg.norm(draw) / np.sqrt(len(draw))
    # Of smallest norm is what is orthogonal to the left null space: in the range of the rows.
    if shared.any() and (largest := scale[shared].max()) <= APART * scale[shared].min():
        own = sparse.csr_array(component.matrix[np.flatnonzero(shared)] / largest)
        values[shared] = own @ _least_squares(own, values[shared])
    return values, shared


def _least_squares(matrix: sparse.csr_array, sought: Floats) -> Floats:
    largest = np.abs(sought).max(initial=0.0) or 1.0  # squares of 1e200 have no float64
    found: Floats = largest * lsmr(matrix, sought / largest, atol=1e-13, btol=1e-13, maxiter=10_000)[0]
    return found
