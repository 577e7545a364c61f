"""Optima of constrained linear models by solvers that share nothing with affinet: quadprog, and cones by clarabel."""

from __future__ import annotations

from typing import Any

import clarabel
import numpy as np
import quadprog
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import nnls
from scipy.special import softmax

Array = NDArray[Any]


def least_squares(
    design: Array, y: Array, weights: Array, penalties: Array, A: Array, b: Array, G: Array, h: Array
) -> Array:
    """argmin ½ Σ weights (design z − y)² + ½ Σ penalties z² with A z = b and G z <= h; all columns and rows scaled."""
    hessian = design.T @ (weights[:, None] * design) + np.diag(penalties)
    scales = np.sqrt(np.diagonal(hessian))
    scaled, linear = hessian / scales / scales[:, None], design.T @ (weights * y) / scales
    rows = -np.concatenate([A, G]) / scales
    if not len(rows):
        return np.asarray(np.linalg.solve(scaled, linear) / scales)
    norms = np.linalg.norm(rows, axis=1)
    rhs = -np.concatenate([b, h]) / norms
    return np.asarray(quadprog.solve_qp(scaled, linear, (rows / norms[:, None]).T, rhs, len(b))[0] / scales)


def quadratic(design: Array, y: Array, A: Array, b: Array, G: Array, h: Array) -> tuple[Array, float]:
    """argmin ½ |design z − y|² with A z = b and G z <= h by clarabel, also where it is not unique; the largest gap."""
    kinds: list[Any] = [clarabel.ZeroConeT(len(b))] * bool(len(b)) + [clarabel.NonnegativeConeT(len(h))] * bool(len(h))
    if not kinds:
        return np.linalg.lstsq(design, y, rcond=None)[0], 0.0
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    P, matrix = np.triu(design.T @ design), np.concatenate([A, G])
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix(P), -(design.T @ y), sparse.csc_matrix(matrix), np.concatenate([b, h]), kinds, settings
    )
    solution = solver.solve()
    if str(solution.status) != "Solved":
        return np.zeros(len(P)), np.inf
    z = np.asarray(solution.x)
    return z, max(np.abs(A @ z - b).max(initial=0.0), (G @ z - h).max(initial=0.0))


def log_loss(
    design: Array, classes: Array, count: int, weights: Array, penalties: Array, A: Array, b: Array, G: Array, h: Array
) -> Array:
    """The coefficients of a logistic regression (1 or `count` rows) with A z = b and G z <= h, z flattened row-major.

    The variables are z, a t of each sample, and a u of each sample and class. With the scores m of the classes,
    t >= log Σ_k exp(m_k − m_own) says Σ_k u_k <= 1 and exp(m_k − m_own − t) <= u_k: exponential cones (·, 1, u_k).
    """
    samples, width = design.shape
    rows = 1 if count == 2 else count
    n, pairs = rows * width, samples * count
    scores = np.zeros((samples, count, n))
    for k in range(rows):
        scores[:, k + count - rows, k * width : (k + 1) * width] = design
    gaps = (scores - scores[np.arange(samples), classes][:, None]).reshape(pairs, n)
    t_of_pair = sparse.kron(sparse.eye_array(samples), np.ones((count, 1)))
    cones = sparse.block_array(
        [
            [sparse.csr_array(-gaps), t_of_pair, None],
            [sparse.csr_array((pairs, n)), None, sparse.csr_array((pairs, pairs))],
            [None, None, -sparse.eye_array(pairs)],
        ]
    ).tocsr()
    interleaved = np.arange(3 * pairs).reshape(3, -1).T.ravel()
    ones = np.repeat([0.0, 1.0, 0.0], pairs)
    sums = sparse.hstack([sparse.csr_array((samples, n + samples)), t_of_pair.T])
    rules = sparse.hstack(
        [sparse.csr_array(np.concatenate([A, G])), sparse.csr_array((len(b) + len(h), samples + pairs))]
    )
    matrix = sparse.vstack([rules, sums, cones[interleaved]]).tocsc()
    rhs = np.concatenate([b, h, np.ones(samples), ones[interleaved]])
    kinds: list[Any] = [clarabel.ZeroConeT(len(b))] if len(b) else []
    kinds += [clarabel.NonnegativeConeT(len(h) + samples), *[clarabel.ExponentialConeT()] * pairs]
    P = sparse.diags_array(np.concatenate([np.tile(penalties, rows), np.zeros(samples + pairs)])).tocsc()
    q = np.concatenate([np.zeros(n), weights, np.zeros(pairs)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    solution = clarabel.DefaultSolver(sparse.csc_matrix(P), q, sparse.csc_matrix(matrix), rhs, kinds, settings).solve()
    assert str(solution.status) in ("Solved", "AlmostSolved")
    return np.asarray(solution.x[:n]).reshape(rows, width)


def gradient(design: Array, classes: Array, weights: Array, penalties: Array, z: Array) -> Array:
    """The gradient of what `log_loss` minimizes, at coefficients (rows, features and intercept)."""
    scores = design @ z.T
    if len(z) == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    excess = softmax(scores, axis=1)
    excess[np.arange(len(scores)), classes] -= 1.0
    return np.asarray(((weights[:, None] * excess).T @ design)[-len(z) :] + penalties * z)


def distance_to_kkt(gradient: Array, z: Array, A: Array, b: Array, G: Array, h: Array) -> float:
    """How far -gradient is from the cone of the active rows: 0 at the optimum of a convex program, and only there."""
    active = G[G @ z.ravel() - h >= -1e-9 * (1.0 + np.abs(h))]
    if not len(A) + len(active):
        return float(np.linalg.norm(gradient))
    return float(nnls(np.concatenate([A, -A, active]).T, -gradient.ravel())[1])
