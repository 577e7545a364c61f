"""Compute the losses of linear models: values, gradients and curvature of squared errors and of log losses.

Coefficients are a matrix with a row for each target or class and a column for each column of the design, flattened
row-major. The design has a column of ones in the end where there is an intercept, which is not penalised. Hessians of
log losses are at most ¼ of `designᵀ weights design` for two classes, and ½ (I − 11ᵀ/k) ⊗ that for k.

Source: D. Böhning, Multinomial logistic regression algorithm, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit, log_softmax, softmax

from affinet.adapters.coefficient_programs import Curvature, curvature_of_hessian, curvature_of_root, repeated
from affinet.language.calculus.terms import Floats, Integers


@dataclass(frozen=True, eq=False)
class SquaredErrors:
    """`½ Σ_i weight_i |design_i Z − target_i|² + ½ Σ penalties Z²`; targets (samples, k)."""

    design: Floats
    targets: Floats
    weights: Floats
    penalties: Floats
    noise: Floats
    """The rounding of each column of the design, as a multiple of that of its norm."""
    quadratic = True

    def value(self, z: Floats) -> float:
        Z = z.reshape(-1, self.design.shape[1])
        gaps = self.design @ Z.T - self.targets
        return float(0.5 * (self.weights @ gaps**2).sum() + 0.5 * (self.penalties * Z**2).sum())

    def gradient(self, z: Floats) -> Floats:
        Z = z.reshape(-1, self.design.shape[1])
        gaps = self.design @ Z.T - self.targets
        return np.asarray((self.weights[:, None] * gaps).T @ self.design + self.penalties * Z).ravel()

    def curvature(self, z: Floats, damping: float = 0.0) -> Curvature:
        return repeated(self._curvature, self.targets.shape[1])

    @cached_property
    def _curvature(self) -> Curvature:
        penalised = np.flatnonzero(self.penalties)
        rows = np.zeros((len(penalised), self.design.shape[1]))
        rows[np.arange(len(penalised)), penalised] = np.sqrt(self.penalties[penalised])
        return curvature_of_root(np.concatenate([np.sqrt(self.weights)[:, None] * self.design, rows]), self.noise)


@dataclass(frozen=True, eq=False)
class BinaryLogLoss:
    """`Σ_i weight_i log(1 + exp(−sign_i design_i z)) + ½ Σ penalties z²`; signs ±1, +1 for the second class."""

    design: Floats
    signs: Floats
    weights: Floats
    penalties: Floats
    noise: Floats
    """The rounding of each column of the design, as a multiple of that of its norm."""
    quadratic = False

    def value(self, z: Floats) -> float:
        margins = self.signs * (self.design @ z)
        return float(self.weights @ np.logaddexp(0.0, -margins) + 0.5 * self.penalties @ z**2)

    def gradient(self, z: Floats) -> Floats:
        margins = self.signs * (self.design @ z)
        return np.asarray(self.penalties * z - (self.weights * self.signs * expit(-margins)) @ self.design)

    def curvature(self, z: Floats, damping: float = 0.0) -> Curvature:
        scores = self.design @ z
        shares = self.weights * (expit(scores) * expit(-scores) + 0.25 * damping)
        return curvature_of_hessian(
            self.design.T @ (shares[:, None] * self.design) + np.diag(self.penalties), self.noise
        )


@dataclass(frozen=True, eq=False)
class LogLoss:
    """`−Σ_i weight_i log softmax(design_i Zᵀ)[class_i] + ½ Σ penalties Z²`; classes are numbers 0 … count − 1."""

    design: Floats
    classes: Integers
    count: int
    weights: Floats
    penalties: Floats
    noise: Floats
    """The rounding of each column of the design, as a multiple of that of its norm."""
    quadratic = False

    def value(self, z: Floats) -> float:
        Z = z.reshape(self.count, -1)
        logarithms = log_softmax(self.design @ Z.T, axis=1)[np.arange(len(self.design)), self.classes]
        return float(-self.weights @ logarithms + 0.5 * (self.penalties * Z**2).sum())

    def gradient(self, z: Floats) -> Floats:
        Z = z.reshape(self.count, -1)
        gaps = softmax(self.design @ Z.T, axis=1)
        gaps[np.arange(len(self.design)), self.classes] -= 1.0
        return np.asarray((self.weights[:, None] * gaps).T @ self.design + self.penalties * Z).ravel()

    def curvature(self, z: Floats, damping: float = 0.0) -> Curvature:
        shares = softmax(self.design @ z.reshape(self.count, -1).T, axis=1)
        width = self.design.shape[1]
        hessian = np.zeros((self.count, width, self.count, width))
        for a in range(self.count):
            for b in range(a, self.count):
                bound = 0.5 * damping * ((a == b) - 1.0 / self.count)
                coefficients = self.weights * (shares[:, a] * ((a == b) - shares[:, b]) + bound)
                hessian[a, :, b] = self.design.T @ (coefficients[:, None] * self.design)
                hessian[b, :, a] = hessian[a, :, b].T
            hessian[a, :, a] += np.diag(self.penalties)
        return curvature_of_hessian(hessian.reshape(self.count * width, -1), np.tile(self.noise, self.count))
