"""The truth about bounds, simplices, order, lengths and orthonormal rows of the weight `w`, by known formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, isotonic_regression

from affinet.language.calculus.terms import Floats
from affinet.testing.truth import Arrays, Quadratic

ON_BOUNDARY = 1e-5
"""Vectors are on a sphere where their length is this near to the radius: float32 stores them to 1e-7."""


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """Formulas about each vector `w[k]` of the weight `w`, or about the matrix `w`; other weights are free.

    `nearest` takes w; `tangent` a vector and w; `optimum` the target and the curvature; `excess` gives violations and
    sizes of w, whose rounding may be `promise` spacings of the size, the column of docs/numerics.md.
    """

    rows: int
    nearest_of: Callable[[Floats], Floats]
    tangent_of: Callable[[Floats, Floats], Floats]
    optimum_of: Callable[[Floats, Floats], Floats]
    excess_of: Callable[[Floats], tuple[Floats, Floats]]
    promise: float
    by_vector: bool = True

    @property
    def condition(self) -> float:
        return 1.0

    def nearest(self, weights: Arrays) -> Arrays:
        """The nearest point of the set."""
        return {**weights, "w": self._each(self.nearest_of, weights["w"])}

    def tangent(self, vectors: Arrays, at: Arrays) -> Arrays:
        """The nearest vectors in the tangent cone at a point of the set."""
        return {**vectors, "w": self._each(self.tangent_of, vectors["w"], at["w"])}

    def optimum(self, quadratic: Quadratic) -> Arrays:
        """The minimum of a quadratic on the set."""
        target, curvature = quadratic.target, quadratic.curvature
        return {**target, "w": self._each(self.optimum_of, target["w"], curvature["w"])}

    def excess(self, weights: Arrays, sets: int) -> tuple[Floats, Floats]:
        """Violations, and how many units of that a spacing allows."""
        w = np.asarray(weights["w"], np.float64)
        parts = [self.excess_of(vector) for vector in w] if self.by_vector else [self.excess_of(w)]
        gaps = np.concatenate([np.ravel(gap) for gap, _ in parts])
        return gaps, self.promise * np.concatenate([np.ravel(size) for _, size in parts])

    def equal(self) -> tuple[tuple[int, int, float], ...]:
        return ()

    def _each(self, function: Callable[..., Floats], *arrays: np.ndarray) -> Floats:
        wide = [np.asarray(array, np.float64) for array in arrays]
        return (
            np.stack([function(*vectors) for vectors in zip(*wide, strict=True)]) if self.by_vector else function(*wide)
        )


def between_bounds(lower: float, upper: float) -> ClosedForm:
    """`lower <= w <= upper` in every entry; bounds that all dtypes can hold are support to the bit."""

    def tangent(v: Floats, w: Floats) -> Floats:
        return np.where(w == lower, np.maximum(v, 0.0), np.where(w == upper, np.minimum(v, 0.0), v))

    def excess(w: Floats) -> tuple[Floats, Floats]:
        return np.maximum(np.maximum(lower - w, w - upper), 0.0), np.zeros_like(w)

    def clipped(w: Floats, *_: Floats) -> Floats:
        return np.clip(w, lower, upper)

    return ClosedForm(2, clipped, tangent, clipped, excess, 0.0)


def simplex_of(total: float, entries: int) -> ClosedForm:
    """`w >= 0` with `Σ w = total`. Source: Held, Wolfe and Crowder, Math. Programming 6 (1974)."""

    def nearest(w: Floats) -> Floats:
        return lowered(w, np.ones_like(w), total, np.ones(len(w), bool))

    def tangent(v: Floats, w: Floats) -> Floats:
        return lowered(v, np.ones_like(v), 0.0, w == 0.0)

    def optimum(target: Floats, curvature: Floats) -> Floats:
        return lowered(target, curvature, total, np.ones(len(target), bool))

    def excess(w: Floats) -> tuple[Floats, Floats]:
        gaps = np.append(np.maximum(-w, 0.0), abs(w.sum() - total))
        return gaps, np.append(np.zeros_like(w), np.abs(w).sum() + total)

    return ClosedForm(entries + 1, nearest, tangent, optimum, excess, 4.0)


def lowered(target: Floats, curvature: Floats, total: float, bounded: np.ndarray) -> Floats:
    """The minimum of `½ Σ d (x − t)²` with `Σ x = total`, and `x >= 0` where `bounded`: `x = t − τ/d`, cut at zero.

    The sum falls as τ rises; it is linear between the numbers `d t` at which entries are cut.
    """
    cuts = np.where(bounded, target * curvature, np.inf)
    for lowest in np.unique(cuts)[::-1]:
        support = cuts >= lowest
        tau = (target[support].sum() - total) / (1.0 / curvature[support]).sum()
        cut = cuts[~support]
        if tau < lowest and (not len(cut) or tau >= cut.max()):
            return np.where(support, target - tau / curvature, 0.0)
    return np.zeros_like(target)  # where every entry is bounded and the total is zero


def nondecreasing(entries: int) -> ClosedForm:
    """`w[0] <= w[1] <= …`: isotonic regression, by SciPy. Equal neighbours are one block of the tangent cone."""

    def tangent(v: Floats, w: Floats) -> Floats:
        blocks = np.split(v, np.flatnonzero(np.diff(w) > 0.0) + 1)
        return np.concatenate([isotonic_regression(block).x for block in blocks])

    def excess(w: Floats) -> tuple[Floats, Floats]:
        return np.maximum(-np.diff(w), 0.0), np.zeros(entries - 1)

    return ClosedForm(
        entries - 1,
        lambda w: isotonic_regression(w).x,
        tangent,
        lambda target, curvature: isotonic_regression(target, weights=curvature).x,
        excess,
        0.0,
    )


def ball_of(radius: float) -> ClosedForm:
    """`‖w‖ <= radius`: scaling, and for quadratics the secular equation `‖(D + λ)⁻¹ D t‖ = radius`, λ >= 0."""

    def nearest(w: Floats) -> Floats:
        return w * min(1.0, radius / float(np.linalg.norm(w)))

    def tangent(v: Floats, w: Floats) -> Floats:
        inside = np.linalg.norm(w) < radius * (1.0 - ON_BOUNDARY)
        return v if inside else v - max(0.0, float(v @ w)) / float(w @ w) * w

    def optimum(target: Floats, curvature: Floats) -> Floats:
        return target if np.linalg.norm(target) <= radius else _on_sphere(target, curvature, radius, 0.0)

    def excess(w: Floats) -> tuple[Floats, Floats]:
        length = np.linalg.norm(w.astype(np.longdouble))
        return np.array([max(float(length) - radius, 0.0)]), np.array([float(length) + radius])

    return ClosedForm(1, nearest, tangent, optimum, excess, 4.0)


def orthogonal_half_spaces(normals: Floats, bounds: Floats) -> ClosedForm:
    """`normals @ w <= bounds` with normals at right angles to each other, so that each half-space is met on its own.

    Quadratics have one curvature: their optimum is the nearest point to the target.
    """
    squares = (normals**2).sum(axis=1)

    def nearest(w: Floats, *_: Floats) -> Floats:
        return np.asarray(w - np.maximum(normals @ w - bounds, 0.0) / squares @ normals)

    def tangent(v: Floats, w: Floats) -> Floats:
        active = normals @ w >= bounds - ON_BOUNDARY
        return np.asarray(v - np.where(active, np.maximum(normals @ v, 0.0), 0.0) / squares @ normals)

    def excess(w: Floats) -> tuple[Floats, Floats]:
        size = np.abs(normals) @ np.abs(w) + np.abs(bounds) + np.sqrt(squares) * np.linalg.norm(w)
        return np.maximum(normals @ w - bounds, 0.0), size

    return ClosedForm(len(bounds), nearest, tangent, nearest, excess, 2.0)


def sphere() -> ClosedForm:
    """`‖w‖ = 1`: scaling, and the same secular equation with `λ > −min d` (Gander, Golub and von Matt, 1989).

    Rounding allows `8 u (Σ|terms| + Σ|∂c/∂w| |w|)`, which is 4 spacings of `3 Σ w² + 1`.
    """

    def tangent(v: Floats, w: Floats) -> Floats:
        return v - float(v @ w) / float(w @ w) * w

    def optimum(target: Floats, curvature: Floats) -> Floats:
        return _on_sphere(target, curvature, 1.0, -float(curvature.min()))

    def excess(w: Floats) -> tuple[Floats, Floats]:
        square = float(w @ w)
        return np.array([abs(square - 1.0)]), np.array([3.0 * square + 1.0])

    return ClosedForm(1, lambda w: w / np.linalg.norm(w), tangent, optimum, excess, 4.0)


def orthonormal_rows(rows: int) -> ClosedForm:
    """`w wᵀ = 1`: the polar factor, which is the optimum of a quadratic of one curvature (Schönemann, 1966).

    Vectors lose `S w` with `S` the symmetric part of `v wᵀ`.
    """

    def polar(w: Floats, *_: Floats) -> Floats:
        u, vt = np.linalg.svd(w, full_matrices=False)[::2]
        return np.asarray(u @ vt)

    def tangent(v: Floats, w: Floats) -> Floats:
        product = v @ w.T
        return v - 0.5 * (product + product.T) @ w

    def excess(w: Floats) -> tuple[Floats, Floats]:
        return np.abs(w @ w.T - np.eye(rows)), 3.0 * np.abs(w) @ np.abs(w).T + np.eye(rows)

    return ClosedForm(rows * (rows + 1) // 2, polar, tangent, polar, excess, 4.0, by_vector=False)


def _on_sphere(target: Floats, curvature: Floats, radius: float, above: float) -> Floats:
    """`x = (D + λ)⁻¹ D t` of length `radius` with `λ > above`, where the length falls as λ rises."""
    pulled = curvature * target

    def longer(shift: float) -> float:
        return float(np.linalg.norm(pulled / (curvature + above + shift))) - radius

    first, last = 1e-12, float(np.linalg.norm(pulled)) / radius + abs(above) + 1.0
    shift = brentq(longer, first, last, xtol=1e-15, rtol=4.0 * float(np.finfo(np.float64).eps))
    return np.asarray(pulled / (curvature + above + shift))
