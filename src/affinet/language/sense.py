"""The ways in which the two sides of a rule compare: the sense of an equation or inequality, and the norm of a ball."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

Sense: TypeAlias = Literal["==", "<=", ">="]
"""`left == right`, `left <= right` or `left >= right`."""


class Spectrum(NamedTuple):
    """A measure of matrices (rows, columns) that are laid end to end, entry after entry.

    "spectral" is the largest singular value. "negative" is how far a square matrix is from positive semidefinite: minus
    its least eigenvalue, or the largest difference from its transpose if that is more. It is negative inside the cone.
    """

    kind: Literal["spectral", "negative"]
    rows: int
    columns: int


Norm: TypeAlias = Literal[1, 2] | Spectrum
"""The sum of magnitudes, the Euclidean length, or a measure of a matrix."""


def lengths(x: np.ndarray, norm: Norm) -> np.ndarray:
    """The norms of the vectors along the last axis; nan where an entry is not finite."""
    if not isinstance(norm, Spectrum):
        return np.asarray(np.abs(x).sum(axis=-1) if norm == 1 else np.linalg.norm(x, axis=-1))
    finite = np.isfinite(x).all(axis=-1)
    matrices = np.where(finite[..., None], x, 0.0).reshape(*x.shape[:-1], norm.rows, norm.columns)
    if norm.kind == "spectral":
        measured = np.linalg.svd(matrices, compute_uv=False).max(axis=-1, initial=0.0)
    else:
        turned = matrices.swapaxes(-1, -2)
        skew = np.abs(matrices - turned).max(axis=(-1, -2), initial=0.0)
        below = -np.linalg.eigvalsh(0.5 * (matrices + turned)).min(axis=-1, initial=np.inf)
        measured = np.where(skew > 0.0, np.maximum(below, skew), below)
    return np.asarray(np.where(finite, measured, np.nan))


def unbounded(sense: Sense) -> float:
    """The right side with which a rule of this sense states nothing: inf for `<=`, -inf for `>=`; nan for `==`."""
    return {"==": math.nan, "<=": math.inf, ">=": -math.inf}[sense]
