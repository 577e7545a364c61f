"""Factor batches of regular rows into slices: one orthonormal basis for all cells, and targets for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from affinet.blocks.regular import RowBatch, shared
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.contradiction import Contradiction
from affinet.planning.factors.factor import factor_shared, orthonormalise
from affinet.planning.factors.implied import classes, find_implied, fold, independent
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.norms import norms_of_rows
from affinet.system.tolerance import Tolerance

WELL_CONDITIONED = 10.0
"""Rounding grows by less than a digit where the condition number is smaller."""


def factor_slices(batch: RowBatch, tolerance: Tolerance, rules: tuple[int, ...] | None = None) -> Slices:
    """Factor the matrix of a batch once for all cells. Raises Contradiction if the equations of a cell cannot hold."""
    rules = batch.rules if rules is None else rules
    basis, target, ambiguous, condition = _factor_batch(batch, tolerance, rules)
    pinned, values, copies = _find_exact_places(batch.matrix, batch.rhs)
    exact = None if ambiguous else _find_exact(basis, target, condition, len(batch.matrix), tolerance)
    if exact is not None:
        exact.sign[pinned], exact.root[pinned] = 0, pinned
        determined = exact.sign == 0
        all_values = np.where(determined, _nearest_to_zero(basis, target), 0.0)
        all_values[:, pinned] = values
        zero = determined & (
            np.abs(all_values) <= tolerance.cancellation * np.linalg.norm(target, axis=1, keepdims=True)
        )
        if zero.any() or (~determined & (exact.root != np.arange(len(determined)))).any():
            all_values = np.where(determined, _solve_with_exact(batch, basis, exact, zero) @ basis, 0.0)
            all_values[:, pinned] = values
            all_values[zero] = 0.0
        basis, target = _separate_classes(batch.matrix, batch.rhs, len(basis), exact, all_values)
        pinned = np.flatnonzero(determined)
        values = all_values[:, pinned]
        members = np.flatnonzero(~determined & (exact.root != np.arange(len(determined))))
        copies = np.stack([members, exact.root[members], exact.sign[members]], axis=1)
    placement = (batch.parameter, batch.offset, batch.outer, batch.inner)
    amplified = from_coefficients(_amplification, batch.matrix, basis, float(condition[0]))
    return Slices(*placement, basis, target, pinned, values, copies, rules, ambiguous, amplified)


def _nearest_to_zero(basis: Floats, target: Floats) -> Floats:
    """The shortest x with `basis @ x == target`, for each target; the rows of the basis are orthonormal to rounding."""
    return np.asarray(target @ (2.0 * np.eye(len(basis)) - basis @ basis.T) @ basis)


def retarget(slices: Slices, batch: RowBatch, target: Floats, tolerance: Tolerance) -> Slices:
    """The slices of a batch with other targets (cells | 1, rank), and the values of pinned places that follow."""
    if not len(slices.pinned):
        return replace(slices, target=target)
    pinned, fixed_values, _ = _find_exact_places(batch.matrix, batch.rhs)
    values = target @ slices.basis[:, slices.pinned]
    values[np.abs(values) <= tolerance.cancellation * np.linalg.norm(target, axis=1, keepdims=True)] = 0.0
    values[:, np.searchsorted(slices.pinned, pinned)] = fixed_values
    return replace(slices, target=target, values=values)


def _amplification(matrix: Floats, basis: Floats, condition: float) -> Floats:
    """Norms of the rows of `basis @ pinv(matrix)`, rows of the matrix divided by their norms; ones if well-conditioned.

    Computed from `matrix @ basis.T`, which has only as many columns as the rank.
    """
    if condition < WELL_CONDITIONED:
        return np.ones(1)
    norms = norms_of_rows(matrix)
    lower = matrix @ basis.T / np.where(norms > 0, norms, 1.0)[:, None]
    lengths = np.linalg.norm(lapack.pinv(lower, rcond=0.1 / condition), axis=1)
    return np.asarray(np.maximum(lengths, 1.0))


@dataclass(frozen=True, eq=False)
class _Exact:
    """The inner place that each inner place is equal or opposite to, by `sign`; sign is 0 where the value is known."""

    root: Integers
    sign: Integers

    @property
    def count(self) -> int:
        return int(((self.sign == 0) | (self.root != np.arange(len(self.root)))).sum())


def _find_exact(basis: Floats, target: Floats, condition: Floats, rows: int, tolerance: Tolerance) -> _Exact | None:
    """Places that the equations of every cell determine, or make equal or opposite without a shift; or None."""
    if not any(basis.strides):
        return None
    no_target, weights = np.zeros((1, len(basis))), np.ones((1, basis.shape[1]))
    facts = from_coefficients(find_implied, basis[None], no_target, weights, condition, rows, tolerance)
    if facts is None:
        return None
    root, sign = facts.root[0], facts.sign[0]
    entries = target @ basis
    shift = entries - sign * entries[:, root]
    size = np.linalg.norm(target, axis=1, keepdims=True)
    shifted = (sign != 0) & (np.abs(shift) > tolerance.cancellation * size).any(axis=0)
    root, sign = np.where(shifted, np.arange(len(root)), root), np.where(shifted, 1, sign)
    first_member = np.full(len(root), len(root))
    np.minimum.at(first_member, root, np.arange(len(root)))
    root = first_member[root]
    exact = _Exact(root, sign * sign[root])
    return exact if exact.count else None


def _solve_with_exact(batch: RowBatch, basis: Floats, exact: _Exact, zero: np.ndarray) -> Floats:
    """Targets (cells | 1, rank) for which the equations hold with the places in `zero` and equal places set exactly.

    With other targets the rounding of a value that should be zero is balanced by the rounding of others, and setting it
    to zero would break the balance. All equations together are consistent, so that their least-squares solution
    satisfies each to rounding.
    """
    n = basis.shape[1]
    members = np.flatnonzero((exact.sign != 0) & (exact.root != np.arange(n)))
    ties = np.zeros((len(members), n))
    ties[np.arange(len(members)), members] = 1.0
    ties[np.arange(len(members)), exact.root[members]] -= exact.sign[members]
    norms = norms_of_rows(batch.matrix)
    norms = np.where(norms > 0, norms, 1.0)
    fixed_part = np.concatenate([batch.matrix / norms[:, None], ties]) @ basis.T
    rhs = np.concatenate([batch.rhs / norms, np.zeros((len(batch.rhs), len(ties)))], axis=1).T
    target = np.zeros((len(batch.rhs), len(basis)))
    patterns, pattern_of = np.unique(zero, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        cells = np.flatnonzero(pattern_of.ravel() == number)
        system = np.concatenate([fixed_part, basis.T[pattern]])
        sides = np.concatenate([rhs[:, cells], np.zeros((len(system) - len(fixed_part), len(cells)))])
        solution = lapack.lstsq(system, sides, rcond=None)[0]
        target[cells] = (solution + lapack.lstsq(system, sides - system @ solution, rcond=None)[0]).T
    return target


def _separate_classes(matrix: Floats, rhs: Floats, rank: int, exact: _Exact, value: Floats) -> tuple[Floats, Floats]:
    """Orthonormal rows, each over one known place, over one class of equal places, or over the classes.

    A projection then leaves equal entries exactly equal, whatever their cell contains otherwise. Source of the rows of
    a class: Helmert, `(1, …, 1, −k) / √(k (k + 1))`.
    """
    basis, known, first_row, chosen, triangle = from_coefficients(_build_class_rows, matrix, rank, exact)
    target = np.zeros((len(value), rank))
    target[:, : len(known)] = value[:, known]
    if len(chosen):
        remainder = rhs[:, chosen] - value @ matrix[chosen].T
        target[:, first_row:] = lapack.solve_triangular(triangle, remainder.T, lower=True, check_finite=False).T
    return basis, target


def _build_class_rows(matrix: Floats, rank: int, exact: _Exact) -> tuple[Floats, Integers, int, Integers, Floats]:
    """Rows by classes: the basis, known places, the first row over classes, its equations and their triangle.

    The first rows are over the known places, one each; the last come from the chosen equations.
    """
    n = matrix.shape[1]
    spread = classes(exact.root[None], exact.sign[None], np.ones((1, n)))
    norms = norms_of_rows(matrix)[:, None]
    equilibrated = matrix / np.where(norms > 0, norms, 1.0)
    chosen = independent(equilibrated, spread, rank - exact.count)
    basis, triangle = np.zeros((rank, n)), np.zeros((0, 0))
    known = np.flatnonzero(exact.sign == 0)
    basis[np.arange(len(known)), known] = 1.0
    first_row = len(known)
    members = np.flatnonzero((exact.sign != 0) & (exact.root != np.arange(n)))
    for root in np.unique(exact.root[members]):
        copies = members[exact.root[members] == root]
        places = np.array([root, *copies])
        signs = np.where(places == root, 1, exact.sign[places])
        basis[first_row : first_row + len(copies), places] = _helmert_rows(len(places)) * signs
        first_row += len(copies)
    if len(chosen):
        rows, triangle = orthonormalise(fold(matrix[None, chosen], spread)[0])
        basis[first_row:] = fold(rows[None], spread.T.tocsr())[0]
    return basis, known, first_row, chosen, triangle


def _helmert_rows(n: int) -> Floats:
    """Orthonormal rows (n − 1, n) that sum to zero, exactly so if all entries are equal and n is small."""
    k = np.arange(1, n)
    rows = np.tril(np.ones((n - 1, n)))
    rows[k - 1, k] = -k
    length = 1.0 / np.sqrt(k * (k + 1.0))
    scaled_rows: Floats = rows * length[:, None]
    return scaled_rows


def _factor_batch(batch: RowBatch, tolerance: Tolerance, rules: tuple[int, ...]) -> tuple[Floats, Floats, int, Floats]:
    matrix, rhs = batch.matrix, batch.rhs
    if len(matrix) == 1 and not any(matrix.strides):
        norm = sqrt(matrix.shape[1]) * abs(float(matrix[0, 0]))
        return np.broadcast_to(matrix[:1, :1] / norm, matrix.shape), rhs / norm, 0, np.ones(1)
    if len(matrix) == 1:
        length = norms_of_rows(matrix)
        return matrix / length, rhs / length, 0, np.ones(1)
    # Every cell has the same matrix: one factor, and right-hand sides per cell.
    factors = factor_shared(np.asarray(matrix), rhs, tolerance)
    if not factors.consistent.all():
        raise Contradiction(rules)
    return shared(factors.basis[0]), factors.target, factors.ambiguous, factors.condition


def _find_exact_places(matrix: Floats, rhs: Floats) -> tuple[Integers, Floats, Integers]:
    """Inner places pinned by a single equation, their values, and pairs that one equation makes equal or opposite."""
    no_copies = np.zeros((0, 3), np.int64)
    if matrix.shape[1] > 2 and not any(matrix.strides):
        return np.zeros(0, np.int64), np.zeros((1, 0)), no_copies
    lengths = np.count_nonzero(matrix, axis=1)
    single = np.flatnonzero(lengths == 1)
    pinned, first = np.unique(np.argmax(matrix[single] != 0, axis=1), return_index=True)
    rows = single[first]
    values = rhs[:, rows] / matrix[rows, pinned]
    copies = _find_copies(matrix, rhs, np.flatnonzero(lengths == 2), set(pinned.tolist()))
    return pinned, values, copies


def _find_copies(matrix: Floats, rhs: Floats, double: Integers, pinned: set[int]) -> Integers:
    """(member, representative, sign) triples; chains are followed to one representative."""
    root = {k: (k, 1) for k in range(matrix.shape[1])} if len(double) else {}
    for row in double:
        x, y = (int(k) for k in np.flatnonzero(matrix[row]))
        if abs(matrix[row, x]) != abs(matrix[row, y]) or rhs[:, row].any():
            continue
        sign = -1 if matrix[row, x] == matrix[row, y] else 1
        (a, s), (b, t) = root[x], root[y]
        for k, (r, u) in root.items():
            if r == b and a != b:
                root[k] = (a, s * sign * t * u)
    copies = [(k, r, s) for k, (r, s) in root.items() if r != k and k not in pinned and r not in pinned]
    return np.array(copies, np.int64).reshape(-1, 3)
