"""The Schur complement of a few equations on bases: which of them add anything, and how far they are moved along.

With P the tangent projector of the bases, `S = B P Bᵀ` is the Schur complement of the normal matrix of all equations
together. Its null vectors are the combinations of the equations that follow from the bases: redundant or contradictory.
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
"""Singular values below this share of the largest lose digits in S, which holds their squares; they are found anew."""
RESOLVED = 1e-9
"""The smallest share of the largest singular value that can be told from zero then."""
NEAR = 100.0
"""Directions up to so many times the bound and the condition number of the bases are looked at closely: the tolerance
of a base goes by its own rows, which may be many more than the equations on top."""
GUARD = 8.0
"""On what rounding of a base makes of right-hand sides: as the tolerance of contradictions to that of ranks."""


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
    """The Schur complement of `matrix @ x == rhs`, whose columns are the entries of the bases and then loose ones.

    Rows are equilibrated first. Up to `few_numbers` numbers, written out over all entries, singular values are those of
    `P Bᵀ` itself. `terms` are the magnitudes that right-hand sides were computed from. Source: Golub &
    Van Loan, 4th ed., 5.4.1 (rank by singular values), Boyd & Vandenberghe, Convex Optimization, C.4 (elimination).
    """
    even, norms = from_coefficients(_equilibrated, matrix)
    bare = tuple(base.homogeneous() for base in bases)
    factor, whole, ambiguous = from_coefficients(_factor, bare, even, tolerance, few_numbers)
    consistent = whole or _holds(bases, even, factor, rhs / norms, terms / norms, tolerance)
    return Complement(factor / norms[:, None], consistent, ambiguous)


def _equilibrated(matrix: sparse.csr_array) -> tuple[sparse.csr_array, Floats]:
    """Rows divided by their norms, and the norms."""
    norms = norms_of_runs(matrix.data, matrix.indptr)
    return sparse.csr_array(sparse.diags_array(1.0 / norms) @ matrix), norms


def _factor(
    bases: Sequence[Base], even: sparse.csr_array, tolerance: Tolerance, few_numbers: int
) -> tuple[Floats, bool, int]:
    """The factor of equilibrated equations, whether none of them follows from others; one where that is doubtful."""
    k, n = even.shape
    # At least the largest singular value of the rows, and exactly that where they share no entry.
    largest = float(np.sqrt(np.abs(squared(even)).sum(axis=1).max()))
    bound = tolerance.rank(k, n) * largest
    if k * n <= few_numbers:
        directions, sizes = _in_full(bases, even)
    else:
        directions, sizes = _squared(bases, even, largest)
        bound = max(bound, RESOLVED * largest)
    kept = _beyond(bases, even, directions, sizes, bound, tolerance)
    ambiguous = int(((sizes > 0.25 * bound) & (sizes < 1e2 * bound)).any())
    return directions[:, kept] / sizes[kept], bool(kept.all()), ambiguous


def _beyond(
    bases: Sequence[Base], even: sparse.csr_array, directions: Floats, sizes: Floats, bound: float, tolerance: Tolerance
) -> np.ndarray:
    """Which directions have a size that rounding cannot have made, that of the bases included."""
    kept = sizes > bound
    most = max((base.condition for base in bases), default=1.0)
    near = np.flatnonzero(kept & (sizes <= NEAR * most * bound)) if most > 1.0 else ()
    step = max(1, AT_A_TIME // even.shape[1])
    for first in range(0, len(near), step):
        some = near[first : first + step]
        kept[some] = sizes[some] > bound + _unsure(bases, np.asarray(even.T @ directions[:, some]).T, tolerance)
    return kept


def _unsure(bases: Sequence[Base], vectors: Floats, tolerance: Tolerance) -> Floats:
    off, first = np.zeros(len(vectors)), 0
    for base in bases:
        last = first + base.entries.count
        off += base.unsure(vectors[:, first:last], tolerance)
        first = last
    return off


def _in_full(bases: Sequence[Base], even: sparse.csr_array) -> tuple[Floats, Floats]:
    """Directions among the equations and the sizes of their tangent parts, by the factors of `B P`."""
    part = _on_bases(bases, even.toarray())
    small = part if part.shape[0] > part.shape[1] else lapack.qr(part.T, mode="r", check_finite=False)[0].T
    directions, sizes, _ = lapack.svd(small[:, : min(part.shape)])
    return directions, np.concatenate([sizes, np.zeros(len(directions) - len(sizes))])


def _squared(bases: Sequence[Base], even: sparse.csr_array, largest: float) -> tuple[Floats, Floats]:
    """The same from S; directions of small size are projected twice more, which leaves their own rounding alone."""
    squares, directions = lapack.eigh(_gram(bases, even))
    sizes = np.sqrt(np.maximum(squares, 0.0))
    small = np.flatnonzero(sizes < SQUARED * largest)
    if len(small):
        own = directions[:, small]
        finer = np.zeros((len(small),) * 2)
        step = max(1, AT_A_TIME // even.shape[1])
        for first in range(0, len(small), step):
            part = np.asarray(even.T @ own[:, first : first + step]).T
            part = _on_bases(bases, _on_bases(bases, part))
            finer[:, first : first + step] = own.T @ (even @ part.T)
        squares, turned = lapack.eigh((finer + finer.T) / 2.0)
        directions[:, small], sizes[small] = own @ turned, np.sqrt(np.maximum(squares, 0.0))
    return directions, sizes


def _gram(bases: Sequence[Base], even: sparse.csr_array) -> Floats:
    found, first = np.zeros((even.shape[0],) * 2), 0
    for base in bases:
        last = first + base.entries.count
        own = even[:, first:last]
        touching = np.flatnonzero(np.diff(own.indptr))
        found[np.ix_(touching, touching)] += base.gram(own[touching])
        first = last
    return found + squared(even[:, first:])


def _on_bases(bases: Sequence[Base], vectors: Floats, *, affine: bool = False) -> Floats:
    pieces, first = [], 0
    for base in bases:
        last = first + base.entries.count
        pieces.append(base.projected(vectors[:, first:last], affine=affine))
        first = last
    return np.concatenate([*pieces, vectors[:, first:]], axis=1)


def _holds(
    bases: Sequence[Base], even: sparse.csr_array, factor: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance
) -> bool:
    """Whether the point that satisfies the bases and the equations that count satisfies the others too.

    The point is refined once, as projections are: directions from the squares are those of small and of no size mixed,
    by the rounding over the square of the small one.
    """
    n = even.shape[1]
    forecast("a point on all rules, by which equations that follow from others are checked,", 4 * n)
    start = _on_bases(bases, np.zeros((1, n)), affine=True)[0]
    move = np.zeros(n)
    for _ in range(2):
        step = even.T @ (factor @ (factor.T @ (rhs - even @ (start + move))))
        move = move + _on_bases(bases, step[None])[0]
    gap = np.abs(even @ (start + move) - rhs)
    # Rounding is relative to what was added up, which may cancel: in a row, and in the entries of the point itself.
    size = float((terms + abs(even) @ (np.abs(start) + np.abs(move))).max())
    size = max(size, float((np.abs(start) + np.abs(move)).max(initial=0.0)))
    bound = tolerance.consistency(n) * size
    length = float(np.linalg.norm(start + move))
    off = np.flatnonzero(gap > bound)
    step = max(1, AT_A_TIME // n)
    for some in (off[first : first + step] for first in range(0, len(off), step)):
        if (gap[some] > bound + GUARD * length * _unsure(bases, even[some].toarray(), tolerance)).any():
            return False
    return True
