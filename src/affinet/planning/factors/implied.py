"""Find unknowns that dense equations determine, or make equal or opposite to others, and the equations that remain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.rows import Rows
from affinet.system.tolerance import DOUBLE_EPSILON, Tolerance

SQUARED_LENGTH_TOLERANCE = 1e-6
"""Squared lengths have half the digits, so that they only select candidates; the lengths themselves then decide."""
MARK_TOLERANCE = 1e-10
"""Marks of equal tangent parts differ by at most this share; those of unequal ones almost always by more."""
ROUNDING = 16 * DOUBLE_EPSILON
AT_A_TIME = 2**22
"""Numbers of tangent vectors that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Implied:
    """`x_j == sign_j · x[root_j] + shift_j` for the unknowns of some systems of a batch.

    `systems` (f,) are the numbers of the systems with at least one such fact; root, sign and shift are (f, n). Where
    sign is 0 the unknown has the value `shift`. An unknown without a fact is its own root.
    """

    systems: Integers
    root: Integers
    sign: Integers
    shift: Floats

    @property
    def counts(self) -> Integers:
        """Number of independent equations per system."""
        counts: Integers = self._informative.sum(axis=1)
        return counts

    @property
    def _informative(self) -> np.ndarray:
        informative: np.ndarray = (self.sign == 0) | (self.root != np.arange(self.root.shape[1]))
        return informative


def find_implied(
    basis: Floats, target: Floats, weight: Floats, condition: Floats, rows: int, tolerance: Tolerance
) -> Implied | None:
    """The unknowns `x_j` and the pairs `x_i ∓ x_j` that lie in the row spaces; None without such facts.

    Shapes: basis (k, r, n) with orthonormal rows, zero rows allowed, and target (k, r), `basis @ y == target` with
    `y = √weight · x`, weight (k, n). With P the tangent projector, `e_j` lies in the row space where `P e_j = 0`: the
    column of the basis has norm one. `e_i ∓ e_j` lies there where their tangent parts are equal or opposite. Both are
    judged at the rank tolerance of `rows` equations times their condition number, `condition` (k,), up to 1e-10:
    rounding may turn the row space by as much (Wedin; Golub & Van Loan, 4th ed., 2.5.3). Time O(k r n) without
    candidates, and O(r n) more for each candidate, at most 2 r of them.
    """
    if basis.shape[1] < 2:
        return None
    systems, candidates = from_coefficients(_find_candidates, basis, weight)
    if not len(systems):
        return None
    bound = np.minimum(tolerance.rank(rows, basis.shape[2]) * condition[systems, None], MARK_TOLERANCE)
    step = max(1, AT_A_TIME // (int(candidates.sum(axis=1).max()) * basis.shape[2]))
    parts = []
    for first in range(0, len(systems), step):
        part = systems[first : first + step]
        chunk = slice(first, first + step)
        parts.append(_solve_linked(basis[part], target[part], weight[part], candidates[chunk], bound[chunk], tolerance))
    root, sign, shift = (np.concatenate(piece) for piece in zip(*parts, strict=True))
    informative = ((sign == 0) | (root != np.arange(root.shape[1]))).any(axis=1)
    return (
        Implied(systems[informative], root[informative], sign[informative], shift[informative])
        if informative.any()
        else None
    )


def _find_candidates(basis: Floats, weight: Floats) -> tuple[Integers, np.ndarray]:
    """Systems that may determine, equate or oppose unknowns, and the candidate unknowns of each (f, n)."""
    lengths = np.einsum("krn,krn->kn", basis, basis)
    systems = np.flatnonzero(lengths.max(axis=1) > 0.5 - SQUARED_LENGTH_TOLERANCE)
    candidates = _mark_candidates(lengths[systems], weight[systems])
    informative = candidates.any(axis=1)
    return systems[informative], candidates[informative]


def _mark_candidates(lengths: Floats, weight: Floats) -> np.ndarray:
    """Unknowns of length one, and those whose tangent part is as long as that of another unknown."""
    tangent_lengths = 1.0 - lengths
    entry_lengths = tangent_lengths / weight
    order = np.argsort(entry_lengths, axis=1)
    sorted_lengths, row_space_lengths = (
        np.take_along_axis(entry_lengths, order, 1),
        np.take_along_axis(lengths, order, 1),
    )
    # Where a combination of two unknowns lies in the row space, their squared lengths sum to at least one.
    close = (np.diff(sorted_lengths) <= SQUARED_LENGTH_TOLERANCE * sorted_lengths[:, 1:]) & (
        row_space_lengths[:, 1:] + row_space_lengths[:, :-1] > 1.0 - SQUARED_LENGTH_TOLERANCE
    )
    paired = np.zeros(lengths.shape, bool)
    paired[:, 1:] |= close
    paired[:, :-1] |= close
    candidates = np.zeros(lengths.shape, bool)
    np.put_along_axis(candidates, order, paired, 1)
    return candidates | (tangent_lengths <= SQUARED_LENGTH_TOLERANCE)


def _solve_linked(
    basis: Floats, target: Floats, weight: Floats, candidates: np.ndarray, bound: Floats, tolerance: Tolerance
) -> tuple[Integers, Integers, Floats]:
    root, signs, places, valued, rows, ease = from_coefficients(_link_candidates, basis, weight, candidates, bound)
    value = np.einsum("frc,fr->fc", rows, target)
    size = np.linalg.norm(target, axis=1)[:, None] * ease
    value = np.where(np.abs(value) > tolerance.cancellation * size, value, 0.0)
    shift = np.zeros(root.shape)
    np.put_along_axis(shift, places, np.where(valued, value, 0.0), 1)
    return root, signs, shift


def _link_candidates(
    basis: Floats, weight: Floats, candidates: np.ndarray, bound: Floats
) -> tuple[Integers, Integers, Integers, np.ndarray, Floats, Floats]:
    """Roots and signs (f, n) of all unknowns, and what gives the shifts of the candidates (f, c).

    For the shifts: the places of the candidates, which of them are determined or tied, the combination (f, r, c) of the
    basis that determines or ties each, and 1 / √weight.
    """
    f, _, n = basis.shape
    most_candidates = int(candidates.sum(axis=1).max())
    chosen = np.argsort(~candidates, axis=1, kind="stable")[:, :most_candidates]
    valid = np.take_along_axis(candidates, chosen, 1)
    columns = np.take_along_axis(basis, chosen[:, None, :], 2)
    tangent = -(columns.transpose(0, 2, 1) @ basis)
    np.put_along_axis(tangent, chosen[:, :, None], np.take_along_axis(tangent, chosen[:, :, None], 2) + 1.0, 2)
    ease = 1.0 / np.sqrt(np.take_along_axis(weight, chosen, 1))
    known = valid & (np.sqrt(np.einsum("fcn,fcn->fc", tangent, tangent)) <= bound)
    tangent *= ease[:, :, None]
    # A mark is one number that only equal and opposite tangent parts share. The seed is unlike any of a user: if an
    # equation had the same random coefficients, all marks would be zero.
    mark = tangent @ np.random.default_rng([20_011, n]).uniform(-1.0, 1.0, n)
    order = np.argsort(np.where(valid & ~known, np.abs(mark), np.inf), axis=1)
    chosen, mark, ease, free, known = (
        np.take_along_axis(values, order, 1) for values in (chosen, mark, ease, valid & ~known, known)
    )
    first = _find_run_starts(np.abs(mark), free)
    sign = np.where(mark * np.take_along_axis(mark, first, 1) < 0, -1, 1)
    place = np.take_along_axis(order, first, 1)
    other = np.take_along_axis(tangent, place[:, :, None], 1)
    gap = np.take_along_axis(tangent, order[:, :, None], 1) - sign[:, :, None] * other
    distance = np.sqrt(np.einsum("fcn,fcn->fc", gap, gap) / (ease**2 + np.take_along_axis(ease, first, 1) ** 2))
    tied = free & (distance <= bound) & (first != np.arange(most_candidates))
    columns = np.take_along_axis(columns, order[:, None, :], 2) * ease[:, None, :]
    minus = np.where(tied, sign, 0)[:, None, :] * np.take_along_axis(columns, first[:, None, :], 2)
    root = np.tile(np.arange(n), (f, 1))
    np.put_along_axis(root, chosen, np.where(tied, np.take_along_axis(chosen, first, 1), chosen), 1)
    signs = np.ones((f, n), np.int64)
    np.put_along_axis(signs, chosen, np.where(known, 0, np.where(tied, sign, 1)), 1)
    return root, signs, chosen, known | tied, columns - minus, ease


def _find_run_starts(mark: Floats, free: np.ndarray) -> Integers:
    """The first of each run of neighbours, in ascending order, whose marks are equal to rounding."""
    starts = np.ones(mark.shape, bool)
    starts[:, 1:] = ~free[:, 1:] | (np.diff(mark) > MARK_TOLERANCE * mark[:, 1:])
    return np.maximum.accumulate(np.where(starts, np.arange(mark.shape[1]), 0), axis=1)


def fixing_equations(nodes: Integers, rule: Integers, facts: Implied) -> Rows:
    """Equations `x_j == value` for determined unknowns; `nodes` (f, n) are their numbers, `rule` (f,) their rules."""
    system, place = np.nonzero(facts.sign == 0)
    count = len(system)
    value, unknown = facts.shift[system, place], np.full(count, -1, np.int64)
    return Rows(np.arange(count + 1), nodes[system, place], np.ones(count), value, rule[system], unknown)


def tying_equations(nodes: Integers, rule: Integers, facts: Implied) -> Rows:
    """Equations `x_j − sign · x_root == shift` for the unknowns that are equal or opposite to others."""
    system, place = np.nonzero((facts.sign != 0) & (facts.root != np.arange(nodes.shape[1])))
    count = len(system)
    pair = np.stack([nodes[system, place], nodes[system, facts.root[system, place]]], axis=1)
    values = np.stack([np.ones(count), -facts.sign[system, place].astype(np.float64)], axis=1)
    order = np.argsort(pair, axis=1)
    pair, values = (np.take_along_axis(part, order, 1).ravel() for part in (pair, values))
    bounds, unknown = 2 * np.arange(count + 1), np.full(count, -1, np.int64)
    return Rows(bounds, pair, values, facts.shift[system, place], rule[system], unknown)


def remaining_equations(basis: Floats, target: Floats, weight: Floats, facts: Implied) -> tuple[Floats, Floats]:
    """Equations of norm one that hold in addition to the facts, for the systems of `facts`: (f, r', n) over y, (f, r').

    The basis over classes of equal and opposite unknowns, without determined ones, has singular values 0 and 1 only.
    Systems with fewer remaining equations than others are filled up with rows of zeros.
    """
    left, u, significant = from_coefficients(_factor_remaining, basis, weight, facts.systems, facts.root, facts.sign)
    right = np.where(significant, np.einsum("frq,fr->fq", u, target[facts.systems]), 0.0)[:, : left.shape[1]]
    return left, right


def _factor_remaining(
    basis: Floats, weight: Floats, systems: Integers, root: Integers, sign: Integers
) -> tuple[Floats, Floats, np.ndarray]:
    """The left sides, the left singular vectors, and which of these count."""
    spread = classes(root, sign, weight[systems])
    u, s, vt = lapack.svd(fold(basis[systems], spread), full_matrices=False)
    significant = s > 0.5
    most_rows = int(significant.sum(axis=1).max())
    rows = np.where(significant[:, :most_rows, None], fold(vt[:, :most_rows], spread.T), 0.0)
    return np.where(np.abs(rows) > ROUNDING, rows, 0.0), u, significant


def independent(matrix: Floats, spread: sparse.csr_array, rank: int) -> Integers:
    """Independent rows of one system over y (r, n), each of norm one, once folded to classes; `rank` is known."""
    if not rank:
        return np.zeros(0, np.int64)
    folds = fold(matrix[None], spread)[0]
    pivots = lapack.qr(folds.T, mode="r", pivoting=True, check_finite=False)[1]
    chosen: Integers = np.sort(pivots[:rank])
    return chosen


def classes(root: Integers, sign: Integers, weight: Floats) -> sparse.csr_array:
    """Orthonormal columns, each over one class of unknowns y = √weight · x: (f n, f n), block by block.

    Shapes: root, sign and weight (f, n). Columns are zero for determined unknowns and those with another root.
    """
    f, n = root.shape
    numbers = (sign * np.sqrt(weight)).ravel()
    column = (root + n * np.arange(f)[:, None]).ravel()
    lengths = np.sqrt(np.bincount(column, numbers * numbers, f * n))[column]
    numbers = np.divide(numbers, lengths, out=np.zeros_like(numbers), where=numbers != 0)
    return sparse.csr_array((numbers, (np.arange(f * n), column)), shape=(f * n, f * n))


def fold(rows: Floats, spread: sparse.csr_array) -> Floats:
    """`rows[k] @ spread_k` for every block of `spread`."""
    f, r, n = rows.shape
    folds = spread.T @ np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(f * n, r)
    return np.ascontiguousarray(np.asarray(folds).reshape(f, n, r).transpose(0, 2, 1))
