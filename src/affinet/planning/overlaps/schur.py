"""Factor the Schur complement of extra equations: which are independent of the bases, and their tangent parts.

With P the tangent projector of the bases and B the extra equations, `S = B P Bᵀ` is the Schur complement of the normal
matrix of all equations. Its null vectors are combinations of extra equations that follow from the bases: they are
redundant or contradictory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from affinet.blocks.block import Base
from affinet.blocks.gram import AT_A_TIME, squared
from affinet.language.calculus.terms import Floats
from affinet.language.forecast import forecast
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.norms import norms_of_runs
from affinet.system.tolerance import Tolerance

SQUARED = 1e-3
"""Singular values below this share of the largest lose digits in S, which has their squares, and are computed again."""
RESOLVED = 1e-9
"""The smallest share of the largest singular value that is distinct from zero after that."""
DOUBTFUL = 100.0
"""Directions of up to this many times the bound and the condition number of the bases are compared with the rounding of
the bases: their tolerance depends on their own rows, which may be many more than the extra equations."""
GUARD = 8.0
"""Factor on the effect of a base's rounding on right-hand sides: the tolerance of contradictions over that of ranks."""


@dataclass(frozen=True, eq=False)
class Complement:
    """`S⁺ = factor @ factor.T`, factor (equations, rank); `consistent` says whether all equations can hold."""

    factor: Floats
    consistent: bool
    ambiguous: int


def complement(
    bases: Sequence[Base],
    matrix: sparse.csr_array,
    rhs: Floats,
    terms: Floats,
    tolerance: Tolerance,
    few_numbers: int,
) -> Complement:
    """The Schur complement of `matrix @ x == rhs`; the columns are the entries of the bases, then those of no base.

    Rows are equilibrated first. If the dense matrix over all entries has at most `few_numbers` numbers, singular values
    are those of `P Bᵀ` itself. `terms` are the magnitudes that right-hand sides were computed from. Source: Golub & Van
    Loan, 4th ed., 5.4.1 (rank by singular values), Boyd & Vandenberghe, Convex Optimization, C.4 (elimination).
    """
    equilibrated, norms = from_coefficients(_equilibrate, matrix)
    homogeneous = tuple(base.homogeneous() for base in bases)
    factor, independent, ambiguous = from_coefficients(
        _factor_complement, homogeneous, equilibrated, tolerance, few_numbers
    )
    consistent = independent or _holds(bases, equilibrated, factor, rhs / norms, terms / norms, tolerance)
    return Complement(factor / norms[:, None], consistent, ambiguous)


def _equilibrate(matrix: sparse.csr_array) -> tuple[sparse.csr_array, Floats]:
    """Rows divided by their norms, and the norms."""
    norms = norms_of_runs(matrix.data, matrix.indptr)
    return sparse.csr_array(sparse.diags_array(1.0 / norms) @ matrix), norms


def _factor_complement(
    bases: Sequence[Base], equilibrated: sparse.csr_array, tolerance: Tolerance, few_numbers: int
) -> tuple[Floats, bool, int]:
    """The factor of equilibrated equations, whether all are independent, and 1 if that is doubtful."""
    count, n = equilibrated.shape
    # An upper bound on the largest singular value of the rows, exact if they share no entry.
    largest = float(np.sqrt(np.abs(squared(equilibrated)).sum(axis=1).max()))
    bound = tolerance.rank(count, n) * largest
    if count * n <= few_numbers:
        directions, sizes = _find_directions(bases, equilibrated)
    else:
        directions, sizes = _find_directions_by_squares(bases, equilibrated, largest)
        bound = max(bound, RESOLVED * largest)
    significant = _select_significant(bases, equilibrated, directions, sizes, bound, tolerance)
    ambiguous = int(((sizes > 0.25 * bound) & (sizes < 1e2 * bound)).any())
    return directions[:, significant] / sizes[significant], bool(significant.all()), ambiguous


def _select_significant(
    bases: Sequence[Base],
    equilibrated: sparse.csr_array,
    directions: Floats,
    sizes: Floats,
    bound: float,
    tolerance: Tolerance,
) -> np.ndarray:
    """Which directions have sizes larger than rounding, that of the bases included."""
    significant = sizes > bound
    largest_condition = max((base.condition for base in bases), default=1.0)
    doubtful = (
        np.flatnonzero(significant & (sizes <= DOUBTFUL * largest_condition * bound)) if largest_condition > 1.0 else ()
    )
    step = max(1, AT_A_TIME // equilibrated.shape[1])
    for first in range(0, len(doubtful), step):
        chunk = doubtful[first : first + step]
        significant[chunk] = sizes[chunk] > bound + _bound_uncertainty(
            bases, np.asarray(equilibrated.T @ directions[:, chunk]).T, tolerance
        )
    return significant


def _bound_uncertainty(bases: Sequence[Base], vectors: Floats, tolerance: Tolerance) -> Floats:
    uncertainty, first = np.zeros(len(vectors)), 0
    for base in bases:
        last = first + base.entries.count
        uncertainty += base.unsure(vectors[:, first:last], tolerance)
        first = last
    return uncertainty


def _find_directions(bases: Sequence[Base], equilibrated: sparse.csr_array) -> tuple[Floats, Floats]:
    """Directions among the equations and the sizes of their tangent parts, by a factor of `B P`."""
    projected = _project(bases, equilibrated.toarray())
    compact = (
        projected
        if projected.shape[0] > projected.shape[1]
        else lapack.qr(projected.T, mode="r", check_finite=False)[0].T
    )
    directions, sizes, _ = lapack.svd(compact[:, : min(projected.shape)])
    return directions, np.concatenate([sizes, np.zeros(len(directions) - len(sizes))])


def _find_directions_by_squares(
    bases: Sequence[Base], equilibrated: sparse.csr_array, largest: float
) -> tuple[Floats, Floats]:
    """The same by S; directions of small size are projected twice more, so that only their own rounding remains."""
    squares, directions = lapack.eigh(_make_gram(bases, equilibrated))
    sizes = np.sqrt(np.maximum(squares, 0.0))
    small = np.flatnonzero(sizes < SQUARED * largest)
    if len(small):
        small_directions = directions[:, small]
        finer = np.zeros((len(small),) * 2)
        step = max(1, AT_A_TIME // equilibrated.shape[1])
        for first in range(0, len(small), step):
            projected = np.asarray(equilibrated.T @ small_directions[:, first : first + step]).T
            projected = _project(bases, _project(bases, projected))
            finer[:, first : first + step] = small_directions.T @ (equilibrated @ projected.T)
        squares, rotation = lapack.eigh((finer + finer.T) / 2.0)
        directions[:, small], sizes[small] = small_directions @ rotation, np.sqrt(np.maximum(squares, 0.0))
    return directions, sizes


def _make_gram(bases: Sequence[Base], equilibrated: sparse.csr_array) -> Floats:
    gram, first = np.zeros((equilibrated.shape[0],) * 2), 0
    for base in bases:
        last = first + base.entries.count
        coefficients = equilibrated[:, first:last]
        touching = np.flatnonzero(np.diff(coefficients.indptr))
        gram[np.ix_(touching, touching)] += base.gram(coefficients[touching])
        first = last
    return gram + squared(equilibrated[:, first:])


def _project(bases: Sequence[Base], vectors: Floats, *, affine: bool = False) -> Floats:
    pieces, first = [], 0
    for base in bases:
        last = first + base.entries.count
        pieces.append(base.projected(vectors[:, first:last], affine=affine))
        first = last
    return np.concatenate([*pieces, vectors[:, first:]], axis=1)


def _holds(
    bases: Sequence[Base],
    equilibrated: sparse.csr_array,
    factor: Floats,
    rhs: Floats,
    terms: Floats,
    tolerance: Tolerance,
) -> bool:
    """Whether the point that satisfies the bases and the independent equations satisfies the others too.

    The point is refined once, as projections are: directions by squares mix small sizes with zero sizes, by rounding
    over the square of the small size.
    """
    n = equilibrated.shape[1]
    forecast("a point on all rules, by which equations that follow from others are checked,", 4 * n)
    start = _project(bases, np.zeros((1, n)), affine=True)[0]
    move = np.zeros(n)
    for _ in range(2):
        step = equilibrated.T @ (factor @ (factor.T @ (rhs - equilibrated @ (start + move))))
        move = move + _project(bases, step[None])[0]
    gaps = np.abs(equilibrated @ (start + move) - rhs)
    # Rounding is relative to the terms of sums, which may cancel: in a row, and in the entries of the point itself.
    size = float((terms + abs(equilibrated) @ (np.abs(start) + np.abs(move))).max())
    size = max(size, float((np.abs(start) + np.abs(move)).max(initial=0.0)))
    bound = tolerance.consistency(n) * size
    length = float(np.linalg.norm(start + move))
    failing = np.flatnonzero(gaps > bound)
    step = max(1, AT_A_TIME // n)
    for chunk in (failing[first : first + step] for first in range(0, len(failing), step)):
        if (
            gaps[chunk] > bound + GUARD * length * _bound_uncertainty(bases, equilibrated[chunk].toarray(), tolerance)
        ).any():
            return False
    return True
