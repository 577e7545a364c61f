"""Whether equations that are too many to factor cannot hold: the residual of their least squares proves it."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsqr

from affinet.language.calculus.terms import Floats
from affinet.system.tolerance import Tolerance

MOST_SWEEPS = 2_000
MOST_SWEPT = 300_000_000
"""Coefficients that are gone over in all: about two seconds on one core."""
CANCELLED = 1e-9
"""What is left of the entries counts as nothing at or below this share of the most that was added up for one."""


def refuted(matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance) -> bool:
    """Whether a combination of the rows says `0 == gap`; False also where none was found in the time there is.

    Law (Farkas): `y = b − A x` of the least-squares x has `yᵀA = 0`, and `yᵀb = ‖y‖²` is zero exactly if the rows can
    hold. Both are checked of the y that was found, whatever was iterated. `terms` is what each right-hand side is made
    of. Source: LSQR (Paige & Saunders, ACM TOMS 1982).
    """
    sweeps = min(MOST_SWEEPS, MOST_SWEPT // max(1, matrix.nnz))
    residual = rhs - matrix @ lsqr(matrix, rhs, atol=1e-14, btol=1e-14, iter_lim=sweeps)[0]
    size = np.abs(residual)
    used = int(np.count_nonzero(size > CANCELLED * size.max(initial=0.0)))
    if not np.abs(residual @ rhs) > tolerance.consistency(used) * (size @ terms):
        return False
    left, whole = np.abs(matrix.T @ residual), abs(matrix).T @ size
    return bool(left.max() <= max(CANCELLED, tolerance.rank(*matrix.shape)) * whole.max())
