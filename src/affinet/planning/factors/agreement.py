"""Whether equations that follow from others say what these say, but for rounding."""

from __future__ import annotations

import numpy as np

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.tolerance import Tolerance

AT_A_TIME = 2**24
"""Numbers of solutions that are written out together."""


def within_rounding(gap: Floats, terms: Floats, solution: Floats, tolerance: Tolerance) -> np.ndarray:
    """Which of k systems of r equilibrated equations hold: `gap` (k, r) is what they leave of their right-hand sides.

    Of these it may be a small share, and of a solution, whose coordinates are `solution` (k, rank): a factorisation
    moves coefficients of rows of norm one by float64's rounding, and the left side by that times |x| (backward error:
    Higham, Accuracy and Stability, 2nd ed., 7.1 and 19.3). `terms` (k, r) are the magnitudes of right-hand sides.
    """
    length = gap.shape[1]
    bound = tolerance.consistency(length) * terms.max(axis=1) + tolerance.factored(length) * _norms(solution)
    return np.asarray(gap.max(axis=1) <= bound)


def hold(matrix: Floats, basis: Floats, target: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance) -> np.ndarray:
    """The same to the last digit of the constants: where these are known to ε, what counts is `ε Σ|a_j x_j|` too.

    One equilibrated matrix (r, n), orthonormal rows (rank, n) that span its rows, and of k systems the target (k, rank)
    of these rows, right-hand sides and their magnitudes (k, r). With U a basis of the columns, the rows of `I − U Uᵀ`
    are the combinations of equations that cancel. Behind a system that does not hold none is looked at.
    """
    length, n = matrix.shape
    cancelling = from_coefficients(_cancelling, matrix, basis)
    found = np.zeros(len(rhs), bool)
    step = max(1, AT_A_TIME // n)
    for first in range(0, len(rhs), step):
        some = slice(first, first + step)
        size = terms[some] + np.abs(target[some] @ basis) @ np.abs(matrix).T
        bound = tolerance.consistency(length) * (size @ np.abs(cancelling))
        bound += tolerance.factored(length) * _norms(target[some])[:, None]
        found[some] = (np.abs(rhs[some] @ cancelling) <= bound).all(axis=1)
        if not found[some].all():
            break
    return found


def _cancelling(matrix: Floats, basis: Floats) -> Floats:
    columns = lapack.batched_qr(matrix @ basis.T)[0]
    return np.asarray(np.eye(len(matrix)) - columns @ columns.T, np.float64)


def mismatch(
    matrix: Floats, rhs: Floats, terms: Floats, upper: Floats, combination: Floats, first: Integers, rest: Integers
) -> tuple[Floats, Floats, float]:
    """What rows that are combinations of others leave of their right-hand sides, the terms of that, and |x|.

    Of an equilibrated matrix (r, n) with `matrix[first].T = Q upper` and `matrix[rest] = combinationᵀ matrix[first]`.
    x is the shortest solution of the first rows.
    """
    solution = lapack.solve_triangular(upper, rhs[first], trans="T", check_finite=False)
    multipliers = lapack.solve_triangular(upper, solution, check_finite=False)
    size = terms + np.abs(matrix) @ np.abs(multipliers @ matrix[first])
    gap = np.abs(rhs[rest] - combination.T @ rhs[first])
    return gap, size[rest] + np.abs(combination).T @ size[first], float(np.linalg.norm(solution))


def _norms(solution: Floats) -> Floats:
    return np.asarray(np.linalg.norm(solution, axis=1))
