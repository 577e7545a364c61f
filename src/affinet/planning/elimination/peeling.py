"""Rank of a large sparse system: peel equations that own a private unknown, factor what is left."""

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
"""Coefficients of a core of which rows are matched with unknowns of their own, to bound its rank from above."""
SET_ASIDE = 8
"""One row in so many is set aside at a time, to bound the rank of a core from below."""


@dataclass(frozen=True, eq=False)
class Independence:
    """`kept` are rows to solve with; `rank` their number, or bounds on it where the core was too large to factor."""

    kept: Integers
    rank: Interval
    consistent: bool
    ambiguous: int = 0

    @property
    def exact(self) -> bool:
        """Whether the rows that are kept are independent."""
        return self.rank.low == self.rank.high == len(self.kept)


def independent_rows(
    matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance, limits: Limits
) -> Independence:
    """Which equations of one component are independent, and whether the others can hold.

    Law: a row with an unknown that no other row has is independent of the rest and never contradicts it; peeled
    repeatedly, rank(matrix) = peeled + rank(core). A small core (`limits`) by QR with column pivoting; a larger one
    by elimination as long as it stays sparse. Beyond that the rank is bounded, not guessed, and the rows are all kept:
    from below by the rows that peel off once others are set aside, from above by how many can be matched with an
    unknown of their own (the structural rank). Whether such a core can hold is asked of its least squares, which proves
    a contradiction where they converge.
    """
    core = from_coefficients(unpeeled, matrix)
    peeled = matrix.shape[0] - len(core)
    if not len(core):
        return Independence(np.arange(matrix.shape[0]), Interval(peeled, peeled), True)
    block, used = from_coefficients(_block, matrix, core)
    if len(core) <= limits.largest_core and len(core) * len(used) <= limits.largest_core_numbers:
        dense = from_coefficients(_dense, block, used)
        kept, consistent, ambiguous = _independent_dense(dense, rhs[core], terms[core], tolerance)
    else:
        found = sparse_basis(block, rhs[core], terms[core], tolerance, limits.most_eliminated)
        if found is None:
            low, high = from_coefficients(_at_least, block), from_coefficients(_at_most, block, len(used))
            bounds = Interval(peeled + low, peeled + high)
            can_hold = not refuted(block, rhs[core], terms[core], tolerance)
            return Independence(np.arange(matrix.shape[0]), bounds, can_hold)
        kept, consistent, ambiguous = *found, 0
    rest = np.setdiff1d(np.arange(matrix.shape[0]), core, assume_unique=True)
    rank = peeled + len(kept)
    return Independence(np.sort(np.concatenate([rest, core[kept]])), Interval(rank, rank), consistent, ambiguous)


def _block(matrix: sparse.csr_array, core: Integers) -> tuple[sparse.csr_array, Integers]:
    """The core's equations, and the unknowns in them."""
    block = matrix[core]
    return block, np.unique(block.indices)


def _dense(block: sparse.csr_array, used: Integers) -> Floats:
    dense: Floats = block[:, used].toarray()
    return dense


def _at_least(core: sparse.csr_array) -> int:
    """Rows that peel off a core when others are set aside, the longest first: these rows are independent.

    Each owned an unknown that none of those peeled after it has, so that they are triangular.
    """
    rows, peeled = np.argsort(np.diff(core.indptr), kind="stable"), 0
    while len(rows):
        rows = rows[: len(rows) - max(1, len(rows) // SET_ASIDE)]
        left = unpeeled(core[rows]) if len(rows) else rows
        peeled += int(len(rows) - len(left))
        rows = rows[left]
    return max(1, peeled)


def _at_most(core: sparse.csr_array, unknowns: int) -> int:
    most = min(int(core.shape[0]), unknowns)
    return min(most, int(structural_rank(sparse.csr_matrix(core)))) if core.nnz <= LARGEST_MATCHED else most


def _independent_dense(matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance) -> tuple[Integers, bool, int]:
    upper, combination, first, rest, ambiguous = from_coefficients(_pivoted, matrix, tolerance)
    gap, size, own = mismatch(matrix, rhs, terms, upper, combination, first, rest)
    bound = tolerance.consistency(len(matrix)) * size + tolerance.factored(len(matrix)) * own
    return np.sort(first), bool((gap <= bound).all()), ambiguous


def _pivoted(matrix: Floats, tolerance: Tolerance) -> tuple[Floats, Floats, Integers, Integers, int]:
    """Independent rows and the others, the triangle of the first, and what combinations of them the others are.

    The last number is one where the rank was decided close to the tolerance.
    """
    upper, order = lapack.qr(matrix.T, mode="r", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diagonal(upper))
    bound = tolerance.rank(*matrix.shape) * diagonal[0]
    rank = int((diagonal > bound).sum())
    ambiguous = int(((diagonal > bound * 0.25) & (diagonal < bound * 1e2)).any())
    combination = lapack.solve_triangular(upper[:rank, :rank], upper[:rank, rank : len(order)], check_finite=False)
    return upper[:rank, :rank], combination, order[:rank], order[rank:], ambiguous
