"""Multiply rows with vectors, by a function that the caller provides for large dense rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from affinet.language.calculus.terms import Floats

Rows = Any
"""Rows (m, n): a dense array, or a csr_array."""


class Multiply(Protocol):
    """How large dense rows are multiplied: two of the operations of `affinet.blocks.namespace.Namespace`."""

    def product(self, matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        """`matrix @ x`."""

    def descend(self, rows: np.ndarray, u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`y = x − rowsᵀ u` and `rows y`."""


@dataclass(frozen=True, eq=False)
class RowProducts:
    """Products of rows (m, n) with vectors of entries and with multipliers of rows."""

    rows: Rows
    multiply: Multiply

    def times(self, x: Floats) -> Floats:
        """`rows @ x`."""
        return np.asarray(self.rows @ x) if sparse.issparse(self.rows) else self.multiply.product(self.rows, x)

    def combined(self, u: Floats) -> Floats:
        """`rows.T @ u`."""
        return np.asarray(self.rows.T @ u) if sparse.issparse(self.rows) else self.multiply.product(self.rows.T, u)

    def descend(self, u: Floats, x: Floats) -> tuple[Floats, Floats]:
        """`y = x − rows.T @ u` and `rows @ y`."""
        if not sparse.issparse(self.rows):
            return self.multiply.descend(self.rows, u, x)
        y = x - self.rows.T @ u
        return y, np.asarray(self.rows @ y)


def length(x: Floats) -> float:
    """The Euclidean norm of a vector, without the threads of BLAS, which contend with those of an array library."""
    return float(np.sqrt(np.einsum("i,i->", x, x)))
