"""Rank of a large sparse system: peel equations that own a private unknown, factor what is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy import sparse

from affinet.language.terms import Floats, Integers
from affinet.structure.blocks import Interval
from affinet.structure.elimination.markowitz import sparse_basis
from affinet.structure.elimination.private import unpeeled
from affinet.system.tolerance import Tolerance

LARGEST_CORE = 4_000
LARGEST_CORE_NUMBERS = 2**27


@dataclass(frozen=True, eq=False)
class Independence:
    """`kept` are rows to solve with; `rank` their number, or bounds on it where the core was too large to factor."""

    kept: Integers
    rank: Interval
    consistent: bool
    ambiguous: int = 0

    @property
    def exact(self) -> bool:
        return self.rank.low == self.rank.high


def independent_rows(matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance) -> Independence:
    """Which equations of one component are independent, and whether the others can hold.

    Law: a row with an unknown that no other row has is independent of the rest and never contradicts it; peeled
    repeatedly, rank(matrix) = peeled + rank(core). The core, up to 4,000 rows, by QR with column pivoting; a larger one
    by elimination as long as it stays sparse. Beyond that the rank is bounded, not guessed, and the rows are all kept.
    """
    core = unpeeled(matrix)
    peeled = matrix.shape[0] - len(core)
    if not len(core):
        return Independence(np.arange(matrix.shape[0]), Interval(peeled, peeled), True)
    block = matrix[core]
    used = np.unique(block.indices)
    if len(core) <= LARGEST_CORE and len(core) * len(used) <= LARGEST_CORE_NUMBERS:
        dense = block[:, used].toarray()
        kept, consistent, ambiguous = _independent_dense(dense, rhs[core], terms[core], tolerance)
    else:
        found = sparse_basis(block, rhs[core], terms[core], tolerance)
        if found is None:
            bounds = Interval(peeled + 1, peeled + min(len(core), len(used)))
            return Independence(np.arange(matrix.shape[0]), bounds, True)
        kept, consistent, ambiguous = *found, 0
    rest = np.setdiff1d(np.arange(matrix.shape[0]), core, assume_unique=True)
    rank = peeled + len(kept)
    return Independence(np.sort(np.concatenate([rest, core[kept]])), Interval(rank, rank), consistent, ambiguous)


def _independent_dense(matrix: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance) -> tuple[Integers, bool, int]:
    upper, order = scipy.linalg.qr(matrix.T, mode="r", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diagonal(upper))
    bound = tolerance.rank(*matrix.shape) * diagonal[0]
    rank = int((diagonal > bound).sum())
    ambiguous = int(((diagonal > bound * 0.25) & (diagonal < bound * 1e2)).any())
    first, rest = order[:rank], order[rank:]
    combination = scipy.linalg.solve_triangular(
        upper[:rank, :rank], upper[:rank, rank : len(order)], check_finite=False
    )
    gap = np.abs(rhs[rest] - combination.T @ rhs[first])
    size = terms[rest] + np.abs(combination).T @ terms[first]
    return np.sort(first), bool((gap <= tolerance.consistency(len(order)) * size).all()), ambiguous
