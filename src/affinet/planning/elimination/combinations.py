"""Find circuits among dense equations: each equation outside a basis of the rows as a combination of the basis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.factors.agreement import mismatch
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.norms import norms_of_rows
from affinet.system.tolerance import Tolerance

MOST_NUMBERS = 2**24
MOST_WORK = 10**10
"""Multiplications: a matrix whose factor costs more is not factored (2,000 × 2,000 takes about four seconds)."""
MOST_TRIED = 16
MOST_REFINED = 512
"""Up to this many multipliers are solved for again without the negligible ones, which were not exactly zero."""
NEGLIGIBLE_SHARE = 1e-10
"""Multipliers at or below this share of the largest are rounding."""


def affordable(rows: int, columns: int) -> bool:
    """Whether a dense factor of this many rows and columns takes seconds at most."""
    return rows * columns <= MOST_NUMBERS and rows * columns * min(rows, columns) <= MOST_WORK


def dense_circuits(
    matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance
) -> Iterator[tuple[Integers, Floats]]:
    """Rows and multipliers of contradictions, those of the fewest rows first; nothing where all rows can hold.

    Law: each row outside a basis of the rows equals exactly one combination of the basis, and these combinations span
    all that cancel. If any combination contradicts, one of these does, and it is irreducible.
    Source: QR with column pivoting (Golub & Van Loan, 4th ed., 5.4.2).
    """
    if not matrix.size:
        wrong = np.flatnonzero(np.abs(rhs) > tolerance.consistency(8) * terms)
        yield from ((row[None], np.ones(1)) for row in wrong[:MOST_TRIED])
        return
    equilibrated, norms, triangle, combinations, basis_rows, dependent_rows = from_coefficients(
        _combine_rows, matrix, tolerance
    )
    rhs, terms = rhs / norms, terms / norms
    if not len(dependent_rows):
        return
    gaps, sizes, solution_norm = mismatch(equilibrated, rhs, terms, triangle, combinations, basis_rows, dependent_rows)
    wrong = np.flatnonzero(gaps > tolerance.consistency(8) * sizes + tolerance.factored(8) * solution_norm)
    used = np.abs(combinations) > _rounding_bounds(combinations, tolerance, len(matrix))
    # Among contradictions of equally many rows the clearest first.
    by_length = np.lexsort((-(gaps / np.where(sizes > 0, sizes, 1.0))[wrong], used[:, wrong].sum(axis=0)))
    for k in wrong[by_length[:MOST_TRIED]]:
        chosen = basis_rows[used[:, k]]
        weights = combinations[used[:, k], k]
        if 0 < len(chosen) <= MOST_REFINED:
            weights = lapack.lstsq(equilibrated[chosen].T, equilibrated[dependent_rows[k]], rcond=None)[0]
        rows = np.concatenate([chosen, dependent_rows[k : k + 1]])
        yield rows, np.concatenate([-weights, [1.0]]) / norms[rows]


def _combine_rows(matrix: Floats, tolerance: Tolerance) -> tuple[Floats, Floats, Floats, Floats, Integers, Integers]:
    """Equilibrated rows, their norms, the triangle of a basis, combinations of it, and two index sets.

    The combinations are the other rows; the index sets are the rows of the basis and the other rows.
    """
    equilibrated, norms = _equilibrate(matrix)
    triangle, order, rank = _factor_pivoted(equilibrated, tolerance)
    combinations = lapack.solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:], check_finite=False)
    return equilibrated, norms, triangle[:rank, :rank], combinations, order[:rank], order[rank:]


def dense_dependencies(matrix: Floats, tolerance: Tolerance) -> Iterator[tuple[Integers, Floats]]:
    """Rows and multipliers of combinations that cancel, one for each row outside a basis: they span all that cancel."""
    if not matrix.size:
        yield from ((np.array([row]), np.ones(1)) for row in range(len(matrix)))
        return
    equilibrated, norms = _equilibrate(matrix)
    triangle, order, rank = _factor_pivoted(equilibrated, tolerance)
    basis_rows, dependent_rows = order[:rank], order[rank:]
    combinations = lapack.solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:], check_finite=False)
    used = np.abs(combinations) > _rounding_bounds(combinations, tolerance, len(order))
    for k in range(len(dependent_rows)):
        rows = np.concatenate([basis_rows[used[:, k]], dependent_rows[k : k + 1]])
        yield rows, np.concatenate([-combinations[used[:, k], k], np.ones(1)]) / norms[rows]


def independent(matrix: Floats, tolerance: Tolerance) -> Integers:
    """Independent rows that span the others, in ascending order."""
    if not matrix.size:
        return np.zeros(0, np.int64)
    _, order, rank = _factor_pivoted(_equilibrate(matrix)[0], tolerance)
    return np.sort(order[:rank])


def _equilibrate(matrix: Floats) -> tuple[Floats, Floats]:
    norms = norms_of_rows(matrix)
    divisors = np.where(norms > 0, norms, 1.0)
    return matrix / divisors[:, None], divisors


def _factor_pivoted(equilibrated: Floats, tolerance: Tolerance) -> tuple[Floats, Integers, int]:
    """Triangle, order of the rows and rank of the transposed matrix."""
    triangle, order = lapack.qr(equilibrated.T, mode="r", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diagonal(triangle))
    return triangle, order, int((diagonal > tolerance.rank(*equilibrated.shape) * diagonal[0]).sum())


def _rounding_bounds(combinations: Floats, tolerance: Tolerance, rows: int) -> Floats:
    largest = np.abs(combinations).max(axis=0, initial=1.0)
    share = max(NEGLIGIBLE_SHARE, 4 * tolerance.rank(rows, len(combinations)))
    return np.asarray(share * largest, np.float64)
