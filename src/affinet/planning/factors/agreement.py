"""Judge whether equations that follow from others agree with them to rounding."""

from __future__ import annotations

import numpy as np

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.tolerance import Tolerance

AT_A_TIME = 2**24
"""Numbers of solutions that are in memory at a time."""


def within_rounding(gaps: Floats, terms: Floats, solution: Floats, tolerance: Tolerance) -> np.ndarray:
    """Which of k systems of r equilibrated equations hold to rounding, given the residuals `gaps` (k, r).

    `terms` (k, r) are the magnitudes of the right-hand sides, `solution` (k, rank) the coordinates of a solution x. A
    gap may be a small share of the terms, and a small share of |x|: a factorisation moves coefficients of rows of norm
    one by float64's rounding, and the left side by that times |x| (backward error: Higham, Accuracy and Stability, 2nd
    ed., 7.1 and 19.3).
    """
    length = gaps.shape[1]
    bound = tolerance.consistency(length) * terms.max(axis=1) + tolerance.factored(length) * _lengths(solution)
    return np.asarray(gaps.max(axis=1) <= bound)


def hold(matrix: Floats, basis: Floats, target: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance) -> np.ndarray:
    """Which systems hold, as `within_rounding` but more exact: constants known to ε are allowed `ε Σ|a_j x_j|` too.

    Shapes: one equilibrated matrix (r, n) and orthonormal rows `basis` (rank, n) that span its rows; for k systems the
    target (k, rank) of the basis, right-hand sides and their magnitudes (k, r). With U a basis of the columns, the rows
    of `I − U Uᵀ` are the combinations of equations that cancel. Systems after the first chunk with one that does not
    hold are not checked and count as not holding.
    """
    length, n = matrix.shape
    cancelling = from_coefficients(_find_cancelling, matrix, basis)
    consistent = np.zeros(len(rhs), bool)
    step = max(1, AT_A_TIME // n)
    for first in range(0, len(rhs), step):
        chunk = slice(first, first + step)
        size = terms[chunk] + np.abs(target[chunk] @ basis) @ np.abs(matrix).T
        bound = tolerance.consistency(length) * (size @ np.abs(cancelling))
        bound += tolerance.factored(length) * _lengths(target[chunk])[:, None]
        consistent[chunk] = (np.abs(rhs[chunk] @ cancelling) <= bound).all(axis=1)
        if not consistent[chunk].all():
            break
    return consistent


def _find_cancelling(matrix: Floats, basis: Floats) -> Floats:
    columns = lapack.batched_qr(matrix @ basis.T)[0]
    return np.asarray(np.eye(len(matrix)) - columns @ columns.T, np.float64)


def mismatch(
    matrix: Floats,
    rhs: Floats,
    terms: Floats,
    triangle: Floats,
    combination: Floats,
    basis_rows: Integers,
    dependent_rows: Integers,
) -> tuple[Floats, Floats, float]:
    """Gaps between right-hand sides of dependent rows and their combinations, the terms of the gaps, and |x|.

    For an equilibrated matrix (r, n) with `matrix[basis_rows].T = Q triangle` and
    `matrix[dependent_rows] = combinationᵀ matrix[basis_rows]`. x is the shortest solution of the basis rows.
    """
    solution = lapack.solve_triangular(triangle, rhs[basis_rows], trans="T", check_finite=False)
    multipliers = lapack.solve_triangular(triangle, solution, check_finite=False)
    size = terms + np.abs(matrix) @ np.abs(multipliers @ matrix[basis_rows])
    gap = np.abs(rhs[dependent_rows] - combination.T @ rhs[basis_rows])
    return gap, size[dependent_rows] + np.abs(combination).T @ size[basis_rows], float(np.linalg.norm(solution))


def _lengths(solution: Floats) -> Floats:
    return np.asarray(np.linalg.norm(solution, axis=1))
