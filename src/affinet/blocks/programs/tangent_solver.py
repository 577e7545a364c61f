"""Project onto the tangent plane of a large component, and solve for the step back to it, by conjugate gradients.

The matrix `J Jᵀ` of all equations is singular where equations depend on each other. The tangent is a least-squares
problem in the multipliers, which exist all the same: `min |g − Jᵀ y|`. Its residual is the tangent itself, which is
computed from J at each iteration, so that rounding does not add up. The step back is `min |J d − c|`: c may have a part
that no step changes. Where J is a matrix whose Gram matrix has a factor of acceptable size, the factor speeds both up;
it may belong to another point nearby.

Source: CGLS (Å. Björck, Numerical Methods for Least Squares Problems, 1996, ch. 7); damping by K. Levenberg (1944).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from affinet.blocks.programs.linear_part import LinearPart, Matrix
from affinet.blocks.programs.row_products import length
from affinet.language.calculus.terms import Floats

EPSILON = 2.0**-52
ROUNDED = 4.0 * EPSILON
"""`|J h|` of rows of norm one that counts as zero, as a share of `|g|`."""
CLOSE = 1e-7
"""The same for a step: what remains across the plane is small against the step, and the return takes it away."""
ADDED = 1e-4
"""What the factor has on the diagonal in addition to squares of rows of norm one. With 1e-7, equations that depend on
each other at the factor's point and not at the next one make directions that iterations cannot resolve: none of 1,000
sufficed. With 1e-2, three times as many iterations are needed from the start."""
DAMPING = 1e-8
"""What is added to `J Jᵀ` in the step back with a factor: a part of c that no step changes is left where it is."""
ACCURACY = 1e-3
"""Share of `|Jᵀ c|` at which a step back ends. The next one starts from the new point, which is cheaper than digits of
this one: with 1e-1 and with 1e-6 returns take longer."""
LARGEST = 3e6
"""Largest multipliers of a unit gradient. Larger ones belong to combinations of equations that depend on each other,
whose derivatives are rounding: the dense road drops σ ratios below 3e-7 alike (`RANK` of `blocks/curved_set.py`)."""
PATIENCE = 50
"""Iterations without half the residual before conjugate gradients start anew from where they are."""
NEGLIGIBLE, FEW = 1e-12, 5
"""Share of `|g|` below which residuals are near rounding, and the iterations without half the residual after which they
are rounding where there is a factor: combinations of equations that depend on each other grow from then on."""
MOST = 5_000
"""Most iterations of one projection."""
MOST_BACK = 500
"""Most iterations of one step back."""


class GramFactor:
    """The factor of `J Jᵀ + ADDED` at one point."""

    def __init__(self, rows: sparse.csr_array) -> None:
        gram = rows @ rows.T + sparse.diags_array(np.full(rows.shape[0], ADDED))
        options = {"SymmetricMode": True}
        self._factor: Any = splu(gram.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)

    def solve(self, b: Floats) -> Floats:
        return np.asarray(self._factor.solve(b))


class NoFactor:
    """Rows of norm one are all that is known of J."""

    def solve(self, b: Floats) -> Floats:
        return b


def factored(part: LinearPart) -> GramFactor | NoFactor:
    """The factor at the point of a linear part whose derivatives are a matrix of finite numbers."""
    if not isinstance(part.derivatives, Matrix):
        return NoFactor()
    return GramFactor(part.derivatives.matrix)


def projected(part: LinearPart, g: Floats, factor: GramFactor | NoFactor, accuracy: float = ROUNDED) -> Floats:
    """`P g`: the nearest vector to g along which no equation changes, to `|J P g| ≤ accuracy · |g|`."""
    size, few = length(g), FEW if isinstance(factor, GramFactor) else PATIENCE
    goal, iterations = accuracy * size, 0
    h = nearest = g
    t = part.times(h)
    best = length(t)
    while best > goal and iterations < MOST:
        start, since = best, 0
        z = p = factor.solve(t)
        product = float(t @ z)
        while best > goal and iterations < MOST and since < (PATIENCE if best > NEGLIGIBLE * size else few):
            q = part.transposed(p)
            square = float(q @ q)
            if not product * length(p) < LARGEST * size * square:
                break
            h = h - (product / square) * q
            t = part.times(h)
            z = factor.solve(t)
            product, former = float(t @ z), product
            p = z + (product / former) * p
            remaining, iterations = length(t), iterations + 1
            since = 0 if remaining < 0.5 * best else since + 1
            if remaining < best:
                best, nearest = remaining, h
        if not NEGLIGIBLE * size < best < 0.5 * start:
            break
        h = nearest
        t = part.times(h)
    return nearest


def step_back(part: LinearPart, damping: float, factor: GramFactor | NoFactor) -> Floats:
    """The shortest d with the least `|J d − c|² + damping |d|²`, to `ACCURACY`."""
    return _by_factor(part, damping, factor) if isinstance(factor, GramFactor) else _by_squares(part, damping)


def _by_factor(part: LinearPart, damping: float, factor: GramFactor) -> Floats:
    """`d = Jᵀ y`, `(J Jᵀ + damping) y = c`."""
    damping = max(damping, DAMPING)
    r, y = part.values, np.zeros(len(part.values))
    z = factor.solve(r)
    p, product, goal = z, float(r @ z), ACCURACY * length(part.values)
    for _ in range(MOST_BACK):
        w = part.times(part.transposed(p)) + damping * p
        curvature = float(p @ w)
        if not curvature > 0.0:
            break
        y = y + (product / curvature) * p
        r = r - (product / curvature) * w
        if length(r) <= goal:
            break
        z = factor.solve(r)
        product, former = float(r @ z), product
        p = z + (product / former) * p
    return part.transposed(y)


def _by_squares(part: LinearPart, damping: float) -> Floats:
    r, t = part.values, part.transposed(part.values)
    d, s, square = np.zeros(len(t)), t, float(t @ t)
    goal = (ACCURACY * ACCURACY) * square
    for _ in range(MOST_BACK):
        if not square > goal:
            break
        q = part.times(s)
        curvature = float(q @ q) + damping * float(s @ s)
        if not curvature > 0.0:
            break
        d = d + (square / curvature) * s
        r = r - (square / curvature) * q
        t = part.transposed(r) - damping * d
        square, former = float(t @ t), square
        s = t + (square / former) * s
    return d
