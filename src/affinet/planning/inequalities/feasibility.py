"""Decide whether programs have a point, and find inequalities that hold with equality at every point they have."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from scipy import sparse
from scipy.optimize import linprog
from scipy.sparse.linalg import lsmr

from affinet.blocks.programs.gram_factor import WAY_OUT
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.forecast import forecast
from affinet.planning.contradiction import Contradiction
from affinet.planning.inequalities.programs import Programs
from affinet.system import lapack
from affinet.system.distinct import distinct
from affinet.system.tolerance import Tolerance

NARROW = 1e-6
"""A largest margin below this share of the numbers of a program, as the LP solver reports it, is computed anew from the
certificate: the solver itself holds rows to 1e-7."""
ROOM = 1e-2
"""Room that a point is to have to its rows and bounds, as a share of the numbers of its program."""
PUSHES = 30
"""Times that a point is moved to find one strictly inside; a linear program decides what they leave open."""
MOST_PUSHED = 2**18
"""Most products of the rows of one program with each other, whose decompositions then take seconds in all."""
SUPPORT = 1e-9
"""Share of the largest multiplier of a certificate below which a multiplier is zero."""


class NoPoint(Contradiction):
    """A contradiction of inequality rows, `rows`, with whatever equations there are."""

    def __init__(self, rows: Integers) -> None:
        super().__init__()
        self.rows = rows


def implied_equations(program: Programs, tolerance: Tolerance) -> Integers:
    """Numbers of inequality rows that hold with equality wherever the sets have points; perhaps not all of them.

    Empty where the inequalities can all be strict. Raises NoPoint where a set has no point.
    """
    rows = [_of_bounds(program, tolerance)]
    if not len(rows[0]) and program.height:
        rows.append(_of_one_row(program, tolerance) if program.height == 1 else _of_many_rows(program, tolerance))
    implied = distinct(np.concatenate(rows))
    return implied[implied >= 0]


def _of_bounds(program: Programs, tolerance: Tolerance) -> Integers:
    """Bounds that meet."""
    both = np.isfinite(program.lower) & np.isfinite(program.upper)
    lower, upper = program.lower[both], program.upper[both]
    slack = tolerance.consistency(8) * (program.lower_size[both] + program.upper_size[both])
    owners = np.stack([program.lower_row[both], program.upper_row[both]], axis=1)
    if (contradicting := upper - lower < -slack).any():
        raise NoPoint(owners[np.flatnonzero(contradicting)[0]])
    return owners[upper - lower <= slack].ravel()


def _of_one_row(program: Programs, tolerance: Tolerance) -> Integers:
    """By interval arithmetic: the least and the largest value that the row has over the bounds."""
    row, rhs = program.dense()[:, 0], program.rhs[:, 0]
    terms = np.where(row != 0.0, row * np.where(row > 0, program.lower, program.upper), 0.0)
    owners = np.where(row > 0, program.lower_row, program.upper_row)
    sizes = np.abs(row) * np.where(row > 0, program.lower_size, program.upper_size)
    implied = [_of_extreme(program, terms, sizes, rhs, owners, tolerance)]
    if program.equations:
        terms = np.where(row != 0.0, -row * np.where(row > 0, program.upper, program.lower), 0.0)
        owners = np.where(row > 0, program.upper_row, program.lower_row)
        sizes = np.abs(row) * np.where(row > 0, program.upper_size, program.lower_size)
        implied.append(_of_extreme(program, terms, sizes, -rhs, owners, tolerance))
    rows: Integers = np.concatenate(implied)
    return rows


def _of_extreme(
    program: Programs, terms: Floats, sizes: Floats, rhs: Floats, owners: Integers, tolerance: Tolerance
) -> Integers:
    """Rows that hold with equality where the least value of `Σ terms <= rhs` reaches its right-hand side."""
    least = terms.sum(axis=1)
    slack = tolerance.consistency(terms.shape[1]) * (sizes.sum(axis=1) + program.size[:, 0])
    bounded = np.isfinite(least)
    owners = np.concatenate([owners, program.rows], axis=1)
    in_row = np.concatenate([program.dense()[:, 0] != 0, np.ones((program.count, 1), bool)], axis=1)
    owners = np.where(in_row, owners, -1)
    if (contradicting := bounded & (rhs - least < -slack)).any():
        raise NoPoint(owners[np.flatnonzero(contradicting)[0]])
    return np.asarray(owners[bounded & (rhs - least <= slack)].ravel())


def _of_many_rows(program: Programs, tolerance: Tolerance) -> Integers:
    first, number_of = _distinct(program)
    inside = _has_interior(program if len(first) == program.count else program.select(first))
    undecided = np.flatnonzero(~inside[number_of])
    implied = [_of_program(program.select(np.array([cell])), tolerance) for cell in undecided]
    rows: Integers = np.concatenate([np.zeros(0, np.int64), *implied])
    return rows


def _distinct(program: Programs) -> tuple[Integers, Integers]:
    """The first program of each kind of equal ones, and for every program the number of its kind among these."""
    numbers: dict[bytes, int] = {}
    if isinstance(program.matrix, sparse.csr_array):
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    parts = (program.matrix, program.rhs, program.lower, program.upper)
    keys = [
        sha256(b"".join(np.ascontiguousarray(part[k]).data for part in parts)).digest() for k in range(program.count)
    ]
    number_of = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    first: Integers = np.unique(number_of, return_index=True)[1]
    return first, number_of


def _has_interior(program: Programs) -> np.ndarray:
    """Whether one of a few points is strictly inside.

    These are the middle of the bounds and zero, moved onto the equations, and where violated rows and bounds push them.
    """
    low, high = program.lower, program.upper
    reach = np.maximum(1.0, np.abs(np.where(np.isfinite(low), low, np.where(np.isfinite(high), high, 0.0))))
    bottom = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high, 0.0) - 2 * reach)
    top = np.where(np.isfinite(high), high, np.where(np.isfinite(low), low, 0.0) + 2 * reach)
    middle = np.where(np.isfinite(low) | np.isfinite(high), bottom / 2 + top / 2, 0.0)
    inside = np.zeros(program.count, bool)
    for point in (middle, np.zeros_like(middle)):
        moved = _onto_equations(program, point)
        inside |= _is_strict(program, moved)
    undecided = np.flatnonzero(~inside)
    if len(undecided) and program.height**2 <= MOST_PUSHED:
        part, moved = program.select(undecided), moved[undecided]
        for _ in range(PUSHES):
            before, moved = moved, _pushed(part, moved)
            inside[undecided] |= _is_strict(part, moved)
            if inside.all() or (moved == before).all():
                break
    return inside


def _is_strict(program: Programs, points: Floats) -> np.ndarray:
    """Whether points are on the equations, and strictly inside all inequalities and bounds."""
    scale = np.abs(points).max(axis=1, initial=0.0) + np.abs(program.rhs).max(axis=1, initial=0.0)
    margin = NARROW * scale[:, None]
    gap, count = program.rhs - _products(program, points), program.equations
    satisfied, strict = np.abs(gap[:, :count]) <= margin, gap[:, count:] > margin
    within = (points - program.lower > margin) & (program.upper - points > margin)
    return np.asarray(satisfied.all(axis=1) & strict.all(axis=1) & within.all(axis=1))


def _pushed(program: Programs, points: Floats) -> Floats:
    """Points moved by the shortest way to where violated rows hold with room, and then to where bounds do."""
    size = np.abs(points).max(axis=1, initial=0.0) + np.abs(program.rhs).max(axis=1, initial=0.0)
    room = ROOM * np.where(size > 0.0, size, 1.0)[:, None]  # rules without any number have no size of their own
    gap = _products(program, points) - program.rhs
    gap[:, program.equations :] += room
    active = np.arange(program.height) < program.equations
    active = active | (gap > 0.0)
    gram = np.where(active[:, :, None] & active[:, None, :], program.gram, 0.0)
    weights = np.einsum("kml,kl->km", lapack.pinv(gram, rcond=1e-10, hermitian=True), np.where(active, gap, 0.0))
    moved = points - _combined(program, weights)
    width = program.upper - program.lower
    reach = np.minimum(room, np.where(np.isfinite(width), width, np.inf) / 4)
    return np.asarray(np.clip(moved, program.lower + reach, program.upper - reach))


def _combined(program: Programs, weights: Floats) -> Floats:
    """The sums of rows times weights (k, m)."""
    if isinstance(program.matrix, sparse.csr_array):
        return np.asarray(program.matrix.T @ weights[0])[None]
    return np.asarray(np.einsum("kmn,km->kn", program.matrix, weights))


def _products(program: Programs, points: Floats) -> Floats:
    """The values of all rows at points (k, n)."""
    if isinstance(program.matrix, sparse.csr_array):
        return np.asarray(program.matrix @ points[0])[None]
    products: Floats = np.einsum("kmn,kn->km", program.matrix, points)
    return products


def _onto_equations(program: Programs, points: Floats) -> Floats:
    """Points (k, n) moved onto the equations, to rounding where these are well-conditioned."""
    count = program.equations
    if not count:
        return points
    gap = (_products(program, points) - program.rhs)[:, :count]
    if isinstance(program.matrix, sparse.csr_array):
        return np.asarray(points - lsmr(program.matrix[:count], gap[0], atol=1e-12, btol=1e-12)[0])
    matrix = program.matrix[:, :count]
    gram = matrix @ matrix.transpose(0, 2, 1)
    weights = np.einsum("kml,kl->km", lapack.pinv(gram, rcond=1e-10, hermitian=True), gap)
    moved: Floats = points - np.einsum("kmn,km->kn", matrix, weights)
    return moved


def _of_program(program: Programs, tolerance: Tolerance) -> Integers:
    """By the linear program `max t: A x = b, G x + t <= h`: its multipliers are a certificate (Farkas) for t <= 0."""
    matrix = sparse.csr_array(program.matrix if sparse.issparse(program.matrix) else program.dense()[0])
    count, width = program.equations, matrix.shape[1]
    identity = sparse.eye_array(width, format="csr")
    above, below = np.flatnonzero(np.isfinite(program.upper[0])), np.flatnonzero(np.isfinite(program.lower[0]))
    sides = sparse.csr_array(sparse.vstack([matrix[count:], identity[above], -identity[below]]))
    limits = np.concatenate([program.rhs[0, count:], program.upper[0, above], -program.lower[0, below]])
    owners = np.concatenate([program.rows[0, count:], program.upper_row[0, above], program.lower_row[0, below]])
    equations, values = matrix[:count], program.rhs[0, :count]
    sizes = np.concatenate([program.size[0, count:], program.upper_size[0, above], program.lower_size[0, below]])
    scale = max(sizes.max(initial=0.0), program.size[0, :count].max(initial=0.0)) or 1.0
    result = linprog(
        np.concatenate([np.zeros(width), [-1.0]]),
        A_ub=sparse.csr_array(sparse.hstack([sides, np.ones((len(limits), 1))])),
        b_ub=limits / scale,
        A_eq=sparse.csr_array(sparse.hstack([equations, np.zeros((count, 1))])) if count else None,
        b_eq=values / scale if count else None,
        bounds=[(None, None)] * width + [(None, 1.0)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if result.status != 0 or -result.fun > NARROW:
        return np.zeros(0, np.int64)
    multipliers = -result.ineqlin.marginals
    support = np.flatnonzero(multipliers > SUPPORT * multipliers.max(initial=0.0))
    magnitudes = np.concatenate([sizes[support], program.size[0, :count]])
    margin, size = _margin(sides[support], limits[support], equations, values, magnitudes)
    threshold = tolerance.consistency(width) * size
    if margin < -threshold:
        raise NoPoint(owners[support])
    return owners[support] if margin <= threshold else np.zeros(0, np.int64)


def _margin(
    sides: sparse.csr_array, limits: Floats, equations: sparse.csr_array, values: Floats, magnitudes: Floats
) -> tuple[float, float]:
    """`λ·h + ν·b` for the certificate `λᵀG + νᵀA = 0, Σ λ = 1`, and the magnitudes (of h, then b) that it adds up."""
    described = f"the certificate of {sides.shape[0] + len(values):,} rows over {sides.shape[1]:,} entries"
    forecast(described, (sides.shape[0] + len(values)) * sides.shape[1], way_out=WAY_OUT)
    stacked = np.vstack([sides.toarray(), equations.toarray()])
    side_weights = np.concatenate([np.ones(len(limits)), np.zeros(len(values))])
    system = np.vstack([stacked.T, side_weights])
    target = np.concatenate([np.zeros(stacked.shape[1]), [1.0]])
    weights = lapack.lstsq(system, target, rcond=None)[0]
    weights[np.abs(weights) <= SUPPORT * np.abs(weights).max()] = 0.0  # rounding, which would meet large numbers
    terms = weights * np.concatenate([limits, values])
    return float(terms.sum()), float(np.abs(weights) @ magnitudes)
