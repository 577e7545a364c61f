"""Compute the smallest and the largest curvature of a function along a tangent space, from Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from affinet.analysis.tangent_space import TangentSpace
from affinet.language.calculus.terms import Floats
from affinet.system import lapack

WRITTEN_OUT = 256
"""Up to this many entries the reduced Hessian is written out, one product per direction; beyond, Lanczos is used."""
LANCZOS_TOLERANCE = 1e-6
"""Residual at which an eigenvalue of Lanczos is accepted, as a share of the spread of the curvatures."""
ROUGH = 1e-3
"""The same for the largest curvature, which only has to be known roughly."""
LANCZOS_RESTARTS = 100
"""Most restarts of a Lanczos iteration, each of some twenty products."""
ROUNDINGS = 32.0
"""Roundoffs of a product of the Hessian, per square root of its entries, within which a curvature counts as zero."""

Products = Callable[[Floats], Floats]
"""A Hessian times a vector (size,)."""


@dataclass(frozen=True, eq=False)
class Curvature:
    """The extreme eigenvalues of a Hessian on a space, the unit vector of the smallest, and the rounding of both.

    `found` is False where Lanczos did not converge: the smallest value is then an upper bound.
    """

    smallest: float
    largest: float
    direction: Floats
    rounding: float
    converged: bool = True


def curvature_along(hessian: Products, space: TangentSpace, unit_roundoff: float) -> Curvature | None:
    """The curvatures of `½ vᵀ H v` over unit vectors v of the space; None in a space of no dimension.

    Source: Lanczos, implicitly restarted (ARPACK; Lehoucq, Sorensen, Yang 1998), on `P (H − s) P` with s above all
    curvatures, so that the directions outside the space, whose eigenvalue is zero, are the largest.
    """
    if space.free == 0 or space.size == 0:
        return None
    measured = _Measured(hessian)
    if space.size <= WRITTEN_OUT:
        return _written_out(measured, space, unit_roundoff)
    return _by_lanczos(measured, space, unit_roundoff)


class _Measured:
    """A Hessian that remembers the largest factor by which it stretched a vector."""

    def __init__(self, hessian: Products) -> None:
        self._hessian = hessian
        self.largest = 0.0

    def __call__(self, vector: Floats) -> Floats:
        product, length = self._hessian(vector), float(np.linalg.norm(vector))
        if length > 0.0:
            self.largest = max(self.largest, float(np.linalg.norm(product)) / length)
        return product

    def rounding(self, size: int, unit_roundoff: float) -> float:
        """The size of a curvature that rounding of the products alone can make."""
        return ROUNDINGS * unit_roundoff * float(np.sqrt(size)) * self.largest


def _written_out(hessian: _Measured, space: TangentSpace, unit_roundoff: float) -> Curvature | None:
    projector = np.stack([space.project(unit) for unit in np.eye(space.size)])
    values, vectors = lapack.eigh(0.5 * (projector + projector.T))
    basis = vectors[:, values > 0.5]
    if not basis.shape[1]:
        return None
    reduced = basis.T @ np.stack([hessian(column) for column in basis.T], axis=1)
    curvatures, directions = lapack.eigh(0.5 * (reduced + reduced.T))
    rounding = hessian.rounding(space.size, unit_roundoff)
    return Curvature(float(curvatures[0]), float(curvatures[-1]), basis @ directions[:, 0], rounding)


def _by_lanczos(hessian: _Measured, space: TangentSpace, unit_roundoff: float) -> Curvature:
    def tangent_part(vector: Floats) -> Floats:
        tangent = space.project(vector.ravel())
        return space.project(hessian(tangent))

    start = space.project(np.random.default_rng(0).standard_normal(space.size))
    largest, _, _ = _extreme(tangent_part, start, "LA", ROUGH)
    if not hessian.largest:
        return Curvature(0.0, 0.0, start / float(np.linalg.norm(start)), 0.0)
    shift = max(largest, 0.0) + 0.1 * hessian.largest

    def shifted(vector: Floats) -> Floats:
        tangent = space.project(vector.ravel())
        return space.project(hessian(tangent)) - shift * tangent

    value, direction, converged = _extreme(shifted, start, "SA", LANCZOS_TOLERANCE)
    direction = space.project(direction)
    length = float(np.linalg.norm(direction)) or 1.0
    smallest = value + shift
    rounding = hessian.rounding(space.size, unit_roundoff) + LANCZOS_TOLERANCE * abs(value)
    return Curvature(smallest, max(largest, smallest), direction / length, rounding, converged)


def _extreme(operator: Products, start: Floats, end: str, tolerance: float) -> tuple[float, Floats, bool]:
    """An extreme eigenvalue of a symmetric operator and its vector; the best estimate where Lanczos does not end."""
    matrix = LinearOperator((len(start), len(start)), matvec=operator, dtype=np.float64)
    try:
        values, vectors = eigsh(matrix, k=1, which=end, v0=start, tol=tolerance, maxiter=LANCZOS_RESTARTS)
    except ArpackNoConvergence:
        quotient = float(start @ operator(start)) / max(float(start @ start), np.finfo(np.float64).tiny)
        return quotient, start, False
    return float(values[0]), vectors[:, 0], True
