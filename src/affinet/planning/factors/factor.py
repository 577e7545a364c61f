"""Dense factors: orthonormal rows that span the same equations, their rank, and whether they can hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.factors.agreement import hold, within_rounding
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.norms import norms_of_rows
from affinet.system.tolerance import DOUBLE_EPSILON, Tolerance

SVD_NUMBERS = 4_096
"""Up to this many numbers a singular value decomposition costs no more than the loop around it."""

FEW_SYSTEMS = 64
"""Up to this many systems of one form are looked at one by one where that is more accurate."""

GRAM_NUMBERS = 2**20
"""A larger matrix is tried by its Gram matrix first: four times as fast as QR (500 × 100,000: 1.7 s, QR 5 to 17 s)."""
GRAM_SPREAD = 1e5
"""Largest ratio of singular values for which `A Aᵀ` keeps ten digits of each of them, and two passes are enough for an
orthonormal basis (CholeskyQR2: Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, ETNA 2015)."""
LITTLE_LEFT = 1e-2
"""Rows that shrank below this share of what they were, by substitution, have lost digits that the rank may hang on."""
NEARLY_ORTHONORMAL = 16 * DOUBLE_EPSILON
"""What inner products of rows may be off by, where they give the equations back more exactly for it."""


@dataclass(frozen=True, eq=False)
class Factor:
    """`basis[k] @ y == target[k]` is the same set as `matrix[k] @ y == rhs[k]`.

    basis (k, r, n) has orthonormal rows, target (k, r) (zero rows beyond a component's rank), ranks (k,).
    `consistent` (k,) says which systems can hold; `ambiguous` counts ranks decided close to the tolerance. `condition`
    (k,) is that of the equilibrated rows, the smallest singular value being the last that counts.
    """

    basis: Floats
    target: Floats
    ranks: Integers
    consistent: np.ndarray
    ambiguous: int
    condition: Floats


def factor(matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance, said: Floats | None = None) -> Factor:
    """Factor a batch of systems in float64.

    Shapes: matrix (k, r, n), rhs and terms (k, r). `said` (k, r) are the norms that rows had before other equations
    were substituted in them, where some may be what is left of larger ones: their rounding is relative to that. Rows
    are equilibrated first, so that a row of size 1e-9 counts as much as any other. Source: singular values decide the
    rank, of the matrix itself where it is small, of the triangle of its QR factorisation where it is large (Golub & Van
    Loan, 4th ed., 5.4, 5.5, 8.6.3), and of its Gram matrix where it is larger still and far from singular.
    """
    if len(matrix) == 1 and matrix.size > GRAM_NUMBERS:
        quick = _by_gram(matrix[0], rhs[0], tolerance)
        if quick is not None:
            return quick
    matrix, norms, safe = from_coefficients(_equilibrated, matrix)
    rhs, terms = rhs / safe, terms / safe
    k, r, n = matrix.shape
    if said is not None and r > 1 and (left := np.asarray(norms < LITTLE_LEFT * said)).any():
        return _with_little_left(
            matrix, rhs, terms, np.minimum(norms / said, 1.0), np.asarray(left.any(axis=1)), tolerance
        )
    if r == 1:
        return _single(matrix, rhs, terms, norms, tolerance)
    if r * n <= SVD_NUMBERS or k > FEW_SYSTEMS:
        return _by_svd(matrix, rhs, terms, tolerance)
    parts = [_by_qr(*system, tolerance) for system in zip(matrix, rhs, terms, strict=True)]
    return _stacked(parts, r, n)


def _equilibrated(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """Rows divided by their norms; the norms, and what was divided by."""
    norms = norms_of_rows(matrix)
    safe = np.where(norms > 0, norms, 1.0)
    return np.asarray(matrix / safe[..., None]), norms, safe


def factor_shared(matrix: Floats, rhs: Floats, tolerance: Tolerance) -> Factor:
    """Factor one matrix (r, n) for many right-hand sides (cells, r): basis (1, rank, n), target (cells, rank).

    `consistent` is (cells,).
    """
    if matrix.size > GRAM_NUMBERS and len(rhs) == 1:
        quick = _by_gram(matrix, rhs[0], tolerance)
        if quick is not None:
            return quick
    matrix, _, safe = from_coefficients(_equilibrated, matrix)
    rhs = rhs / safe
    basis, lower, u, s, ambiguous, condition, chosen = from_coefficients(_shared, matrix, tolerance)
    rank = len(s)
    if rank == len(matrix):
        # Independent equations contradict nothing, whatever rounding says of numbers below the normal ones.
        can_hold = np.ones(len(rhs), bool)
        target = _targets(matrix, basis, lower, rhs)
        return Factor(basis[None], target, np.array([rank]), can_hold, ambiguous, condition)
    within = rhs @ u
    gap, target = np.abs(rhs - within @ u.T), within / s
    consistent = within_rounding(gap, np.abs(rhs), target, tolerance)
    if chosen is not None:
        target = _targets(matrix[chosen], basis, lower, rhs[:, chosen])
    if not consistent.all():
        off = ~consistent
        consistent[off] = hold(matrix, basis, target[off], rhs[off], np.abs(rhs[off]), tolerance)
    return Factor(basis[None], target, np.array([rank]), consistent, ambiguous, condition)


def _shared(
    matrix: Floats, tolerance: Tolerance
) -> tuple[Floats, Floats, Floats, Floats, int, Floats, Integers | None]:
    """The factor of one equilibrated matrix, without right-hand sides.

    Orthonormal rows and the triangle that they were solved for with; left singular vectors and the singular values
    that count; one where the rank was decided close to the tolerance; the condition; and the independent rows of the
    matrix that the triangle is of, None where it has none.
    """
    left = None
    if matrix.size > SVD_NUMBERS and matrix.shape[0] < matrix.shape[1]:
        left, upper = lapack.qr(matrix.T, mode="economic", check_finite=False)
        small = upper.T
    else:
        small = matrix
    u, s, vt = lapack.svd(small, full_matrices=False)
    bound = tolerance.rank(*matrix.shape) * s[0]
    rank = int((s > bound).sum())
    told = int(((s > bound * 0.25) & (s < bound * 1e2)).any()), s[:1] / s[max(rank, 1) - 1] if s[0] > 0 else np.ones(1)
    if rank == len(matrix):
        rows, lower = orthonormal(matrix) if left is None else (left.T, small)
        return rows, lower, u, s, *told, None
    basis = vt[:rank] if left is None else vt[:rank] @ left.T
    if left is not None or not rank:
        return basis, np.zeros((0, 0)), u[:, :rank], s[:rank], *told, None
    chosen = _independent(matrix, rank)
    return *orthonormal(matrix[chosen]), u[:, :rank], s[:rank], *told, chosen


def orthonormal(matrix: Floats) -> tuple[Floats, Floats]:
    """`matrix = lower @ rows` for independent rows, of one matrix or a batch: `rows` orthonormal, `lower` triangular.

    Singular vectors span the same equations, but with their errors spread over all of them: on 8 equations over 12
    entries a projection misses by 13 spacings of float64 with them, by less than one with these. Rows that are solved
    for with the triangle give the equations back entry by entry (Higham, Accuracy and Stability, 2nd ed., theorem 8.5),
    those of the QR factorisation only in norm. They are less orthonormal, which a second pass forgives, and are taken
    where that is not much.
    """
    q, upper = lapack.batched_qr(np.swapaxes(matrix, -1, -2))
    rows, lower = np.swapaxes(q, -1, -2), np.swapaxes(upper, -1, -2)
    solved = lapack.solve(lower, matrix)
    off = np.abs(solved @ np.swapaxes(solved, -1, -2) - np.eye(matrix.shape[-2])).max(axis=(-1, -2), initial=0.0)
    return np.where((off <= NEARLY_ORTHONORMAL)[..., None, None], solved, rows), lower


def _targets(matrix: Floats, rows: Floats, lower: Floats, rhs: Floats) -> Floats:
    """`target` with `left @ target == rhs`, where `matrix = left @ rows`: of a batch of systems, or of one.

    Shapes: matrix and rows (k, r, n), rhs (k, r), or (r, n) and (cells, r). Refined once, so that what rounding made
    `lower` differ by from `left` for these very rows no longer counts (Higham, Accuracy and Stability, 2nd ed., 12.3).
    """
    left = from_coefficients(_left, matrix, rows)
    sides = rhs.T if matrix.ndim == 2 else rhs[..., None]
    solved = lapack.solve(lower, sides)
    solved = solved + lapack.solve(lower, sides - left @ solved)
    return np.asarray(solved.T if matrix.ndim == 2 else solved[..., 0], np.float64)


def _left(matrix: Floats, rows: Floats) -> Floats:
    """`matrix @ rows⁺`: the rows are orthonormal to rounding, whose square is left out."""
    turned = np.swapaxes(rows, -1, -2)
    left: Floats = (matrix @ turned) @ (2.0 * np.eye(rows.shape[-2]) - rows @ turned)
    return left


def _with_little_left(
    matrix: Floats, rhs: Floats, terms: Floats, share: Floats, which: np.ndarray, tolerance: Tolerance
) -> Factor:
    """Systems of which some (`which`) have rows that are a small share (k, r) of what they were: one by one."""
    k, r, n = matrix.shape
    rest = factor(matrix[~which], rhs[~which], terms[~which], tolerance) if not which.all() else None
    systems = zip(matrix[which], rhs[which], terms[which], share[which], strict=True)
    some = _stacked([_by_share(*system, tolerance) for system in systems], r, n)
    if rest is None:
        return some
    most = max(rest.basis.shape[1], some.basis.shape[1])
    basis, target = np.zeros((k, most, n)), np.zeros((k, most))
    ranks, consistent, condition = np.zeros(k, np.int64), np.zeros(k, bool), np.ones(k)
    for part, places in ((rest, ~which), (some, which)):
        basis[places, : part.basis.shape[1]], target[places, : part.target.shape[1]] = part.basis, part.target
        ranks[places], consistent[places], condition[places] = part.ranks, part.consistent, part.condition
    return Factor(basis, target, ranks, consistent, rest.ambiguous + some.ambiguous, condition)


def _by_share(
    matrix: Floats, rhs: Floats, terms: Floats, share: Floats, tolerance: Tolerance
) -> tuple[Floats, Floats, bool, int, float]:
    """One system of equilibrated rows, each a share of what it was: rank and contradictions are judged at that size."""
    rows, lower, chosen, ambiguous, condition = from_coefficients(_shares, matrix, share, tolerance)
    target = _targets(matrix[chosen], rows, lower, rhs[None, chosen])[0]
    gap = np.abs(rhs - (matrix @ rows.T) @ target) * share
    size = np.maximum((terms * share).max(), np.linalg.norm(target))
    return rows, target, bool((gap <= tolerance.consistency(len(matrix)) * size).all()), ambiguous, condition


def _shares(matrix: Floats, share: Floats, tolerance: Tolerance) -> tuple[Floats, Floats, Integers, int, float]:
    """Orthonormal rows, their triangle, the independent rows; one where the rank is doubtful; the condition."""
    sizes = lapack.singular_values(matrix * share[:, None])
    bound = tolerance.rank(*matrix.shape) * max(float(sizes[0]), 1.0)
    rank = int((sizes > bound).sum())
    ambiguous = int(((sizes > bound * 0.25) & (sizes < bound * 1e2)).any())
    chosen = _independent(matrix * share[:, None], rank)
    condition = float(sizes[0] / sizes[rank - 1]) if rank else 1.0
    return *orthonormal(matrix[chosen]), chosen, ambiguous, condition


def _single(matrix: Floats, rhs: Floats, terms: Floats, norms: Floats, tolerance: Tolerance) -> Factor:
    ranks = (norms[:, 0] > 0).astype(np.int64)
    consistent = (ranks == 1) | (np.abs(rhs[:, 0]) <= tolerance.consistency(1) * terms[:, 0])
    return Factor(matrix, np.where(ranks[:, None] > 0, rhs, 0.0), ranks, consistent, 0, np.ones(len(ranks)))


def _by_svd(
    matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance, shape: tuple[int, ...] | None = None
) -> Factor:
    """`shape` is that of the system the tolerance is for, where `matrix` is only its triangle."""
    found = from_coefficients(_singular, matrix, tolerance, matrix.shape[1:] if shape is None else shape)
    ranks, full, basis, kept, s = found.ranks, found.full, found.basis, found.kept, found.sizes
    within = np.einsum("kqr,kr->kq", found.turned, rhs)
    gap = np.abs(rhs - np.einsum("kqr,kq->kr", found.turned, within))
    target = np.divide(within, s, out=np.zeros_like(within), where=kept)
    consistent = full | within_rounding(gap, terms, target, tolerance)
    if full.any():
        own = slice(None) if full.all() else full
        target[full] = _targets(matrix[own], basis[own], found.lower, rhs[full])
    for which, chosen, rows, lower in found.deficient:
        target[which, : len(rows)] = _targets(matrix[which, chosen], rows, lower, rhs[which : which + 1, chosen])[0]
    for place in np.flatnonzero(~consistent) if shape is None else ():
        own, one = slice(0, int(ranks[place])), slice(place, place + 1)
        consistent[one] = hold(matrix[place], basis[place, own], target[one, own], rhs[one], terms[one], tolerance)
        if not consistent[place]:
            break
    most = int(ranks.max(initial=0))
    return Factor(basis[:, :most], target[:, :most], ranks, consistent, found.ambiguous, found.condition)


@dataclass(frozen=True, eq=False)
class _Singular:
    """What singular values decide of a batch (k, r, n): which of them count (k, q), and orthonormal rows (k, q, n).

    `turned` (k, q, r) are left singular vectors, zero where they do not count. `full` says which systems have
    independent rows, and `lower` is the triangle of these; `deficient` are (system, independent rows, orthonormal
    rows, triangle) of others, where they are few.
    """

    turned: Floats
    sizes: Floats
    kept: np.ndarray
    ranks: Integers
    basis: Floats
    full: np.ndarray
    lower: Floats
    deficient: list[tuple[int, Integers, Floats, Floats]]
    ambiguous: int
    condition: Floats


def _singular(matrix: Floats, tolerance: Tolerance, shape: tuple[int, ...]) -> _Singular:
    k = len(matrix)
    u, s, vt = lapack.svd(matrix, full_matrices=False)
    bound = tolerance.rank(*shape) * s[:, :1]
    kept = s > np.where(bound > 0, bound, 0.0)
    ambiguous = int(((s > bound * 0.25) & (s < bound * 1e2) & (s > 0)).any(axis=1).sum())
    ranks = kept.sum(axis=1)
    basis = np.where(kept[:, :, None], vt, 0.0)
    full, lower = ranks == matrix.shape[1], np.zeros((0, 0, 0))
    if full.any():
        basis[full], lower = orthonormal(matrix[full])
    deficient = []
    for place in np.flatnonzero(~full & (ranks > 0)).tolist() if k <= FEW_SYSTEMS else ():
        chosen = _independent(matrix[place], int(ranks[place]))
        rows, triangle = orthonormal(matrix[place, chosen])
        basis[place, : len(rows)] = rows
        deficient.append((place, chosen, rows, triangle))
    last = np.take_along_axis(s, np.maximum(ranks - 1, 0)[:, None], 1)[:, 0]
    condition = np.divide(s[:, 0], last, out=np.ones(k), where=last > 0)
    turned = np.where(kept[:, :, None], u.transpose(0, 2, 1), 0.0)
    return _Singular(turned, s, kept, ranks, basis, full, lower, deficient, ambiguous, condition)


def _independent(matrix: Floats, rank: int) -> Integers:
    """Rows that span the others, the farthest from those before it first (Golub & Van Loan, 4th ed., 5.4.2)."""
    pivots = lapack.qr(matrix.T, mode="r", pivoting=True, check_finite=False)[1]
    return np.sort(pivots[:rank])


def _by_qr(matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance) -> tuple[Floats, Floats, bool, int, float]:
    """`matrixᵀ = Q R` in blocked Householder form, then the small triangle by SVD: `matrix = Rᵀ Qᵀ`."""
    if len(matrix) >= matrix.shape[1] and not rhs.any():
        zeros = from_coefficients(_all_zero, matrix, tolerance)
        if zeros is not None:
            return zeros
    q, upper = from_coefficients(_turned, matrix)
    inner = _by_svd(upper.T[None], rhs[None], terms[None], tolerance, shape=matrix.shape)
    rank = int(inner.ranks[0])
    told = inner.ambiguous, float(inner.condition[0])
    if rank == len(matrix):
        return q.T, lapack.solve_triangular(upper, rhs, trans="T", check_finite=False), True, *told
    basis, target = from_coefficients(np.matmul, inner.basis[0, :rank], q.T), inner.target[0, :rank]
    consistent = bool(inner.consistent[0]) or bool(
        hold(matrix, basis, target[None], rhs[None], terms[None], tolerance)[0]
    )
    return basis, target, consistent, *told


def _turned(matrix: Floats) -> tuple[Floats, Floats]:
    """Q and R of the transposed matrix."""
    q, upper = lapack.qr(matrix.T, mode="economic", check_finite=False)
    return q, upper


def _all_zero(matrix: Floats, tolerance: Tolerance) -> tuple[Floats, Floats, bool, int, float] | None:
    """Equations that make every entry zero: the singular values alone say so, and entries are their own basis.

    None where entries stay free.
    """
    width = matrix.shape[1]
    (upper,) = lapack.qr(matrix, mode="r", check_finite=False)
    sizes = lapack.singular_values(upper[:width])
    bound = tolerance.rank(*matrix.shape) * sizes[0]
    if not (sizes > bound).all():
        return None
    ambiguous = int((sizes < bound * 1e2).any())
    return np.eye(width), np.zeros(width), True, ambiguous, float(sizes[0] / sizes[-1])


def _by_gram(matrix: Floats, rhs: Floats, tolerance: Tolerance) -> Factor | None:
    """The factor by Cholesky of the equilibrated Gram matrix; None unless that is accurate and the rank full."""
    found = from_coefficients(_gram_factor, matrix, tolerance)
    if found is None:
        return None
    basis, norms, lower, again, ambiguous, condition = found
    target = lapack.solve_triangular(lower, rhs / norms, lower=True, check_finite=False)
    if again is not None:
        target = lapack.solve_triangular(again, target, lower=True, check_finite=False)
    # Of full rank, whatever the right-hand sides are.
    return Factor(basis[None], target[None], np.array([len(basis)]), np.array([True]), ambiguous, condition)


def _gram_factor(
    matrix: Floats, tolerance: Tolerance
) -> tuple[Floats, Floats, Floats, Floats | None, int, Floats] | None:
    """Orthonormal rows, the norms of the equations, the triangle of each pass, whether ambiguous, the condition.

    Rows are scaled through the small matrices alone, so that the large one is read twice and written once.
    """
    r, n = matrix.shape
    gram = matrix @ matrix.T
    norms = np.sqrt(np.diagonal(gram))
    if r >= n or not (norms > 1e-100).all() or not (norms < 1e100).all():
        return None
    even = gram / norms[:, None] / norms
    squares = lapack.eigvalsh(even)
    sizes = np.sqrt(np.maximum(squares, 0.0))
    bound = tolerance.rank(r, n) * sizes[-1]
    if sizes[0] <= max(bound, sizes[-1] / GRAM_SPREAD):
        return None
    lower = lapack.cholesky(even)
    basis = _multiplied(_inverse(lower) / norms, np.array(matrix, order="C"))
    again: Floats | None = None
    if squares[-1] > 100.0 * squares[0]:
        again = np.asarray(lapack.cholesky(basis @ basis.T), np.float64)
        basis = _multiplied(_inverse(again), basis)
    condition: Floats = sizes[-1:] / sizes[0]
    return basis, np.asarray(norms), np.asarray(lower), again, int(sizes[0] < bound * 1e2), condition


def _inverse(lower: np.ndarray) -> Floats:
    inverse: Floats = lapack.solve_triangular(lower, np.eye(len(lower)), lower=True, check_finite=False)
    return inverse


def _multiplied(lower: Floats, matrix: Floats) -> Floats:
    """`lower @ matrix` for a lower triangle, in place: a quarter of the time of a full product."""
    done: Floats = blas.dtrmm(1.0, lower, matrix.T, side=1, lower=1, trans_a=1, overwrite_b=1).T
    return done


def _stacked(parts: list[tuple[Floats, Floats, bool, int, float]], r: int, n: int) -> Factor:
    most = max(len(target) for _, target, *_ in parts)
    basis, target = np.zeros((len(parts), most, n)), np.zeros((len(parts), most))
    for place, (rows, values, *_) in enumerate(parts):
        basis[place, : len(rows)], target[place, : len(rows)] = rows, values
    ranks = np.array([len(values) for _, values, *_ in parts], np.int64)
    consistent = np.array([part[2] for part in parts])
    return Factor(
        basis, target, ranks, consistent, sum(part[3] for part in parts), np.array([part[4] for part in parts])
    )
