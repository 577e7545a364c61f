"""Prove that equations too large to factor cannot hold, by the residual of their least-squares solution."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsqr

from affinet.language.calculus.terms import Floats
from affinet.system.tolerance import Tolerance

MOST_SWEEPS = 2_000
MOST_SWEPT = 300_000_000
"""Coefficients read in all sweeps together: about two seconds on one core."""
CANCELLED = 1e-9
"""Entries of a sum count as zero at or below this share of the largest sum of magnitudes."""


def refuted(matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance) -> bool:
    """Whether a combination of the rows says `0 == gap`; False also if the search ended before it found one.

    Law (Farkas): `y = b − A x` of the least-squares x has `yᵀA = 0`, and `yᵀb = ‖y‖²` is zero exactly if the rows can
    hold. Both are checked for the computed y, however far the iteration came. `terms` are the magnitudes behind the
    right-hand sides. Source: LSQR (Paige & Saunders, ACM TOMS 1982).
    """
    sweeps = min(MOST_SWEEPS, MOST_SWEPT // max(1, matrix.nnz))
    residual = rhs - matrix @ lsqr(matrix, rhs, atol=1e-14, btol=1e-14, iter_lim=sweeps)[0]
    size = np.abs(residual)
    count = int(np.count_nonzero(size > CANCELLED * size.max(initial=0.0)))
    if not np.abs(residual @ rhs) > tolerance.consistency(count) * (size @ terms):
        return False
    cancelled, summed = np.abs(matrix.T @ residual), abs(matrix).T @ size
    return bool(cancelled.max() <= max(CANCELLED, tolerance.rank(*matrix.shape)) * summed.max())
