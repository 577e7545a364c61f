"""Circuits among dense equations: what every equation off a basis of the rows is a combination of."""

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
"""Multiplications: a matrix whose factor costs more is left alone (2,000 × 2,000 takes about four seconds)."""
MOST_TRIED = 16
MOST_REFINED = 512
"""So many multipliers are solved for anew without the others: what was left out of them was not quite zero."""
LEAST = 1e-10
"""Multipliers at or below this share of the largest are rounding."""


def affordable(rows: int, columns: int) -> bool:
    """Whether a dense factor of that many rows and columns is made in seconds."""
    return rows * columns <= MOST_NUMBERS and rows * columns * min(rows, columns) <= MOST_WORK


def dense_circuits(
    matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance
) -> Iterator[tuple[Integers, Floats]]:
    """Rows and multipliers of contradictions, those of the fewest rows first; nothing where all rows can hold.

    Law: with a basis of the rows, each other row has one combination of the basis that it is equal to, and these
    combinations span all that cancel; so that if any contradicts, one of them does, and it is irreducible.
    Source: QR with column pivoting (Golub & Van Loan, 4th ed., 5.4.2).
    """
    if not matrix.size:
        wrong = np.flatnonzero(np.abs(rhs) > tolerance.consistency(8) * terms)
        yield from ((row[None], np.ones(1)) for row in wrong[:MOST_TRIED])
        return
    even, safe, upper, mixed, first, rest = from_coefficients(_combined, matrix, tolerance)
    rhs, terms = rhs / safe, terms / safe
    if not len(rest):
        return
    gap, size, own = mismatch(even, rhs, terms, upper, mixed, first, rest)
    wrong = np.flatnonzero(gap > tolerance.consistency(8) * size + tolerance.factored(8) * own)
    used = np.abs(mixed) > _negligible(mixed, tolerance, len(matrix))
    # Of as many rows the clearest contradiction first.
    by_length = np.lexsort((-(gap / np.where(size > 0, size, 1.0))[wrong], used[:, wrong].sum(axis=0)))
    for k in wrong[by_length[:MOST_TRIED]]:
        chosen = first[used[:, k]]
        weights = mixed[used[:, k], k]
        if 0 < len(chosen) <= MOST_REFINED:
            weights = lapack.lstsq(even[chosen].T, even[rest[k]], rcond=None)[0]
        rows = np.concatenate([chosen, rest[k : k + 1]])
        yield rows, np.concatenate([-weights, [1.0]]) / safe[rows]


def _combined(matrix: Floats, tolerance: Tolerance) -> tuple[Floats, Floats, Floats, Floats, Integers, Integers]:
    """Equilibrated rows and the norms; the triangle of a basis of them, combinations of it that the others are, both.

    The last two are the rows of the basis and the other rows.
    """
    even, safe = _even(matrix)
    upper, order, rank = _pivoted(even, tolerance)
    mixed = lapack.solve_triangular(upper[:rank, :rank], upper[:rank, rank:], check_finite=False)
    return even, safe, upper[:rank, :rank], mixed, order[:rank], order[rank:]


def dense_dependencies(matrix: Floats, tolerance: Tolerance) -> Iterator[tuple[Integers, Floats]]:
    """Rows and multipliers of the combinations that cancel, one for each row off a basis: they span all."""
    if not matrix.size:
        yield from ((np.array([row]), np.ones(1)) for row in range(len(matrix)))
        return
    even, safe = _even(matrix)
    upper, order, rank = _pivoted(even, tolerance)
    first, rest = order[:rank], order[rank:]
    mixed = lapack.solve_triangular(upper[:rank, :rank], upper[:rank, rank:], check_finite=False)
    used = np.abs(mixed) > _negligible(mixed, tolerance, len(order))
    for k in range(len(rest)):
        rows = np.concatenate([first[used[:, k]], rest[k : k + 1]])
        yield rows, np.concatenate([-mixed[used[:, k], k], np.ones(1)]) / safe[rows]


def independent(matrix: Floats, tolerance: Tolerance) -> Integers:
    """Rows, rising, that are independent and span the others."""
    if not matrix.size:
        return np.zeros(0, np.int64)
    _, order, rank = _pivoted(_even(matrix)[0], tolerance)
    return np.sort(order[:rank])


def _even(matrix: Floats) -> tuple[Floats, Floats]:
    norms = norms_of_rows(matrix)
    safe = np.where(norms > 0, norms, 1.0)
    return matrix / safe[:, None], safe


def _pivoted(even: Floats, tolerance: Tolerance) -> tuple[Floats, Integers, int]:
    """Triangle, order of the rows and rank of the transposed matrix."""
    upper, order = lapack.qr(even.T, mode="r", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diagonal(upper))
    return upper, order, int((diagonal > tolerance.rank(*even.shape) * diagonal[0]).sum())


def _negligible(mixed: Floats, tolerance: Tolerance, rows: int) -> Floats:
    largest = np.abs(mixed).max(axis=0, initial=1.0)
    share = max(LEAST, 4 * tolerance.rank(rows, len(mixed)))
    return np.asarray(share * largest, np.float64)
