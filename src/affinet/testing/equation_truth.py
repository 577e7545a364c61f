"""The truth about linear equations: dense rows, read off from residuals written in NumPy, and a pseudo-inverse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt

import numpy as np

from affinet.language.calculus.terms import Floats
from affinet.testing.truth import Arrays, Case, Quadratic

Residuals = Callable[[Arrays], list[np.ndarray]]
"""The left side minus the right side of each rule, at float64 weights."""


def equations(case: Case) -> tuple[Floats, Floats]:
    """`A` (rows, entries) and `b` (rows,) of the linear equations of a case, dense and in float64, for any library.

    The columns stand for the weights in the order of `case.shapes`, each row by row, the weights in no rule included.
    Rows may follow from others. Raises NotImplementedError for a case with other rules.
    """
    if isinstance(case.truth, LinearEquations):
        return case.truth.A.copy(), case.truth.b.copy()
    raise NotImplementedError(f"case {case.name!r} has {case.kind}, and not only linear equations.")


@dataclass(frozen=True, eq=False)
class LinearEquations:
    """`A w = b` with dense rows, all weights laid end to end.

    Column j of A is the residual at the j-th unit vector less that at zero, so that no other reader of rules is needed.
    """

    shapes: Mapping[str, tuple[int, ...]]
    residuals: Residuals

    @cached_property
    def b(self) -> Floats:
        """The right-hand sides."""
        return -self._residual(np.zeros(self._size))

    @cached_property
    def A(self) -> Floats:
        """The coefficients, (rows, entries)."""
        return np.stack([self._residual(unit) + self.b for unit in np.eye(self._size)], axis=1)

    @property
    def rows(self) -> int:
        return len(self.b)

    @cached_property
    def condition(self) -> float:
        """The largest over the smallest singular value that is not rounding, of rows of norm one."""
        sizes = np.linalg.svd(self._even[0], compute_uv=False)
        nonzero = sizes[sizes > 1e-12 * sizes[0]]
        return float(nonzero[0] / nonzero[-1])

    def nearest(self, weights: Arrays) -> Arrays:
        """`w − A⁺ (A w − b)`."""
        even, rhs = self._even
        w = self.flat(weights)
        return self._by_name(w - self._inverse @ (even @ w - rhs))

    def tangent(self, vectors: Arrays, at: Arrays) -> Arrays:
        """`v − A⁺ A v`, the same at all points."""
        v = self.flat(vectors)
        return self._by_name(v - self._inverse @ (self._even[0] @ v))

    def optimum(self, quadratic: Quadratic) -> Arrays:
        """`t − D⁻¹Aᵀ y` with `A D⁻¹ Aᵀ y = A t − b`, the conditions of Karush, Kuhn and Tucker."""
        even, rhs = self._even
        target, weighted = self.flat(quadratic.target), even / self.flat(quadratic.curvature)
        y = np.linalg.pinv(weighted @ even.T, rcond=1e-12, hermitian=True) @ (even @ target - rhs)
        return self._by_name(target - weighted.T @ y)

    def multipliers(self, gradients: Arrays) -> list[Floats]:
        """ν of each rule, with `Aᵀν` nearest to the gradients; rows have to be independent."""
        nu = np.linalg.lstsq(self.A.T, self.flat(gradients), rcond=None)[0]
        ends = np.cumsum([part.size for part in self._parts(np.zeros(self._size))])
        return np.split(nu, ends[:-1])

    def excess(self, weights: Arrays, sets: int) -> tuple[Floats, Floats]:
        """`|A w − b|`, and `sets (1 + √m)(1 + √n) / 2` times `Σ|a_j w_j| + |b| + ‖a‖·‖w‖` (docs/numerics.md).

        Sums are added in NumPy's long double, so that their own rounding does not count.
        """
        ruled = (self.A != 0.0).any(axis=0)
        A, b, w = (x.astype(np.longdouble) for x in (self.A[:, ruled], self.b, self.flat(weights)[ruled]))
        norms = np.linalg.norm(self.A, axis=1) * np.linalg.norm(self.flat(weights)[ruled])
        size = np.abs(A) @ np.abs(w) + np.abs(b) + norms
        roundings = sets * (1.0 + sqrt(self.rows)) * (1.0 + sqrt(int(ruled.sum()))) / 2.0
        return np.abs(A @ w - b).astype(np.float64), (roundings * size).astype(np.float64)

    def equal(self) -> tuple[tuple[int, int, float], ...]:
        """The pairs of rows with two coefficients of one magnitude, and zero on the right."""
        pairs = []
        for row, rhs in zip(self.A, self.b, strict=True):
            places = np.flatnonzero(row)
            if len(places) == 2 and rhs == 0.0 and abs(row[places[0]]) == abs(row[places[1]]):
                first, second = (int(place) for place in places)
                pairs.append((first, second, -1.0 if row[first] == row[second] else 1.0))
        return tuple(pairs)

    def flat(self, arrays: Arrays) -> Floats:
        """All weights end to end in float64."""
        return np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in self.shapes])

    @cached_property
    def _even(self) -> tuple[Floats, Floats]:
        """The equations divided by the norms of their rows."""
        norms: Floats = np.linalg.norm(self.A, axis=1).astype(np.float64)
        norms[norms == 0.0] = 1.0  # an entry that equals itself
        return self.A / norms[:, None], self.b / norms

    @cached_property
    def _inverse(self) -> Floats:
        return np.asarray(np.linalg.pinv(self._even[0], rcond=1e-12), np.float64)

    @property
    def _size(self) -> int:
        return sum(prod(shape) for shape in self.shapes.values())

    def _residual(self, flat: Floats) -> Floats:
        return np.concatenate([part.ravel() for part in self._parts(flat)])

    def _parts(self, flat: Floats) -> list[np.ndarray]:
        return [np.asarray(part) for part in self.residuals(self._by_name(flat))]

    def _by_name(self, flat: Floats) -> Arrays:
        ends = np.cumsum([prod(shape) for shape in self.shapes.values()])
        parts = np.split(flat, ends[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
