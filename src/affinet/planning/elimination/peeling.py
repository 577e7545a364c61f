"""Find the rank of a large sparse system: peel equations that have a private unknown, and factor the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import structural_rank

from affinet.blocks.interval import Interval
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.markowitz import sparse_basis
from affinet.planning.elimination.private import unpeeled
from affinet.planning.elimination.residual import refuted
from affinet.planning.factors.agreement import mismatch
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.limits import Limits
from affinet.system.tolerance import Tolerance

LARGEST_MATCHED = 2**22
"""Largest number of coefficients of a core whose rows are matched with unknowns, to bound its rank from above."""
SET_ASIDE = 8
"""One row in this many is set aside at a time, to bound the rank of a core from below."""


@dataclass(frozen=True, eq=False)
class Independence:
    """`rows` are the rows to solve with; `rank` is their rank, or bounds on it if the core was too large to factor."""

    rows: Integers
    rank: Interval
    consistent: bool
    ambiguous: int = 0

    @property
    def exact(self) -> bool:
        """Whether the rows are independent."""
        return self.rank.low == self.rank.high == len(self.rows)


def independent_rows(
    matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance, limits: Limits
) -> Independence:
    """Independent equations of one component, and whether the others can hold.

    Law: a row with a private unknown is independent of the others and never contradicts them; if such rows are peeled
    repeatedly, rank(matrix) = peeled + rank(core). A small core (`limits`) is factored by QR with column pivoting, a
    larger one by elimination as long as it stays sparse. Beyond that all rows are returned and the rank is bounded. The
    lower bound counts rows that peel once others are set aside. The upper bound is the structural rank: rows that can
    be matched with different unknowns. Least squares decide whether such a core can hold; they prove a contradiction if
    they converge.
    """
    core = from_coefficients(unpeeled, matrix)
    peeled = matrix.shape[0] - len(core)
    if not len(core):
        return Independence(np.arange(matrix.shape[0]), Interval(peeled, peeled), True)
    equations, unknowns = from_coefficients(_select_equations, matrix, core)
    if len(core) <= limits.largest_core and len(core) * len(unknowns) <= limits.largest_core_numbers:
        dense = from_coefficients(_make_dense, equations, unknowns)
        independent, consistent, ambiguous = _find_independent_dense(dense, rhs[core], terms[core], tolerance)
    else:
        basis = sparse_basis(equations, rhs[core], terms[core], tolerance, limits.most_eliminated)
        if basis is None:
            low, high = (
                from_coefficients(_bound_below, equations),
                from_coefficients(_bound_above, equations, len(unknowns)),
            )
            bounds = Interval(peeled + low, peeled + high)
            can_hold = not refuted(equations, rhs[core], terms[core], tolerance)
            return Independence(np.arange(matrix.shape[0]), bounds, can_hold)
        independent, consistent, ambiguous = *basis, 0
    peeled_rows = np.setdiff1d(np.arange(matrix.shape[0]), core, assume_unique=True)
    rank = peeled + len(independent)
    return Independence(
        np.sort(np.concatenate([peeled_rows, core[independent]])), Interval(rank, rank), consistent, ambiguous
    )


def _select_equations(matrix: sparse.csr_array, core: Integers) -> tuple[sparse.csr_array, Integers]:
    """The equations of the core, and their unknowns."""
    equations = matrix[core]
    return equations, np.unique(equations.indices)


def _make_dense(equations: sparse.csr_array, unknowns: Integers) -> Floats:
    dense: Floats = equations[:, unknowns].toarray()
    return dense


def _bound_below(core: sparse.csr_array) -> int:
    """Number of rows that peel when others are set aside, the longest first: these rows are independent.

    Each has an unknown that none of the rows peeled after it has, so that together they are triangular.
    """
    rows, peeled = np.argsort(np.diff(core.indptr), kind="stable"), 0
    while len(rows):
        rows = rows[: len(rows) - max(1, len(rows) // SET_ASIDE)]
        remaining = unpeeled(core[rows]) if len(rows) else rows
        peeled += int(len(rows) - len(remaining))
        rows = rows[remaining]
    return max(1, peeled)


def _bound_above(core: sparse.csr_array, unknowns: int) -> int:
    bound = min(int(core.shape[0]), unknowns)
    return min(bound, int(structural_rank(sparse.csr_matrix(core)))) if core.nnz <= LARGEST_MATCHED else bound


def _find_independent_dense(
    matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance
) -> tuple[Integers, bool, int]:
    triangle, combination, basis_rows, dependent_rows, ambiguous = from_coefficients(_factor_pivoted, matrix, tolerance)
    gaps, sizes, solution_norm = mismatch(matrix, rhs, terms, triangle, combination, basis_rows, dependent_rows)
    bound = tolerance.consistency(len(matrix)) * sizes + tolerance.factored(len(matrix)) * solution_norm
    return np.sort(basis_rows), bool((gaps <= bound).all()), ambiguous


def _factor_pivoted(matrix: Floats, tolerance: Tolerance) -> tuple[Floats, Floats, Integers, Integers, int]:
    """The triangle of independent rows, the other rows as combinations of these, both index sets, and 1 if ambiguous.

    The rank is ambiguous if it was decided close to the tolerance.
    """
    triangle, order = lapack.qr(matrix.T, mode="r", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diagonal(triangle))
    bound = tolerance.rank(*matrix.shape) * diagonal[0]
    rank = int((diagonal > bound).sum())
    ambiguous = int(((diagonal > bound * 0.25) & (diagonal < bound * 1e2)).any())
    combination = lapack.solve_triangular(
        triangle[:rank, :rank], triangle[:rank, rank : len(order)], check_finite=False
    )
    return triangle[:rank, :rank], combination, order[:rank], order[rank:], ambiguous
