"""Compute Euclidean norms of rows, by which they are equilibrated, even where their squares leave float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.language.calculus.terms import Floats, Integers

SMALLEST = 1e-140
"""Norms below this are computed again with scaling: their squares may have lost digits."""


def norms_of_rows(matrix: Floats) -> Floats:
    """The norm of every row (…, n) of a dense array, up to 1e140 (LARGEST), the largest number in a rule."""
    norms: Floats = np.asarray(np.sqrt(np.einsum("...n,...n->...", matrix, matrix)))
    if (small := norms < SMALLEST).any():
        rows = matrix[small]
        largest = np.abs(rows).max(axis=-1, initial=0.0)
        rows = rows / np.where(largest > 0, largest, 1.0)[:, None]
        norms[small] = largest * np.sqrt(np.einsum("rn,rn->r", rows, rows))
    return norms


def norms_of_runs(values: Floats, bounds: np.ndarray[Any, np.dtype[np.integer[Any]]]) -> Floats:
    """The norm of every run `values[bounds[i]:bounds[i+1]]`, such as a sparse row; zero for an empty run."""
    lengths: Integers = np.diff(bounds).astype(np.int64)
    largest, nonempty = np.zeros(len(lengths)), lengths > 0
    if nonempty.any():
        largest[nonempty] = np.maximum.reduceat(np.abs(values), bounds[:-1][nonempty])
    row = np.repeat(np.arange(len(lengths)), lengths)
    share = values / np.where(largest > 0, largest, 1.0)[row]
    norms: Floats = largest * np.sqrt(np.bincount(row, share * share, len(lengths)))
    return norms


__all__ = ["norms_of_rows", "norms_of_runs"]
