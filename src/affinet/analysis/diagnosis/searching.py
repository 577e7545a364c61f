"""One circuit among equations: of a single one, of ties, else of what is left when all that is private is peeled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsqr

from affinet.analysis.diagnosis.circuit import Circuit, certified
from affinet.analysis.diagnosis.cycles import contradictory_cycle
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.combinations import affordable, dense_circuits
from affinet.planning.elimination.markowitz import sparse_circuits
from affinet.planning.elimination.private import unpeeled
from affinet.system.distinct import ranked
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

SMALL_CORE = 250_000
"""Numbers of a core that is factored as it is: rounding is least without any elimination before."""
DENSE = 4
"""One number in so many fills a matrix: elimination would fill the rest."""
MOST_SWEEPS = 20_000
MOST_SWEPT = 10**9
"""Least squares of a core that is too large to factor: iterations, and multiplications in all of them (two seconds)."""


# Numbers beyond float64 end in no certificate, which is said by what is returned.
@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def find_circuit(rows: Rows, tolerance: Tolerance) -> Circuit | None:
    """Rows that contradict each other, and any fewer of them do not; None where none are found beyond rounding.

    A core too large to factor is projected on what cancels it instead, and the circuit says that it is not minimal.
    """
    empty = np.flatnonzero((rows.lengths == 0) & (np.abs(rows.rhs) > tolerance.consistency(8) * rows.magnitude))
    if len(empty):
        return certified(rows, empty[:1], np.ones(1), tolerance)
    columns, local = ranked(rows.columns)
    found, kept = contradictory_cycle(rows, local, len(columns), tolerance)
    if found is not None:
        return found
    left = kept[core(rows.select(kept))]
    if not len(left):
        return None
    even, said, terms, norms = evened(rows, left)
    for chosen, weights in _circuits(even, said, terms, tolerance):
        found = certified(rows, left[chosen], weights / norms[chosen], tolerance)
        if found is not None:
            return found
    return _projected(rows, left, even, said, norms, tolerance)


def evened(rows: Rows, left: Integers) -> tuple[sparse.csr_array, Floats, Floats, Floats]:
    """Some rows by their norms over the columns they use: matrix, right-hand sides, magnitudes of these, norms."""
    some = rows.select(left)
    norms = norms_of_runs(some.values, some.bounds)
    used, places = ranked(some.columns)
    values = some.values / np.repeat(norms, some.lengths)
    even = sparse.csr_array((values, places, some.bounds), shape=(some.count, len(used)))
    return even, some.rhs / norms, some.magnitude / norms, norms


def core(rows: Rows) -> Integers:
    """The rows that a contradiction may need: those that stay when all that own a private entry are peeled."""
    some = np.flatnonzero(rows.lengths > 0)
    columns, local = ranked(rows.columns)
    matrix = sparse.csr_array((rows.values, local, rows.bounds), shape=(rows.count, len(columns)))
    return some[unpeeled(matrix[some])] if len(some) < rows.count else unpeeled(matrix)


def _circuits(
    even: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance
) -> Iterator[tuple[Integers, Floats]]:
    numbers = even.shape[0] * even.shape[1]
    if numbers <= SMALL_CORE or (DENSE * even.nnz >= numbers and affordable(*even.shape)):
        yield from dense_circuits(even.toarray(), rhs, terms, tolerance)
    else:
        yield from sparse_circuits(even, rhs, terms, tolerance)


def _projected(
    rows: Rows, left: Integers, even: sparse.csr_array, rhs: Floats, norms: Floats, tolerance: Tolerance
) -> Circuit | None:
    """All rows that the residual of least squares weighs: a certificate, and mostly more rows than are needed."""
    solution = lsqr(even, rhs, atol=1e-14, btol=1e-14, iter_lim=min(MOST_SWEEPS, MOST_SWEPT // even.nnz))[0]
    residual = rhs - even @ solution
    used = np.flatnonzero(np.abs(residual) > 1e-9 * np.abs(residual).max(initial=0.0))
    weights = residual[used] / norms[used]
    return certified(rows, left[used], weights, tolerance, minimal=False)
