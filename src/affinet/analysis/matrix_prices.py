"""The price of a bound on the spectrum of a matrix, and what it leaves of a gradient."""

from __future__ import annotations

import numpy as np

from affinet.language.calculus.terms import Floats
from affinet.language.sense import Spectrum
from affinet.system import lapack


def price_matrix(norm: Spectrum, w: Floats, g: Floats, radius: float, spread: float) -> tuple[float, Floats]:
    """`∂f*/∂bound` at a matrix laid end to end, and the residual of its gradient, laid out likewise.

    At a bound on singular values, the gradient is `−U Y Vᵀ` with a positive semidefinite Y over the singular vectors at
    it; at the boundary of the cone of positive semidefinite matrices it is `V Y Vᵀ` over the eigenvectors of zero. The
    price is minus the trace of Y. `spread` times the size of the matrix is within rounding of a bound.
    """
    matrix, slope = w.reshape(norm.rows, norm.columns), g.reshape(norm.rows, norm.columns)
    rounding = spread * (float(np.linalg.norm(matrix)) + radius)
    if norm.kind == "spectral":
        u, s, vt = lapack.svd(matrix, full_matrices=False)
        at = np.abs(s - radius) <= rounding
        left, right, sign = u[:, at], vt[at].T, -1.0
    else:
        matrix, slope = 0.5 * (matrix + matrix.T), 0.5 * (slope + slope.T)
        e, q = lapack.eigh(matrix)
        left = right = q[:, np.abs(e) <= rounding]
        sign = 1.0
    factors = left.T @ slope @ right
    y, r = lapack.eigh(0.5 * sign * (factors + factors.T))
    y = np.maximum(y, 0.0)
    return -float(y.sum()), (slope - sign * ((left @ r) * y) @ (right @ r).T).ravel()
