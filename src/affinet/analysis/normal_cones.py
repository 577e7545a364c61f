"""Project gradients on the cones that rows span with signed multipliers, and say where multipliers are not unique.

A cell has rows of several entries, and bounds of single entries, which absorb what the rows leave of the gradient of
their entry if that has the right sign. So the search is for the multipliers of the rows alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import lsq_linear
from scipy.sparse.linalg import lsmr

from affinet.analysis.nonnegative import nonnegative
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.components import Batch, Giant
from affinet.system import lapack
from affinet.system.norms import norms_of_rows, norms_of_runs
from affinet.system.tolerance import Tolerance

ROUNDING = 1e-12
"""Share of a cell's gradient below which a multiplier, or what is left for a bound, has no sign."""
DEPENDENT = 1e-9
"""Share of a row of length one below which it lies in no dependency."""
FAINT = 1e-6
"""The same for the rows of a large component, whose dependencies are found by iteration."""


class Solved(NamedTuple):
    """Multipliers `values` (k, r) of rows, and marks of those that are not unique.

    `shared` (k, r) marks multipliers of rows, `shared_entries` (k, n) entries whose bounds have such multipliers.
    """

    values: Floats
    shared: np.ndarray
    shared_entries: np.ndarray


def solve_batch(component: Batch, target: Floats, absorbed: Integers, signs: Integers, tolerance: Tolerance) -> Solved:
    """The multipliers ν whose `matrixᵀ ν` leave least of `target` (k, n), once bounds have absorbed what they can.

    `signs` (k, r) are those that multipliers may have: 1, −1, or 0 for any. `absorbed` (k, n): 1 and −1 where bounds
    absorb a positive or a negative remainder, 0 where they absorb none. Where there are several such ν, the one of
    smallest norm, as if all rows had length one.
    """
    norms = norms_of_rows(component.matrix)
    matrix = component.matrix / norms[..., None]
    if matrix.shape[1] == 1:
        solved = _solve_single_rows(matrix[:, 0], target, absorbed, signs[:, 0])
    else:
        solved = _solve_several_rows(matrix, target, absorbed, signs, tolerance)
    return solved._replace(values=solved.values / norms)


def solve_giant(component: Giant, target: Floats, absorbed: Integers, signs: Integers) -> Solved:
    """The same for one large component, whose rows are sparse; of several ν, any one. Shapes without the first axis."""
    norms = norms_of_runs(component.matrix.data, component.matrix.indptr)
    matrix = sparse.csr_array(sparse.diags_array(1.0 / norms) @ component.matrix)
    free = sparse.csr_array(matrix @ sparse.diags_array((absorbed == 0).astype(float)))
    values = _least_squares(sparse.csr_array(free.T), np.where(absorbed == 0, target, 0.0))
    size = float(np.linalg.norm(target))
    if not _has_signs(values, signs, target - matrix.T @ values, absorbed, size):
        values = _bounded_least_squares(matrix, target, absorbed, signs)
    draw = np.random.default_rng(0).standard_normal(matrix.shape[0])
    outside = draw - free @ _least_squares(free, draw)
    threshold = FAINT * np.linalg.norm(draw) / np.sqrt(len(draw))
    shared = np.abs(outside) > threshold
    entries = (np.abs(matrix.T @ np.where(shared, outside, 0.0)) > threshold) & (absorbed != 0)
    return Solved(_signed(values, signs) / norms, shared, entries)


def solve_rows(row: Floats, target: Floats, absorbed: Integers, signs: Integers) -> Floats:
    """The multiplier ν of each row (k, n) that leaves least of `target`, once bounds have absorbed what they can.

    What is left, `Σ a (a ν − g)` over the entries whose remainder no bound absorbs, grows with ν and is linear between
    the points `g / a` at which an entry's remainder changes its sign. Where any ν of an interval leaves nothing, the
    one of smallest size.
    """
    count, width = row.shape
    zero = row == 0.0
    point = np.divide(target, row, out=np.zeros_like(row), where=~zero)
    weight = row * row
    # `above`: the entry counts where ν > point, `below`: where ν < point; others always.
    side = np.where(zero, 2, absorbed * np.sign(row).astype(np.int64))
    always = np.where(side == 0, weight, 0.0)
    order = np.argsort(point, axis=1, kind="stable")
    sorted_point, sorted_side, sorted_weight = (np.take_along_axis(x, order, 1) for x in (point, side, weight))
    above, below = np.where(sorted_side == 1, sorted_weight, 0.0), np.where(sorted_side == -1, sorted_weight, 0.0)
    nothing = np.zeros((count, 1))
    # Interval number m lies between sorted points m − 1 and m.
    total = np.concatenate([nothing, np.cumsum(above, 1)], 1) + np.concatenate(
        [np.cumsum(below[:, ::-1], 1)[:, ::-1], nothing], 1
    )
    moment = np.concatenate([nothing, np.cumsum(above * sorted_point, 1)], 1) + np.concatenate(
        [np.cumsum((below * sorted_point)[:, ::-1], 1)[:, ::-1], nothing], 1
    )
    total += always.sum(1, keepdims=True)
    moment += (always * point).sum(1, keepdims=True)
    slope_at_end = total[:, :-1] * sorted_point - moment[:, :-1]
    interval = np.where((slope_at_end >= 0.0).any(1), (slope_at_end >= 0.0).argmax(1), width)
    chosen, shifted = (np.take_along_axis(x, interval[:, None], 1)[:, 0] for x in (total, moment))
    root = np.divide(shifted, chosen, out=np.zeros(count), where=chosen > 0.0)
    lowest = np.where(side == -1, point, -np.inf).max(1)
    highest = np.where(side == 1, point, np.inf).min(1)
    flat = (always.sum(1) == 0.0) & (lowest <= highest)
    root = np.where(flat, np.clip(0.0, lowest, highest), root)
    signed: Floats = np.where(signs > 0, np.maximum(root, 0.0), np.where(signs < 0, np.minimum(root, 0.0), root))
    return signed


def _solve_single_rows(row: Floats, target: Floats, absorbed: Integers, signs: Integers) -> Solved:
    values = solve_rows(row, target, absorbed, signs)
    shared = ~((absorbed == 0) & (row != 0.0)).any(axis=1)
    return Solved(values[:, None], shared[:, None], shared[:, None] & (row != 0.0))


def _solve_several_rows(
    matrix: Floats, target: Floats, absorbed: Integers, signs: Integers, tolerance: Tolerance
) -> Solved:
    free = np.where(absorbed[:, None, :] == 0, matrix, 0.0)
    u, s, vt = lapack.svd(free, full_matrices=free.shape[1] > free.shape[2])
    width = s.shape[1]
    counted = s > tolerance.rank(*free.shape[1:])  # rows have length one, with the entries that bounds absorb
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=counted)
    values = np.einsum("krq,kq->kr", u[:, :, :width], np.einsum("kqn,kn->kq", vt[:, :width], target) * inverse)
    within = np.einsum("krq,kq->kr", u[:, :, :width] ** 2, counted.astype(np.float64))
    shared = within < 1.0 - DEPENDENT
    remainder = target - np.einsum("krn,kr->kn", matrix, values)
    size = np.linalg.norm(target, axis=1)
    entries = np.zeros(absorbed.shape, bool)
    for k in range(len(matrix)):
        null = u[k][:, int(counted[k].sum()) :]
        if shared[k].any():
            entries[k] = (np.linalg.norm(matrix[k].T @ null, axis=1) > DEPENDENT) & (absorbed[k] != 0)
        if not _has_signs(values[k], signs[k], remainder[k], absorbed[k], size[k]):
            values[k] = _solve_cell(matrix[k], target[k], absorbed[k], signs[k], null if shared[k].any() else None)
    return Solved(_signed(values, signs), shared, entries)


def _has_signs(values: Floats, signs: Integers, remainder: Floats, absorbed: Integers, size: float) -> bool:
    """Whether multipliers have their signs, and bounds absorb the remainders of their entries, but for rounding."""
    return bool((values * signs >= -ROUNDING * size).all() and (remainder * absorbed >= -ROUNDING * size).all())


def _signed(values: Floats, signs: Integers) -> Floats:
    """The multipliers with signs that rounding has turned set to zero."""
    return np.where(values * signs < 0.0, 0.0, values)


def _solve_cell(matrix: Floats, target: Floats, absorbed: Integers, signs: Integers, null: Floats | None) -> Floats:
    """Multipliers of one cell by nonnegative least squares (Lawson & Hanson 1974, chapter 23).

    Rows of any sign are projected out first. `null`: combinations of rows that bounds absorb entirely, along which the
    multipliers of smallest norm are found, by least distance programming (same source).
    """
    values = np.zeros(len(matrix))
    signed, equations = np.flatnonzero(signs), np.flatnonzero(signs == 0)
    bounds = np.flatnonzero(absorbed)
    generators = np.concatenate([matrix[signed] * signs[signed, None], _units(bounds, absorbed, matrix.shape[1])])
    basis = lapack.svd(matrix[equations], full_matrices=False)
    keep = basis[1] > DEPENDENT
    span = basis[2][keep]
    scale = float(np.abs(target).max(initial=0.0)) or 1.0
    reduced = (target - span.T @ (span @ target)) / scale
    generated = generators - generators @ span.T @ span
    generated[np.linalg.norm(generated, axis=1) <= DEPENDENT] = 0.0  # rows that follow from equations, but for rounding
    weights = nonnegative(generated.T, reduced) * scale
    values[signed] = weights[: len(signed)] * signs[signed]
    remainder = target - generators.T @ weights
    values[equations] = (basis[0][:, keep] / basis[1][keep]) @ (span @ remainder)
    return values if null is None else _smallest(values, matrix, target, absorbed, signs, null)


def _units(places: Integers, absorbed: Integers, width: int) -> Floats:
    units = np.zeros((len(places), width))
    units[np.arange(len(places)), places] = absorbed[places]
    return units


def _smallest(
    values: Floats, matrix: Floats, target: Floats, absorbed: Integers, signs: Integers, null: Floats
) -> Floats:
    """The multipliers of smallest norm among those along `null` with the same signs: `min |c|: H c >= h`."""
    signed, bounds = np.flatnonzero(signs), np.flatnonzero(absorbed)
    least = values - null @ (null.T @ values)
    remainder = target - matrix.T @ values
    # What bounds absorb at these multipliers, and must go on absorbing with its sign.
    absorbing = np.maximum(remainder[bounds] * absorbed[bounds], 0.0)
    moved = absorbed[bounds, None] * (matrix[:, bounds].T @ null)
    start = null.T @ values
    sides = np.concatenate([signs[signed, None] * null[signed], -moved])
    limits = np.concatenate([-signs[signed] * least[signed], -absorbing - moved @ start])
    scale = float(np.abs(limits).max(initial=0.0)) or 1.0
    stacked = np.concatenate([sides.T, limits[None] / scale])
    goal = np.zeros(len(stacked))
    goal[-1] = 1.0
    dual = nonnegative(stacked, goal)
    remainder = stacked @ dual - goal
    if remainder[-1] == 0.0:
        return values
    nearest: Floats = least + null @ (-remainder[:-1] / remainder[-1] * scale)
    return nearest


def _bounded_least_squares(matrix: sparse.csr_array, target: Floats, absorbed: Integers, signs: Integers) -> Floats:
    """Multipliers of a large cell by least squares with bounds, then exactly on the entries and rows it has chosen."""
    bounds = np.flatnonzero(absorbed)
    units = sparse.csr_array(
        (absorbed[bounds].astype(float), (bounds, np.arange(len(bounds)))), shape=(matrix.shape[1], len(bounds))
    )
    columns = sparse.csr_array(sparse.hstack([matrix.T, units]))
    lower = np.concatenate([np.where(signs > 0, 0.0, -np.inf), np.zeros(len(bounds))])
    upper = np.concatenate([np.where(signs < 0, 0.0, np.inf), np.full(len(bounds), np.inf)])
    scale = float(np.abs(target).max(initial=0.0)) or 1.0
    solution = lsq_linear(columns, target / scale, (lower, upper), tol=1e-14, lsmr_tol="auto", max_iter=500).x * scale
    chosen = np.abs(solution) > 1e-7 * np.abs(solution).max(initial=0.0)
    polished = np.zeros_like(solution)
    polished[chosen] = _least_squares(sparse.csr_array(columns[:, np.flatnonzero(chosen)]), target)
    inside = (polished >= lower - ROUNDING * scale).all() and (polished <= upper + ROUNDING * scale).all()
    nearer = np.linalg.norm(columns @ polished - target) <= np.linalg.norm(columns @ solution - target)
    values: Floats = (polished if inside and nearer else solution)[: matrix.shape[0]]
    return values


def _least_squares(matrix: sparse.csr_array, target: Floats) -> Floats:
    largest = np.abs(target).max(initial=0.0) or 1.0  # squares of 1e200 have no float64
    solution: Floats = largest * lsmr(matrix, target / largest, atol=1e-13, btol=1e-13, maxiter=10_000)[0]
    return solution
