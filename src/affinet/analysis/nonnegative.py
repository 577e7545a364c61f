"""Solve least squares with nonnegative unknowns."""

from __future__ import annotations

import numpy as np

from affinet.language.calculus.terms import Floats
from affinet.system import lapack

ROUNDING = 1e-13
"""Share of the target's norm below which a gradient along a column of length one is zero."""


def nonnegative(matrix: Floats, target: Floats) -> Floats:
    """`x >= 0` with smallest `|matrix x − target|`; columns of zeros get 0, and at most rank-many numbers are not 0.

    Source: C. L. Lawson, R. J. Hanson, Solving Least Squares Problems (1974), chapter 23, with columns of length one.
    Not SciPy's: from 1.15 on it may return another point without a word (its issue 25389) or abort the process (1.17).
    """
    lengths = np.linalg.norm(matrix, axis=0)
    nonzero = np.flatnonzero(lengths > 0.0)
    scaled, x = matrix[:, nonzero] / lengths[nonzero], np.zeros(len(nonzero))
    size = float(np.linalg.norm(target))
    chosen = np.zeros(len(nonzero), bool)
    rejected = np.zeros(len(nonzero), bool)
    for _ in range(10 * (len(nonzero) + 1)):
        gradient = np.where(chosen | rejected, 0.0, scaled.T @ (target - scaled @ x))
        if not len(gradient) or gradient.max() <= ROUNDING * size:
            break
        entering = int(gradient.argmax())
        trial = chosen.copy()
        trial[entering] = True
        z = _least_squares(scaled, target, trial)
        if z[entering] <= 0.0:  # rounding alone made its gradient positive
            rejected[entering] = True
            continue
        rejected[:] = False
        while (z[trial] <= 0.0).any():
            falling = np.flatnonzero(trial & (z <= 0.0))
            shares = x[falling] / (x[falling] - z[falling])
            x += shares.min() * (z - x)
            trial[falling[shares == shares.min()]] = False
            x[~trial] = 0.0
            z = _least_squares(scaled, target, trial)
        chosen, x = trial, z
    solution = np.zeros(matrix.shape[1])
    solution[nonzero] = x / lengths[nonzero]
    return solution


def _least_squares(matrix: Floats, target: Floats, chosen: np.ndarray) -> Floats:
    x = np.zeros(matrix.shape[1])
    if chosen.any():
        x[chosen] = lapack.lstsq(matrix[:, chosen], target, rcond=None)[0]
    return x
