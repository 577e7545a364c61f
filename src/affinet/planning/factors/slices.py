"""From regular rows to the block that projects them: one orthonormal basis for all cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from affinet.blocks.regular import RowBatch, shared
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.contradiction import Contradiction
from affinet.planning.factors.factor import factor_shared, orthonormal
from affinet.planning.factors.implied import classes, folded, implied, independent
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.norms import norms_of_rows
from affinet.system.tolerance import Tolerance

WELL_CONDITIONED = 10.0
"""Rounding grows by less than a digit where the condition number is smaller."""


def slices_of(batch: RowBatch, tolerance: Tolerance, rules: tuple[int, ...] | None = None) -> Slices:
    """Factor the matrix of a batch once. Raises Contradiction where its equations cannot hold in some cell."""
    rules = batch.rules if rules is None else rules
    basis, target, ambiguous, condition = _factored(batch, tolerance, rules)
    pinned, values, copies = _exact_places(batch.matrix, batch.rhs)
    exact = None if ambiguous else _implied(basis, target, condition, len(batch.matrix), tolerance)
    if exact is not None:
        exact.sign[pinned], exact.root[pinned] = 0, pinned
        said = exact.sign == 0
        value = np.where(said, _point(basis, target), 0.0)
        value[:, pinned] = values
        nothing = said & (np.abs(value) <= tolerance.cancellation * np.linalg.norm(target, axis=1, keepdims=True))
        if nothing.any() or (~said & (exact.root != np.arange(len(said)))).any():
            value = np.where(said, _beside(batch, basis, exact, nothing) @ basis, 0.0)
            value[:, pinned] = values
            value[nothing] = 0.0
        basis, target = _by_classes(batch.matrix, batch.rhs, len(basis), exact, value)
        pinned = np.flatnonzero(said)
        values = value[:, pinned]
        members = np.flatnonzero(~said & (exact.root != np.arange(len(said))))
        copies = np.stack([members, exact.root[members], exact.sign[members]], axis=1)
    place = (batch.parameter, batch.offset, batch.outer, batch.inner)
    amplified = from_coefficients(_amplified, batch.matrix, basis, float(condition[0]))
    return Slices(*place, basis, target, pinned, values, copies, rules, ambiguous, amplified)


def _point(basis: Floats, target: Floats) -> Floats:
    """The shortest x with `basis @ x == target`, of each target; rows are orthonormal to rounding."""
    return np.asarray(target @ (2.0 * np.eye(len(basis)) - basis @ basis.T) @ basis)


def retargeted(part: Slices, batch: RowBatch, target: Floats, tolerance: Tolerance) -> Slices:
    """The slices of a batch with other targets (cells | 1, rank), and the values that these give to single places."""
    if not len(part.pinned):
        return replace(part, target=target)
    own, given, _ = _exact_places(batch.matrix, batch.rhs)
    values = target @ part.basis[:, part.pinned]
    values[np.abs(values) <= tolerance.cancellation * np.linalg.norm(target, axis=1, keepdims=True)] = 0.0
    values[:, np.searchsorted(part.pinned, own)] = given
    return replace(part, target=target, values=values)


def _amplified(matrix: Floats, basis: Floats, condition: float) -> Floats:
    """Norms of the rows of `basis @ pinv(matrix)`, rows of the matrix divided by their norms; ones where none is large.

    Through `matrix @ basis.T`, which has as few columns as the rank.
    """
    if condition < WELL_CONDITIONED:
        return np.ones(1)
    norms = norms_of_rows(matrix)
    lower = matrix @ basis.T / np.where(norms > 0, norms, 1.0)[:, None]
    lengths = np.linalg.norm(lapack.pinv(lower, rcond=0.1 / condition), axis=1)
    return np.asarray(np.maximum(lengths, 1.0))


@dataclass(frozen=True, eq=False)
class _Exact:
    """Of inner places: the one that each is equal or opposite to, by `sign`, which is 0 where the value is known."""

    root: Integers
    sign: Integers

    @property
    def count(self) -> int:
        return int(((self.sign == 0) | (self.root != np.arange(len(self.root)))).sum())


def _implied(basis: Floats, target: Floats, condition: Floats, rows: int, tolerance: Tolerance) -> _Exact | None:
    """What all equations together say of single places, in every cell; a tie with a shift is not among it."""
    if not any(basis.strides):
        return None
    nothing, one = np.zeros((1, len(basis))), np.ones((1, basis.shape[1]))
    found = from_coefficients(implied, basis[None], nothing, one, condition, rows, tolerance)
    if found is None:
        return None
    root, sign = found.root[0], found.sign[0]
    along = target @ basis
    shift = along - sign * along[:, root]
    size = np.linalg.norm(target, axis=1, keepdims=True)
    apart = (sign != 0) & (np.abs(shift) > tolerance.cancellation * size).any(axis=0)
    root, sign = np.where(apart, np.arange(len(root)), root), np.where(apart, 1, sign)
    lowest = np.full(len(root), len(root))
    np.minimum.at(lowest, root, np.arange(len(root)))
    root = lowest[root]
    exact = _Exact(root, sign * sign[root])
    return exact if exact.count else None


def _beside(batch: RowBatch, basis: Floats, exact: _Exact, nothing: np.ndarray) -> Floats:
    """Targets (cells | 1, rank) with which the equations hold beside what is said exactly: `nothing` and equal places.

    Without these the rounding of a value that is zero is made up for by that of others, which setting it to zero would
    leave. All equations together are consistent, and their least-squares solution leaves rounding of each.
    """
    n = basis.shape[1]
    members = np.flatnonzero((exact.sign != 0) & (exact.root != np.arange(n)))
    ties = np.zeros((len(members), n))
    ties[np.arange(len(members)), members] = 1.0
    ties[np.arange(len(members)), exact.root[members]] -= exact.sign[members]
    norms = norms_of_rows(batch.matrix)
    norms = np.where(norms > 0, norms, 1.0)
    told = np.concatenate([batch.matrix / norms[:, None], ties]) @ basis.T
    rhs = np.concatenate([batch.rhs / norms, np.zeros((len(batch.rhs), len(ties)))], axis=1).T
    target = np.zeros((len(batch.rhs), len(basis)))
    patterns, which = np.unique(nothing, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        cells = np.flatnonzero(which.ravel() == number)
        system = np.concatenate([told, basis.T[pattern]])
        sides = np.concatenate([rhs[:, cells], np.zeros((len(system) - len(told), len(cells)))])
        found = lapack.lstsq(system, sides, rcond=None)[0]
        target[cells] = (found + lapack.lstsq(system, sides - system @ found, rcond=None)[0]).T
    return target


def _by_classes(matrix: Floats, rhs: Floats, rank: int, exact: _Exact, value: Floats) -> tuple[Floats, Floats]:
    """Orthonormal rows of which each speaks of one known place, of one class of equal ones, or of the classes.

    A projection of equal entries then leaves them as they are, whatever else there is in their cell. Source of the rows
    of a class: Helmert, `(1, …, 1, −k) / √(k (k + 1))`.
    """
    basis, known, first, chosen, lower = from_coefficients(_class_rows, matrix, rank, exact)
    target = np.zeros((len(value), rank))
    target[:, : len(known)] = value[:, known]
    if len(chosen):
        left = rhs[:, chosen] - value @ matrix[chosen].T
        target[:, first:] = lapack.solve_triangular(lower, left.T, lower=True, check_finite=False).T
    return basis, target


def _class_rows(matrix: Floats, rank: int, exact: _Exact) -> tuple[Floats, Integers, int, Integers, Floats]:
    """The rows; the known places, of which the first speak; the first row about classes.

    And the equations that the last rows come from, with their triangle.
    """
    n = matrix.shape[1]
    spread = classes(exact.root[None], exact.sign[None], np.ones((1, n)))
    norms = norms_of_rows(matrix)[:, None]
    even = matrix / np.where(norms > 0, norms, 1.0)
    chosen = independent(even, spread, rank - exact.count)
    basis, lower = np.zeros((rank, n)), np.zeros((0, 0))
    known = np.flatnonzero(exact.sign == 0)
    basis[np.arange(len(known)), known] = 1.0
    first = len(known)
    members = np.flatnonzero((exact.sign != 0) & (exact.root != np.arange(n)))
    for root in np.unique(exact.root[members]):
        others = members[exact.root[members] == root]
        places = np.array([root, *others])
        signs = np.where(places == root, 1, exact.sign[places])
        basis[first : first + len(others), places] = _helmert(len(places)) * signs
        first += len(others)
    if len(chosen):
        rows, lower = orthonormal(folded(matrix[None, chosen], spread)[0])
        basis[first:] = folded(rows[None], spread.T.tocsr())[0]
    return basis, known, first, chosen, lower


def _helmert(n: int) -> Floats:
    """Orthonormal rows (n − 1, n) that sum to zero, to the bit where all entries are equal and n is small."""
    k = np.arange(1, n)
    rows = np.tril(np.ones((n - 1, n)))
    rows[k - 1, k] = -k
    length = 1.0 / np.sqrt(k * (k + 1.0))
    found: Floats = rows * length[:, None]
    return found


def _factored(batch: RowBatch, tolerance: Tolerance, rules: tuple[int, ...]) -> tuple[Floats, Floats, int, Floats]:
    matrix, rhs = batch.matrix, batch.rhs
    if len(matrix) == 1 and not any(matrix.strides):
        norm = sqrt(matrix.shape[1]) * abs(float(matrix[0, 0]))
        return np.broadcast_to(matrix[:1, :1] / norm, matrix.shape), rhs / norm, 0, np.ones(1)
    if len(matrix) == 1:
        length = norms_of_rows(matrix)
        return matrix / length, rhs / length, 0, np.ones(1)
    # Every cell has the same matrix: one factor, and one system of right-hand sides a cell.
    found = factor_shared(np.asarray(matrix), rhs, tolerance)
    if not found.consistent.all():
        raise Contradiction(rules)
    return shared(found.basis[0]), found.target, found.ambiguous, found.condition


def _exact_places(matrix: Floats, rhs: Floats) -> tuple[Integers, Floats, Integers]:
    """Inner places that one equation pins to a value, and pairs that one equation makes equal or opposite."""
    none = np.zeros((0, 3), np.int64)
    if matrix.shape[1] > 2 and not any(matrix.strides):
        return np.zeros(0, np.int64), np.zeros((1, 0)), none
    lengths = np.count_nonzero(matrix, axis=1)
    single = np.flatnonzero(lengths == 1)
    pinned, first = np.unique(np.argmax(matrix[single] != 0, axis=1), return_index=True)
    rows = single[first]
    values = rhs[:, rows] / matrix[rows, pinned]
    copies = _copies(matrix, rhs, np.flatnonzero(lengths == 2), set(pinned.tolist()))
    return pinned, values, copies


def _copies(matrix: Floats, rhs: Floats, double: Integers, pinned: set[int]) -> Integers:
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
    found = [(k, r, s) for k, (r, s) in root.items() if r != k and k not in pinned and r not in pinned]
    return np.array(found, np.int64).reshape(-1, 3)
