"""Factor dense equations: orthonormal rows that span the same equations, their rank, and whether they can hold."""

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
"""Up to this many systems of one form are factored one by one where that is more accurate."""

GRAM_NUMBERS = 2**20
"""A larger matrix is factored by its Gram matrix if possible: four times as fast as QR (500 × 100,000: 1.7 s, QR 5 to
17 s)."""
GRAM_SPREAD = 1e5
"""Largest ratio of singular values for which `A Aᵀ` keeps ten digits of each of them, and two passes are enough for an
orthonormal basis (CholeskyQR2: Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, ETNA 2015)."""
SHRUNK_SHARE = 1e-2
"""Rows that substitution shrank below this share of their size have lost digits that may decide the rank."""
NEARLY_ORTHONORMAL = 16 * DOUBLE_EPSILON
"""Largest error of the inner products of rows that is accepted where such rows reproduce the equations more exactly."""


@dataclass(frozen=True, eq=False)
class Factor:
    """`basis[k] @ y == target[k]` is the same set as `matrix[k] @ y == rhs[k]`.

    Shapes: basis (k, r, n) with orthonormal rows, target (k, r), ranks (k,); rows beyond a system's rank are zero.
    `consistent` (k,) marks the systems that can hold; `ambiguous` counts ranks decided close to the tolerance.
    `condition` (k,) is the ratio of the largest singular value of the equilibrated rows to the last that counts.
    """

    basis: Floats
    target: Floats
    ranks: Integers
    consistent: np.ndarray
    ambiguous: int
    condition: Floats


def factor(
    matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance, original_norms: Floats | None = None
) -> Factor:
    """Factor a batch of systems in float64.

    Shapes: matrix (k, r, n), rhs and terms (k, r). `original_norms` (k, r) are the norms of the rows before other
    equations were substituted in them; the rounding of rows that shrank is relative to these. Rows are equilibrated
    first, so that a row of size 1e-9 counts as much as any other.

    Source: singular values decide the rank. They are those of the matrix itself where it is small, of the triangle of
    its QR factorisation where it is large (Golub & Van Loan, 4th ed., 5.4, 5.5, 8.6.3), and of its Gram matrix where it
    is larger still and far from singular.
    """
    if len(matrix) == 1 and matrix.size > GRAM_NUMBERS:
        factored = _factor_by_gram(matrix[0], rhs[0], tolerance)
        if factored is not None:
            return factored
    matrix, norms, divisors = from_coefficients(_equilibrate, matrix)
    rhs, terms = rhs / divisors, terms / divisors
    k, r, n = matrix.shape
    if original_norms is not None and r > 1 and (shrunk := np.asarray(norms < SHRUNK_SHARE * original_norms)).any():
        return _factor_shrunk(
            matrix, rhs, terms, np.minimum(norms / original_norms, 1.0), np.asarray(shrunk.any(axis=1)), tolerance
        )
    if r == 1:
        return _factor_single(matrix, rhs, terms, norms, tolerance)
    if r * n <= SVD_NUMBERS or k > FEW_SYSTEMS:
        return _factor_by_svd(matrix, rhs, terms, tolerance)
    parts = [_factor_by_qr(*system, tolerance) for system in zip(matrix, rhs, terms, strict=True)]
    return _stack(parts, r, n)


def _equilibrate(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """Rows divided by their norms, the norms, and the divisors (1 where a norm is 0)."""
    norms = norms_of_rows(matrix)
    divisors = np.where(norms > 0, norms, 1.0)
    return np.asarray(matrix / divisors[..., None]), norms, divisors


def factor_shared(matrix: Floats, rhs: Floats, tolerance: Tolerance) -> Factor:
    """Factor one matrix (r, n) for many right-hand sides (cells, r): basis (1, rank, n), target (cells, rank).

    `consistent` is (cells,).
    """
    if matrix.size > GRAM_NUMBERS and len(rhs) == 1:
        factored = _factor_by_gram(matrix, rhs[0], tolerance)
        if factored is not None:
            return factored
    matrix, _, divisors = from_coefficients(_equilibrate, matrix)
    rhs = rhs / divisors
    basis, triangle, u, s, ambiguous, condition, independent_rows = from_coefficients(
        _factor_one_matrix, matrix, tolerance
    )
    rank = len(s)
    if rank == len(matrix):
        # Independent equations contradict nothing, even where subnormal numbers round badly.
        consistent = np.ones(len(rhs), bool)
        target = _solve_targets(matrix, basis, triangle, rhs)
        return Factor(basis[None], target, np.array([rank]), consistent, ambiguous, condition)
    components = rhs @ u
    gaps, target = np.abs(rhs - components @ u.T), components / s
    consistent = within_rounding(gaps, np.abs(rhs), target, tolerance)
    if independent_rows is not None:
        target = _solve_targets(matrix[independent_rows], basis, triangle, rhs[:, independent_rows])
    if not consistent.all():
        failing = ~consistent
        consistent[failing] = hold(matrix, basis, target[failing], rhs[failing], np.abs(rhs[failing]), tolerance)
    return Factor(basis[None], target, np.array([rank]), consistent, ambiguous, condition)


def _factor_one_matrix(
    matrix: Floats, tolerance: Tolerance
) -> tuple[Floats, Floats, Floats, Floats, int, Floats, Integers | None]:
    """The factor of one equilibrated matrix, without right-hand sides.

    Returns orthonormal rows and the triangle with which they were computed; left singular vectors and the singular
    values that count; 1 if the rank was decided close to the tolerance; the condition; and the independent rows of the
    matrix that the triangle belongs to, None without a triangle.
    """
    orthonormal_columns = None
    if matrix.size > SVD_NUMBERS and matrix.shape[0] < matrix.shape[1]:
        orthonormal_columns, upper = lapack.qr(matrix.T, mode="economic", check_finite=False)
        core = upper.T
    else:
        core = matrix
    u, s, vt = lapack.svd(core, full_matrices=False)
    bound = tolerance.rank(*matrix.shape) * s[0]
    rank = int((s > bound).sum())
    verdict = (
        int(((s > bound * 0.25) & (s < bound * 1e2)).any()),
        s[:1] / s[max(rank, 1) - 1] if s[0] > 0 else np.ones(1),
    )
    if rank == len(matrix):
        rows, lower = orthonormalise(matrix) if orthonormal_columns is None else (orthonormal_columns.T, core)
        return rows, lower, u, s, *verdict, None
    basis = vt[:rank] if orthonormal_columns is None else vt[:rank] @ orthonormal_columns.T
    if orthonormal_columns is not None or not rank:
        return basis, np.zeros((0, 0)), u[:, :rank], s[:rank], *verdict, None
    chosen = _choose_independent(matrix, rank)
    return *orthonormalise(matrix[chosen]), u[:, :rank], s[:rank], *verdict, chosen


def orthonormalise(matrix: Floats) -> tuple[Floats, Floats]:
    """Orthonormal `rows` and a lower `triangle` with `matrix = triangle @ rows`, of one matrix or a batch.

    Singular vectors span the same equations, but spread their errors over all of them: on 8 equations over 12 entries a
    projection misses by 13 spacings of float64 with them, by less than one with these rows. Rows solved for with the
    triangle reproduce the equations entry by entry (Higham, Accuracy and Stability, 2nd ed., theorem 8.5), those of the
    QR factorisation only in norm. Solved rows are less orthonormal, which a second pass corrects; they are returned if
    they are orthonormal to a few roundings.
    """
    q, transposed_triangle = lapack.batched_qr(np.swapaxes(matrix, -1, -2))
    rows, triangle = np.swapaxes(q, -1, -2), np.swapaxes(transposed_triangle, -1, -2)
    solved = lapack.solve(triangle, matrix)
    deviation = np.abs(solved @ np.swapaxes(solved, -1, -2) - np.eye(matrix.shape[-2])).max(axis=(-1, -2), initial=0.0)
    return np.where((deviation <= NEARLY_ORTHONORMAL)[..., None, None], solved, rows), triangle


def _solve_targets(matrix: Floats, rows: Floats, lower: Floats, rhs: Floats) -> Floats:
    """Targets with `left_factor @ target == rhs`, where `matrix = left_factor @ rows`.

    Shapes: matrix and rows (k, r, n), rhs (k, r); or (r, n) and (cells, r). Refined once, so that the difference
    between `lower` and `left_factor` by rounding has no effect (Higham, Accuracy and Stability, 2nd ed., 12.3).
    """
    left_factor = from_coefficients(_project_left, matrix, rows)
    sides = rhs.T if matrix.ndim == 2 else rhs[..., None]
    solved = lapack.solve(lower, sides)
    solved = solved + lapack.solve(lower, sides - left_factor @ solved)
    return np.asarray(solved.T if matrix.ndim == 2 else solved[..., 0], np.float64)


def _project_left(matrix: Floats, rows: Floats) -> Floats:
    """`matrix @ rows⁺` for rows that are orthonormal to rounding; the square of that rounding is neglected."""
    turned = np.swapaxes(rows, -1, -2)
    left_factor: Floats = (matrix @ turned) @ (2.0 * np.eye(rows.shape[-2]) - rows @ turned)
    return left_factor


def _factor_shrunk(
    matrix: Floats, rhs: Floats, terms: Floats, share: Floats, shrunk: np.ndarray, tolerance: Tolerance
) -> Factor:
    """Factor the systems in `shrunk`, whose rows are a small share (k, r) of their original size, one by one."""
    k, r, n = matrix.shape
    regular = factor(matrix[~shrunk], rhs[~shrunk], terms[~shrunk], tolerance) if not shrunk.all() else None
    systems = zip(matrix[shrunk], rhs[shrunk], terms[shrunk], share[shrunk], strict=True)
    by_share = _stack([_factor_by_share(*system, tolerance) for system in systems], r, n)
    if regular is None:
        return by_share
    most = max(regular.basis.shape[1], by_share.basis.shape[1])
    basis, target = np.zeros((k, most, n)), np.zeros((k, most))
    ranks, consistent, condition = np.zeros(k, np.int64), np.zeros(k, bool), np.ones(k)
    for part, places in ((regular, ~shrunk), (by_share, shrunk)):
        basis[places, : part.basis.shape[1]], target[places, : part.target.shape[1]] = part.basis, part.target
        ranks[places], consistent[places], condition[places] = part.ranks, part.consistent, part.condition
    return Factor(basis, target, ranks, consistent, regular.ambiguous + by_share.ambiguous, condition)


def _factor_by_share(
    matrix: Floats, rhs: Floats, terms: Floats, share: Floats, tolerance: Tolerance
) -> tuple[Floats, Floats, bool, int, float]:
    """Factor equilibrated rows, each a share of its original size: rank and contradictions are judged at that size."""
    rows, triangle, independent_rows, ambiguous, condition = from_coefficients(
        _find_rank_by_share, matrix, share, tolerance
    )
    target = _solve_targets(matrix[independent_rows], rows, triangle, rhs[None, independent_rows])[0]
    gaps = np.abs(rhs - (matrix @ rows.T) @ target) * share
    size = np.maximum((terms * share).max(), np.linalg.norm(target))
    return rows, target, bool((gaps <= tolerance.consistency(len(matrix)) * size).all()), ambiguous, condition


def _find_rank_by_share(
    matrix: Floats, share: Floats, tolerance: Tolerance
) -> tuple[Floats, Floats, Integers, int, float]:
    """Orthonormal rows, their triangle, the independent rows, 1 if the rank is doubtful, and the condition."""
    sizes = lapack.singular_values(matrix * share[:, None])
    bound = tolerance.rank(*matrix.shape) * max(float(sizes[0]), 1.0)
    rank = int((sizes > bound).sum())
    ambiguous = int(((sizes > bound * 0.25) & (sizes < bound * 1e2)).any())
    chosen = _choose_independent(matrix * share[:, None], rank)
    condition = float(sizes[0] / sizes[rank - 1]) if rank else 1.0
    return *orthonormalise(matrix[chosen]), chosen, ambiguous, condition


def _factor_single(matrix: Floats, rhs: Floats, terms: Floats, norms: Floats, tolerance: Tolerance) -> Factor:
    ranks = (norms[:, 0] > 0).astype(np.int64)
    consistent = (ranks == 1) | (np.abs(rhs[:, 0]) <= tolerance.consistency(1) * terms[:, 0])
    return Factor(matrix, np.where(ranks[:, None] > 0, rhs, 0.0), ranks, consistent, 0, np.ones(len(ranks)))


def _factor_by_svd(
    matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance, shape: tuple[int, ...] | None = None
) -> Factor:
    """Factor by singular values. `shape` is the shape of the system if `matrix` is only its triangle."""
    singular = from_coefficients(_decompose, matrix, tolerance, matrix.shape[1:] if shape is None else shape)
    ranks, full, basis, significant, sizes = (
        singular.ranks,
        singular.full,
        singular.basis,
        singular.significant,
        singular.sizes,
    )
    components = np.einsum("kqr,kr->kq", singular.left_vectors, rhs)
    gaps = np.abs(rhs - np.einsum("kqr,kq->kr", singular.left_vectors, components))
    target = np.divide(components, sizes, out=np.zeros_like(components), where=significant)
    consistent = full | within_rounding(gaps, terms, target, tolerance)
    if full.any():
        selected = slice(None) if full.all() else full
        target[full] = _solve_targets(matrix[selected], basis[selected], singular.lower, rhs[full])
    for k, chosen, rows, lower in singular.deficient:
        (target[k, : len(rows)],) = _solve_targets(matrix[k, chosen], rows, lower, rhs[k : k + 1, chosen])
    for place in np.flatnonzero(~consistent) if shape is None else ():
        selected, system = slice(0, int(ranks[place])), slice(place, place + 1)
        consistent[system] = hold(
            matrix[place], basis[place, selected], target[system, selected], rhs[system], terms[system], tolerance
        )
        if not consistent[place]:
            break
    largest_rank = int(ranks.max(initial=0))
    return Factor(
        basis[:, :largest_rank], target[:, :largest_rank], ranks, consistent, singular.ambiguous, singular.condition
    )


@dataclass(frozen=True, eq=False)
class _Singular:
    """Singular values of a batch (k, r, n), which of them are `significant` (k, q), and orthonormal rows (k, q, n).

    `left_vectors` (k, q, r) are left singular vectors, zero where they do not count. `full` marks systems with
    independent rows, and `lower` is the triangle of these. `deficient` are (system, independent rows, orthonormal rows,
    triangle) of the other systems, if they are few.
    """

    left_vectors: Floats
    sizes: Floats
    significant: np.ndarray
    ranks: Integers
    basis: Floats
    full: np.ndarray
    lower: Floats
    deficient: list[tuple[int, Integers, Floats, Floats]]
    ambiguous: int
    condition: Floats


def _decompose(matrix: Floats, tolerance: Tolerance, shape: tuple[int, ...]) -> _Singular:
    k = len(matrix)
    u, s, vt = lapack.svd(matrix, full_matrices=False)
    bound = tolerance.rank(*shape) * s[:, :1]
    significant = s > np.where(bound > 0, bound, 0.0)
    ambiguous = int(((s > bound * 0.25) & (s < bound * 1e2) & (s > 0)).any(axis=1).sum())
    ranks = significant.sum(axis=1)
    basis = np.where(significant[:, :, None], vt, 0.0)
    full, lower = ranks == matrix.shape[1], np.zeros((0, 0, 0))
    if full.any():
        basis[full], lower = orthonormalise(matrix[full])
    deficient = []
    for place in np.flatnonzero(~full & (ranks > 0)).tolist() if k <= FEW_SYSTEMS else ():
        chosen = _choose_independent(matrix[place], int(ranks[place]))
        rows, triangle = orthonormalise(matrix[place, chosen])
        basis[place, : len(rows)] = rows
        deficient.append((place, chosen, rows, triangle))
    last = np.take_along_axis(s, np.maximum(ranks - 1, 0)[:, None], 1)[:, 0]
    condition = np.divide(s[:, 0], last, out=np.ones(k), where=last > 0)
    left_vectors = np.where(significant[:, :, None], u.transpose(0, 2, 1), 0.0)
    return _Singular(left_vectors, s, significant, ranks, basis, full, lower, deficient, ambiguous, condition)


def _choose_independent(matrix: Floats, rank: int) -> Integers:
    """Rows that span the others, by QR with column pivoting (Golub & Van Loan, 4th ed., 5.4.2)."""
    pivots = lapack.qr(matrix.T, mode="r", pivoting=True, check_finite=False)[1]
    return np.sort(pivots[:rank])


def _factor_by_qr(
    matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance
) -> tuple[Floats, Floats, bool, int, float]:
    """Factor `matrixᵀ = Q R` by blocked Householder reflections, then the small triangle by SVD: `matrix = Rᵀ Qᵀ`."""
    if len(matrix) >= matrix.shape[1] and not rhs.any():
        zeros = from_coefficients(_factor_all_zero, matrix, tolerance)
        if zeros is not None:
            return zeros
    q, triangle = from_coefficients(_factor_transposed, matrix)
    triangle_factor = _factor_by_svd(triangle.T[None], rhs[None], terms[None], tolerance, shape=matrix.shape)
    rank = int(triangle_factor.ranks[0])
    verdict = triangle_factor.ambiguous, float(triangle_factor.condition[0])
    if rank == len(matrix):
        return q.T, lapack.solve_triangular(triangle, rhs, trans="T", check_finite=False), True, *verdict
    basis, target = from_coefficients(np.matmul, triangle_factor.basis[0, :rank], q.T), triangle_factor.target[0, :rank]
    consistent = bool(triangle_factor.consistent[0]) or bool(
        hold(matrix, basis, target[None], rhs[None], terms[None], tolerance)[0]
    )
    return basis, target, consistent, *verdict


def _factor_transposed(matrix: Floats) -> tuple[Floats, Floats]:
    """Q and R of the transposed matrix."""
    q, upper = lapack.qr(matrix.T, mode="economic", check_finite=False)
    return q, upper


def _factor_all_zero(matrix: Floats, tolerance: Tolerance) -> tuple[Floats, Floats, bool, int, float] | None:
    """The factor of equations that make every entry zero: the basis is the identity, and no singular vector is needed.

    None if entries stay free.
    """
    width = matrix.shape[1]
    (upper,) = lapack.qr(matrix, mode="r", check_finite=False)
    sizes = lapack.singular_values(upper[:width])
    bound = tolerance.rank(*matrix.shape) * sizes[0]
    if not (sizes > bound).all():
        return None
    ambiguous = int((sizes < bound * 1e2).any())
    return np.eye(width), np.zeros(width), True, ambiguous, float(sizes[0] / sizes[-1])


def _factor_by_gram(matrix: Floats, rhs: Floats, tolerance: Tolerance) -> Factor | None:
    """Factor by Cholesky of the equilibrated Gram matrix; None unless that is accurate and the rank is full."""
    gram = from_coefficients(_factor_gram, matrix, tolerance)
    if gram is None:
        return None
    basis, norms, triangle, second_triangle, ambiguous, condition = gram
    target = lapack.solve_triangular(triangle, rhs / norms, lower=True, check_finite=False)
    if second_triangle is not None:
        target = lapack.solve_triangular(second_triangle, target, lower=True, check_finite=False)
    # The rank is full, so that any right-hand sides can hold.
    return Factor(basis[None], target[None], np.array([len(basis)]), np.array([True]), ambiguous, condition)


def _factor_gram(
    matrix: Floats, tolerance: Tolerance
) -> tuple[Floats, Floats, Floats, Floats | None, int, Floats] | None:
    """Orthonormal rows, the norms of the equations, the triangle of each pass, 1 if ambiguous, and the condition.

    Only the small matrices are scaled, so that the large one is read twice and written once.
    """
    r, n = matrix.shape
    gram = matrix @ matrix.T
    norms = np.sqrt(np.diagonal(gram))
    if r >= n or not (norms > 1e-100).all() or not (norms < 1e100).all():
        return None
    equilibrated = gram / norms[:, None] / norms
    squares = lapack.eigvalsh(equilibrated)
    sizes = np.sqrt(np.maximum(squares, 0.0))
    bound = tolerance.rank(r, n) * sizes[-1]
    if sizes[0] <= max(bound, sizes[-1] / GRAM_SPREAD):
        return None
    triangle = lapack.cholesky(equilibrated)
    basis = _multiply_in_place(_invert(triangle) / norms, np.array(matrix, order="C"))
    second_triangle: Floats | None = None
    if squares[-1] > 100.0 * squares[0]:
        second_triangle = np.asarray(lapack.cholesky(basis @ basis.T), np.float64)
        basis = _multiply_in_place(_invert(second_triangle), basis)
    condition: Floats = sizes[-1:] / sizes[0]
    return basis, np.asarray(norms), np.asarray(triangle), second_triangle, int(sizes[0] < bound * 1e2), condition


def _invert(lower: np.ndarray) -> Floats:
    inverse: Floats = lapack.solve_triangular(lower, np.eye(len(lower)), lower=True, check_finite=False)
    return inverse


def _multiply_in_place(lower: Floats, matrix: Floats) -> Floats:
    """`lower @ matrix` for a lower triangle, in place: a quarter of the time of a full product."""
    product: Floats = blas.dtrmm(1.0, lower, matrix.T, side=1, lower=1, trans_a=1, overwrite_b=1).T
    return product


def _stack(parts: list[tuple[Floats, Floats, bool, int, float]], r: int, n: int) -> Factor:
    largest_rank = max(len(target) for _, target, *_ in parts)
    basis, target = np.zeros((len(parts), largest_rank, n)), np.zeros((len(parts), largest_rank))
    for place, (rows, values, *_) in enumerate(parts):
        basis[place, : len(rows)], target[place, : len(rows)] = rows, values
    ranks = np.array([len(values) for _, values, *_ in parts], np.int64)
    consistent = np.array([part[2] for part in parts])
    return Factor(
        basis, target, ranks, consistent, sum(part[3] for part in parts), np.array([part[4] for part in parts])
    )
