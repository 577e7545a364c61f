"""What dense equations say of single unknowns: values that they determine, and unknowns equal or opposite to others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.rows import Rows
from affinet.system.tolerance import DOUBLE_EPSILON, Tolerance

NEAR = 1e-6
"""Squared lengths tell candidates, and have half the digits: the lengths themselves then decide."""
SAME = 1e-10
"""The part by which marks of equal tangent parts differ at most, and those of others hardly ever."""
ROUNDING = 16 * DOUBLE_EPSILON
AT_A_TIME = 2**22
"""Numbers of tangent vectors that are looked at together."""


@dataclass(frozen=True, eq=False)
class Implied:
    """`x_j == sign_j · x[root_j] + shift_j` for the unknowns of some systems of a batch, in their own order.

    `which` (f,) numbers the systems of which there is anything to say; root, sign and shift are (f, n). Where sign is 0
    the unknown has the value `shift`; an unknown of which nothing is known is its own root.
    """

    which: Integers
    root: Integers
    sign: Integers
    shift: Floats

    @property
    def counts(self) -> Integers:
        """Independent equations that are said, of each system."""
        counts: Integers = self._said.sum(axis=1)
        return counts

    @property
    def _said(self) -> np.ndarray:
        said: np.ndarray = (self.sign == 0) | (self.root != np.arange(self.root.shape[1]))
        return said


def implied(
    basis: Floats, target: Floats, weight: Floats, condition: Floats, rows: int, tolerance: Tolerance
) -> Implied | None:
    """What the row spaces contain of `x_j` and of `x_i ∓ x_j`; None where that is nothing.

    Shapes: basis (k, r, n) with orthonormal rows, zero rows allowed, and target (k, r), `basis @ y == target` with
    `y = √weight · x`, weight (k, n). With P the tangent projector, `e_j` lies in the row space where `P e_j = 0`: the
    column of the basis has norm one. `e_i ∓ e_j` lies there where their tangent parts are equal or opposite. Both are
    judged at the tolerance of the rank of `rows` equations times their condition number, `condition` (k,), by which
    that may turn their row space (Wedin; Golub & Van Loan, 4th ed., 2.5.3), up to 1e-10. Time O(k r n) where nothing is
    found; where something may be, O(r n) for each unknown that it may be of, at most 2 r of them.
    """
    if basis.shape[1] < 2:
        return None
    which, candidate = from_coefficients(_looked_at, basis, weight)
    if not len(which):
        return None
    bound = np.minimum(tolerance.rank(rows, basis.shape[2]) * condition[which, None], SAME)
    step = max(1, AT_A_TIME // (int(candidate.sum(axis=1).max()) * basis.shape[2]))
    parts = []
    for first in range(0, len(which), step):
        part = which[first : first + step]
        own = slice(first, first + step)
        parts.append(_said(basis[part], target[part], weight[part], candidate[own], bound[own], tolerance))
    root, sign, shift = (np.concatenate(some) for some in zip(*parts, strict=True))
    said = ((sign == 0) | (root != np.arange(root.shape[1]))).any(axis=1)
    return Implied(which[said], root[said], sign[said], shift[said]) if said.any() else None


def _looked_at(basis: Floats, weight: Floats) -> tuple[Integers, np.ndarray]:
    """Systems of which something may be said of single unknowns, and of which unknowns of each."""
    lengths = np.einsum("krn,krn->kn", basis, basis)
    which = np.flatnonzero(lengths.max(axis=1) > 0.5 - NEAR)
    candidate = _candidates(lengths[which], weight[which])
    some = candidate.any(axis=1)
    return which[some], candidate[some]


def _candidates(lengths: Floats, weight: Floats) -> np.ndarray:
    """Unknowns of length one, and those whose tangent part is as long as that of another one of them."""
    left = 1.0 - lengths
    size = left / weight
    order = np.argsort(size, axis=1)
    lined, reach = np.take_along_axis(size, order, 1), np.take_along_axis(lengths, order, 1)
    # The squared lengths of two unknowns sum to one at least, where a combination of them lies in the row space.
    close = (np.diff(lined) <= NEAR * lined[:, 1:]) & (reach[:, 1:] + reach[:, :-1] > 1.0 - NEAR)
    paired = np.zeros(lengths.shape, bool)
    paired[:, 1:] |= close
    paired[:, :-1] |= close
    candidate = np.zeros(lengths.shape, bool)
    np.put_along_axis(candidate, order, paired, 1)
    return candidate | (left <= NEAR)


def _said(
    basis: Floats, target: Floats, weight: Floats, candidate: np.ndarray, bound: Floats, tolerance: Tolerance
) -> tuple[Integers, Integers, Floats]:
    root, signs, chosen, told, rows, ease = from_coefficients(_linked, basis, weight, candidate, bound)
    value = np.einsum("frc,fr->fc", rows, target)
    size = np.linalg.norm(target, axis=1)[:, None] * ease
    value = np.where(np.abs(value) > tolerance.cancellation * size, value, 0.0)
    shift = np.zeros(root.shape)
    np.put_along_axis(shift, chosen, np.where(told, value, 0.0), 1)
    return root, signs, shift


def _linked(
    basis: Floats, weight: Floats, candidate: np.ndarray, bound: Floats
) -> tuple[Integers, Integers, Integers, np.ndarray, Floats, Floats]:
    """Roots and signs (f, n), and of the unknowns that were looked at (f, c) what gives a shift.

    That is which they are, of which something is said, the combination (f, r, c) of the basis that says it, and
    1 / √weight.
    """
    f, _, n = basis.shape
    most = int(candidate.sum(axis=1).max())
    chosen = np.argsort(~candidate, axis=1, kind="stable")[:, :most]
    valid = np.take_along_axis(candidate, chosen, 1)
    columns = np.take_along_axis(basis, chosen[:, None, :], 2)
    tangent = -(columns.transpose(0, 2, 1) @ basis)
    np.put_along_axis(tangent, chosen[:, :, None], np.take_along_axis(tangent, chosen[:, :, None], 2) + 1.0, 2)
    ease = 1.0 / np.sqrt(np.take_along_axis(weight, chosen, 1))
    known = valid & (np.sqrt(np.einsum("fcn,fcn->fc", tangent, tangent)) <= bound)
    tangent *= ease[:, :, None]
    # One number that only equal and opposite tangent parts share brings these together. A seed that nobody else has:
    # where an equation has the same random numbers all marks are zero.
    mark = tangent @ np.random.default_rng([20_011, n]).uniform(-1.0, 1.0, n)
    order = np.argsort(np.where(valid & ~known, np.abs(mark), np.inf), axis=1)
    chosen, mark, ease, free, known = (
        np.take_along_axis(values, order, 1) for values in (chosen, mark, ease, valid & ~known, known)
    )
    first = _first_of_runs(np.abs(mark), free)
    sign = np.where(mark * np.take_along_axis(mark, first, 1) < 0, -1, 1)
    place = np.take_along_axis(order, first, 1)
    other = np.take_along_axis(tangent, place[:, :, None], 1)
    gap = np.take_along_axis(tangent, order[:, :, None], 1) - sign[:, :, None] * other
    apart = np.sqrt(np.einsum("fcn,fcn->fc", gap, gap) / (ease**2 + np.take_along_axis(ease, first, 1) ** 2))
    tied = free & (apart <= bound) & (first != np.arange(most))
    columns = np.take_along_axis(columns, order[:, None, :], 2) * ease[:, None, :]
    minus = np.where(tied, sign, 0)[:, None, :] * np.take_along_axis(columns, first[:, None, :], 2)
    root = np.tile(np.arange(n), (f, 1))
    np.put_along_axis(root, chosen, np.where(tied, np.take_along_axis(chosen, first, 1), chosen), 1)
    signs = np.ones((f, n), np.int64)
    np.put_along_axis(signs, chosen, np.where(known, 0, np.where(tied, sign, 1)), 1)
    return root, signs, chosen, known | tied, columns - minus, ease


def _first_of_runs(mark: Floats, free: np.ndarray) -> Integers:
    """The first of the neighbours, in rising order, that have the same mark but for rounding."""
    fresh = np.ones(mark.shape, bool)
    fresh[:, 1:] = ~free[:, 1:] | (np.diff(mark) > SAME * mark[:, 1:])
    return np.maximum.accumulate(np.where(fresh, np.arange(mark.shape[1]), 0), axis=1)


def fixing(nodes: Integers, rule: Integers, found: Implied) -> Rows:
    """`x_j == value` for the unknowns that are determined; `nodes` (f, n) names them, `rule` (f,) says who spoke."""
    system, place = np.nonzero(found.sign == 0)
    count = len(system)
    value, unknown = found.shift[system, place], np.full(count, -1, np.int64)
    return Rows(np.arange(count + 1), nodes[system, place], np.ones(count), value, rule[system], unknown)


def tying(nodes: Integers, rule: Integers, found: Implied) -> Rows:
    """`x_j − sign · x_root == shift` for the unknowns that are equal or opposite to others."""
    system, place = np.nonzero((found.sign != 0) & (found.root != np.arange(nodes.shape[1])))
    count = len(system)
    pair = np.stack([nodes[system, place], nodes[system, found.root[system, place]]], axis=1)
    values = np.stack([np.ones(count), -found.sign[system, place].astype(np.float64)], axis=1)
    order = np.argsort(pair, axis=1)
    pair, values = (np.take_along_axis(part, order, 1).ravel() for part in (pair, values))
    bounds, unknown = 2 * np.arange(count + 1), np.full(count, -1, np.int64)
    return Rows(bounds, pair, values, found.shift[system, place], rule[system], unknown)


def remaining(basis: Floats, target: Floats, weight: Floats, found: Implied) -> tuple[Floats, Floats]:
    """Equations of norm one that hold beside what is implied, of the systems `found.which`: (f, r', n) over y, (f, r').

    The basis over classes of equal and opposite unknowns, less the determined ones, has singular values 0 and 1 only.
    Rows of zeros where a system has fewer equations left than others.
    """
    left, u, kept = from_coefficients(_remaining, basis, weight, found.which, found.root, found.sign)
    right = np.where(kept, np.einsum("frq,fr->fq", u, target[found.which]), 0.0)[:, : left.shape[1]]
    return left, right


def _remaining(
    basis: Floats, weight: Floats, which: Integers, root: Integers, sign: Integers
) -> tuple[Floats, Floats, np.ndarray]:
    """The left sides; left singular vectors, and which of them count."""
    spread = classes(root, sign, weight[which])
    u, s, vt = lapack.svd(folded(basis[which], spread), full_matrices=False)
    kept = s > 0.5
    most = int(kept.sum(axis=1).max())
    rows = np.where(kept[:, :most, None], folded(vt[:, :most], spread.T), 0.0)
    return np.where(np.abs(rows) > ROUNDING, rows, 0.0), u, kept


def independent(matrix: Floats, spread: sparse.csr_array, rank: int) -> Integers:
    """Rows of one system over y (r, n), each of norm one, that say what is left over the classes, of known rank."""
    if not rank:
        return np.zeros(0, np.int64)
    folds = folded(matrix[None], spread)[0]
    pivots = lapack.qr(folds.T, mode="r", pivoting=True, check_finite=False)[1]
    chosen: Integers = np.sort(pivots[:rank])
    return chosen


def classes(root: Integers, sign: Integers, weight: Floats) -> sparse.csr_array:
    """Orthonormal columns, each over one class of unknowns y = √weight · x: (f n, f n), block by block.

    root, sign and weight are (f, n). Determined unknowns and those that are not their own root have columns of zeros.
    """
    f, n = root.shape
    numbers = (sign * np.sqrt(weight)).ravel()
    column = (root + n * np.arange(f)[:, None]).ravel()
    lengths = np.sqrt(np.bincount(column, numbers * numbers, f * n))[column]
    numbers = np.divide(numbers, lengths, out=np.zeros_like(numbers), where=numbers != 0)
    return sparse.csr_array((numbers, (np.arange(f * n), column)), shape=(f * n, f * n))


def folded(rows: Floats, spread: sparse.csr_array) -> Floats:
    """`rows[k] @ spread_k` for every block of `spread`."""
    f, r, n = rows.shape
    along = spread.T @ np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(f * n, r)
    return np.ascontiguousarray(np.asarray(along).reshape(f, n, r).transpose(0, 2, 1))
