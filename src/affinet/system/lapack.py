"""Call LAPACK: the only place from which planning and kernels get dense factors.

NumPy computes singular values by divide and conquer, which does not converge for some matrices on some processors; QR
iteration is used then. Tests round the inputs and outputs of these functions at random (`tests/rounding.py`), since
another processor adds in another order. Calls of LAPACK elsewhere would escape these tests, so the linter refuses them.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.linalg import LinAlgError, cholesky, eigh, eigvalsh, lstsq, pinv, solve
from numpy.linalg import qr as batched_qr
from scipy.linalg import null_space, qr, solve_triangular

from affinet.language.calculus.terms import Floats

__all__ = [
    "batched_qr",
    "cholesky",
    "eigh",
    "eigvalsh",
    "lstsq",
    "null_space",
    "pinv",
    "qr",
    "singular_values",
    "solve",
    "solve_triangular",
    "svd",
]


def svd(matrix: Floats, *, full_matrices: bool = True) -> tuple[Floats, Floats, Floats]:
    """`matrix = u @ diag(s) @ vt` of one matrix (r, n) or a batch (…, r, n), s descending.

    Without `full_matrices` u and vt have min(r, n) columns and rows. Source: Golub & Van Loan, 4th ed., 8.6.
    """
    try:
        return np.linalg.svd(matrix, full_matrices=full_matrices)
    except LinAlgError:
        many = matrix.reshape(-1, *matrix.shape[-2:])
        factors = [scipy.linalg.svd(single, full_matrices=full_matrices, lapack_driver="gesvd") for single in many]
        u, s, vt = (np.stack(parts) for parts in zip(*factors, strict=True))
        return tuple(part.reshape(*matrix.shape[:-2], *part.shape[1:]) for part in (u, s, vt))  # type: ignore[return-value]


def singular_values(matrix: Floats) -> Floats:
    """Singular values of one matrix or a batch, descending."""
    try:
        return np.asarray(np.linalg.svd(matrix, compute_uv=False))
    except LinAlgError:
        return svd(matrix, full_matrices=False)[1]
