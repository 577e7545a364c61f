"""Compute multipliers: the combination of the user's equations that is nearest to a gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsmr

from affinet.analysis.lookup.incidence import reach
from affinet.analysis.rows_by_entries import connected_with, values_of, without_entries
from affinet.blocks.entry_sets import positions_of
from affinet.language.calculus.terms import Floats, Term
from affinet.planning.elimination.components import Batch, Giant, split
from affinet.planning.reading.fixings import Fixing, read_fixings
from affinet.system import lapack
from affinet.system.distinct import ranked
from affinet.system.limits import Limits
from affinet.system.norms import norms_of_rows, norms_of_runs
from affinet.system.rows import Rows
from affinet.system.system import Rule, System
from affinet.system.tolerance import Tolerance

FAINT = 1e-6
"""Share of a random vector below which a row of a large component lies in no redundancy."""
MOST_SPREAD = 1e6
"""Redundant equations whose sizes differ by more: ν is the smallest as if they differed by this factor (small
components), or the smallest relative to the size of its equations (large ones). Either choice is valid."""


@dataclass(frozen=True, eq=False)
class Multipliers:
    """`values` (equations,): the ν of smallest norm with `Aᵀν` nearest to the gradient (but see MOST_SPREAD).

    `shared` (equations,) marks equations that take part in a redundancy: their multipliers are not unique, and only
    sums `νᵀδb` over changes `δb` that keep the rules consistent have a meaning.
    """

    values: Floats
    shared: np.ndarray


def multipliers(rows: Rows, gradient: Floats, tolerance: Tolerance, limits: Limits) -> Multipliers:
    """Solve `min ‖ν‖ subject to ‖Aᵀν − gradient‖ minimal`, component by component.

    `gradient` has one number per column of the rows' layout. Rows of a single entry absorb what others leave of the
    gradient there, so that these are solved without such entries; where rows are redundant, all that they are connected
    with are solved together. Source: minimum-norm least squares through the pseudo-inverse of each small component,
    LSMR for a large one (Fong & Saunders, SISC 2011).
    """
    single = rows.lengths == 1
    if not single.any() or not (rows.lengths > 1).any():
        return _solve(rows, gradient, tolerance, limits)
    solved, redundant = _solve_without_fixed(rows, single, gradient, tolerance, limits)
    if redundant.any():
        connected = np.flatnonzero(connected_with(rows, redundant))
        resolved = _solve(rows.select(connected), gradient, tolerance, limits)
        solved.values[connected], solved.shared[connected] = resolved.values, resolved.shared
    return solved


def _solve_without_fixed(
    rows: Rows, single: np.ndarray, gradient: Floats, tolerance: Tolerance, limits: Limits
) -> tuple[Multipliers, np.ndarray]:
    """Multipliers of rows where none is redundant, and marks of rows that are, or may be."""
    used, place = ranked(rows.columns)
    entry, coefficient = place[rows.bounds[:-1][single]], rows.values[rows.bounds[:-1][single]]
    fixing_rows = np.bincount(entry, minlength=len(used))
    several = np.flatnonzero(rows.lengths > 1)
    longer = rows.select(several)
    reduced, _ = without_entries(longer, longer.columns, (fixing_rows > 0)[place[values_of(rows, several)]])
    sizes, reduced_sizes = (norms_of_runs(of_rows.values, of_rows.bounds) for of_rows in (longer, reduced))
    solved = _solve(reduced, gradient, tolerance, limits)
    values, redundant = np.zeros(rows.count), np.zeros(rows.count, bool)
    values[several] = solved.values
    redundant[several] = solved.shared | (reduced_sizes <= FAINT * sizes)
    redundant[single] = fixing_rows[entry] > 1
    remainder = gradient[used] - np.bincount(place, rows.values * values[rows.row_of_each()], len(used))
    values[single] = remainder[entry] / coefficient
    return Multipliers(values, np.zeros(rows.count, bool)), redundant


def _solve(rows: Rows, gradient: Floats, tolerance: Tolerance, limits: Limits) -> Multipliers:
    """The multipliers of the components of rows; rows without entries have none."""
    values, shared = np.zeros(rows.count), np.zeros(rows.count, bool)
    places = np.flatnonzero(rows.lengths > 0)
    used = rows if len(places) == rows.count else rows.select(places)
    for component in split(used, np.zeros(used.count), limits):
        at = places[component.rows]
        if isinstance(component, Batch):
            values[at], shared[at] = _solve_small(component, gradient, tolerance)
        else:
            values[at], shared[at] = _solve_large(component, gradient)
    return Multipliers(values, shared)


def separate_fixings(system: System) -> dict[int, tuple[Fixing, float]]:
    """Large equation rules that fix entries that no other rule reads, with their coefficient."""
    fixing_rules: dict[int, tuple[Fixing, float]] = {}
    for number, rule in enumerate(system.rules):
        if rule.sense != "==" or rule.nonzeros <= system.limits.one_by_one or len(rule.expression.terms) > 1:
            continue
        names = {term.parameter.name for term in rule.expression.terms}
        other_terms = (term for k, other in enumerate(system.rules) if k != number for term in other.expression.terms)
        if any(term.parameter.name in names and _overlaps(term, rule) for term in other_terms):
            continue
        fixings = read_fixings(rule, number, system.tolerance.cancellation)
        if fixings is not None and len(fixings) == 1 and fixings[0].in_order:
            fixing_rules[number] = fixings[0], rule.expression.terms[0].scalar
    return fixing_rules


def _overlaps(term: Term, rule: Rule) -> bool:
    """Whether the ranges of entries that a term and a rule of one term read overlap."""
    (low, high), (least, most) = reach(term), reach(rule.expression.terms[0])
    return low <= most and least <= high


def fixing_multipliers(fixing: tuple[Fixing, float], system: System, gradient: Floats) -> Floats:
    """The multipliers of a rule that `separate_fixings` has found: each is `ν = g / a`."""
    fixed, coefficient = fixing
    start = system.layout.start(fixed.block.parameter)
    gradient_part = gradient[start : start + fixed.block.parameter.size]
    solved: Floats = gradient_part[positions_of(fixed.block.places)] / coefficient
    return solved


def sharing(rows: Rows, shared: np.ndarray) -> dict[int, list[int]]:
    """Rule → the other rules whose redundant equations are connected with those of the rule."""
    marked = np.flatnonzero(shared)
    if not len(marked):
        return {}
    partners: dict[int, set[int]] = {}
    for component in split(rows.select(marked), np.zeros(len(marked)), Limits()):
        for owners in rows.rule[marked[component.rows]].reshape(-1, component.rows.shape[-1]):
            owners_of_component = {int(rule) for rule in owners}
            for rule in owners_of_component:
                partners.setdefault(rule, set()).update(owners_of_component - {rule})
    return {rule: sorted(connected) for rule, connected in sorted(partners.items()) if connected}


def _solve_small(component: Batch, gradient: Floats, tolerance: Tolerance) -> tuple[Floats, np.ndarray]:
    """Multipliers of equilibrated rows, so that a rule of size 1e-20 counts as much as one of size 1."""
    norms, target = norms_of_rows(component.matrix), gradient[component.nodes]
    equilibrated = component.matrix / norms[..., None]
    if equilibrated.shape[1] == 1:
        return np.einsum("krn,kn->kr", equilibrated, target) / norms, np.zeros(norms.shape, bool)
    u, s, vt = (
        lapack.svd(equilibrated, full_matrices=True)
        if equilibrated.shape[1] > equilibrated.shape[2]
        else lapack.svd(equilibrated, full_matrices=False)
    )
    counted = s > tolerance.rank(*equilibrated.shape[1:]) * s[:, :1]
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=counted)
    coordinates = np.einsum("kqn,kn->kq", vt[:, : s.shape[1]], target) * inverse
    output_vectors = u[:, :, : s.shape[1]]
    values = np.einsum("krq,kq->kr", output_vectors, coordinates)
    # A row is independent of the others exactly where it lies in no left-null vector: ‖row of U over the rank‖ = 1.
    shared = np.einsum("krq,kq->kr", output_vectors * output_vectors, counted.astype(np.float64)) < 1.0 - 1e-9
    ranks = counted.sum(axis=1)
    for rank in np.unique(ranks[shared.any(axis=1)]):
        chosen = np.flatnonzero((ranks == rank) & shared.any(axis=1))
        values[chosen] = _minimize_norm(values[chosen], u[chosen][:, :, rank:] * shared[chosen, :, None], norms[chosen])
    return values / norms, shared


def _minimize_norm(values: Floats, null: Floats, norms: Floats) -> Floats:
    """Multipliers (k, r) of equilibrated rows, moved along their left-null vectors (k, r, q) to make ν smallest.

    Every such move solves the same equations; the norms of the rows decide only which ν is smallest.
    """
    least = norms.min(axis=1, keepdims=True)
    weight = np.maximum(least / norms, 1.0 / MOST_SPREAD)
    basis, triangle = lapack.batched_qr(null * weight[..., None])
    shift = lapack.solve(triangle, np.einsum("krq,kr->kq", basis, values * weight)[..., None])
    moved: Floats = values - np.einsum("krq,kq->kr", null, shift[..., 0])
    return moved


def _solve_large(component: Giant, gradient: Floats) -> tuple[Floats, np.ndarray]:
    """Multipliers of a large component, with redundant rows found by projecting a random vector on the left null space.

    A row takes part in a redundancy where that projection is not zero. With probability one, rows at which it is zero
    are zero in every left-null vector.
    """
    scale = norms_of_runs(component.matrix.data, component.matrix.indptr)
    equilibrated = sparse.csr_array(sparse.diags_array(1.0 / scale) @ component.matrix)
    values = solve_least_squares(sparse.csr_array(equilibrated.T), gradient[component.nodes]) / scale
    draw = np.random.default_rng(0).standard_normal(equilibrated.shape[0])
    outside = draw - equilibrated @ solve_least_squares(equilibrated, draw)
    shared = np.abs(outside) > FAINT * np.linalg.norm(draw) / np.sqrt(len(draw))
    # The multipliers of smallest norm are orthogonal to the left null space: they lie in the range of the rows.
    if shared.any() and (largest := scale[shared].max()) <= MOST_SPREAD * scale[shared].min():
        redundant_rows = sparse.csr_array(component.matrix[np.flatnonzero(shared)] / largest)
        values[shared] = redundant_rows @ solve_least_squares(redundant_rows, values[shared])
    return values, shared


def solve_least_squares(matrix: sparse.csr_array, target: Floats) -> Floats:
    """The x of smallest norm with the least `‖matrix x − target‖`, by LSMR."""
    largest = np.abs(target).max(initial=0.0) or 1.0  # squares of 1e200 have no float64
    solution: Floats = largest * lsmr(matrix, target / largest, atol=1e-13, btol=1e-13, maxiter=10_000)[0]
    return solution
