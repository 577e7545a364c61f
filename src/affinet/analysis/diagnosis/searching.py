"""Find one circuit among equations: a single equation, a cycle of ties, or rows of the core that peeling leaves."""

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
"""A core of up to this many numbers is factored directly: without elimination rounding is least."""
DENSE = 4
"""A matrix with one nonzero in this many numbers counts as dense: elimination would fill the zeros."""
MOST_SWEEPS = 20_000
MOST_SWEPT = 10**9
"""Bounds for least squares on a core too large to factor: iterations, and multiplications in total (two seconds)."""


# Numbers beyond float64 yield no certificate, and None is returned.
@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def find_circuit(rows: Rows, tolerance: Tolerance) -> Circuit | None:
    """An irreducible set of contradictory rows; None where no contradiction is found beyond rounding.

    A core too large to factor goes through least squares instead, and its circuit has `minimal=False`.
    """
    empty = np.flatnonzero((rows.lengths == 0) & (np.abs(rows.rhs) > tolerance.consistency(8) * rows.magnitude))
    if len(empty):
        return certified(rows, empty[:1], np.ones(1), tolerance)
    columns, local = ranked(rows.columns)
    circuit, needed = contradictory_cycle(rows, local, len(columns), tolerance)
    if circuit is not None:
        return circuit
    core_rows = needed[core(rows.select(needed))]
    if not len(core_rows):
        return None
    equilibrated, rhs, terms, norms = equilibrated_core(rows, core_rows)
    for chosen, weights in _find_circuits(equilibrated, rhs, terms, tolerance):
        circuit = certified(rows, core_rows[chosen], weights / norms[chosen], tolerance)
        if circuit is not None:
            return circuit
    return _solve_least_squares(rows, core_rows, equilibrated, rhs, norms, tolerance)


def equilibrated_core(rows: Rows, numbers: Integers) -> tuple[sparse.csr_array, Floats, Floats, Floats]:
    """The numbered rows, each divided by its norm: matrix over used columns, right-hand sides, magnitudes, norms."""
    selected = rows.select(numbers)
    norms = norms_of_runs(selected.values, selected.bounds)
    used, places = ranked(selected.columns)
    values = selected.values / np.repeat(norms, selected.lengths)
    matrix = sparse.csr_array((values, places, selected.bounds), shape=(selected.count, len(used)))
    return matrix, selected.rhs / norms, selected.magnitude / norms, norms


def core(rows: Rows) -> Integers:
    """The rows that a contradiction may need: those that remain when all rows with a private entry are peeled."""
    nonempty = np.flatnonzero(rows.lengths > 0)
    columns, local = ranked(rows.columns)
    matrix = sparse.csr_array((rows.values, local, rows.bounds), shape=(rows.count, len(columns)))
    return nonempty[unpeeled(matrix[nonempty])] if len(nonempty) < rows.count else unpeeled(matrix)


def _find_circuits(
    equilibrated: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance
) -> Iterator[tuple[Integers, Floats]]:
    numbers = equilibrated.shape[0] * equilibrated.shape[1]
    if numbers <= SMALL_CORE or (DENSE * equilibrated.nnz >= numbers and affordable(*equilibrated.shape)):
        yield from dense_circuits(equilibrated.toarray(), rhs, terms, tolerance)
    else:
        yield from sparse_circuits(equilibrated, rhs, terms, tolerance)


def _solve_least_squares(
    rows: Rows, core_rows: Integers, equilibrated: sparse.csr_array, rhs: Floats, norms: Floats, tolerance: Tolerance
) -> Circuit | None:
    """A circuit of all rows with a residual in least squares; it mostly has more rows than are needed."""
    solution = lsqr(
        equilibrated, rhs, atol=1e-14, btol=1e-14, iter_lim=min(MOST_SWEEPS, MOST_SWEPT // equilibrated.nnz)
    )[0]
    residual = rhs - equilibrated @ solution
    used = np.flatnonzero(np.abs(residual) > 1e-9 * np.abs(residual).max(initial=0.0))
    weights = residual[used] / norms[used]
    return certified(rows, core_rows[used], weights, tolerance, minimal=False)
