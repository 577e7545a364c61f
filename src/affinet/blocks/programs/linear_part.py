"""The equations of a large component and their derivatives at one point, rows scaled to norm one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from affinet.blocks.programs.equation_program import EquationProgram
from affinet.blocks.programs.written_derivatives import WrittenDerivatives
from affinet.language.calculus.terms import Floats


class Derivatives(Protocol):
    """Products with the matrix of derivatives J."""

    def times(self, d: Floats) -> Floats:
        """`J d`."""

    def transposed(self, y: Floats) -> Floats:
        """`Jᵀ y`."""

    def dense(self) -> Floats:
        """J itself."""


@dataclass(frozen=True, eq=False)
class LinearPart:
    """`c(x)` and `J(x)`, both divided by the norms of the rows of J.

    `limits` are the sizes of the terms of each equation and of its derivatives times the entries, divided alike. Where
    derivatives are not written out, norms and limits are sums over the ways in which an equation reads an entry.
    """

    values: Floats
    limits: Floats
    norms: Floats
    derivatives: Derivatives

    def excess(self, roundoff: float) -> float:
        """The largest violation in units of `roundoff` times its limit; infinite where it is not a number."""
        with np.errstate(all="ignore"):
            ratio = np.where(self.values == 0.0, 0.0, np.abs(self.values) / (roundoff * self.limits))
        return float(np.where(np.isnan(ratio), np.inf, ratio).max(initial=0.0))

    def times(self, d: Floats) -> Floats:
        return self.derivatives.times(d)

    def transposed(self, y: Floats) -> Floats:
        return self.derivatives.transposed(y)

    def dense(self) -> Floats:
        """J as an array (equations, entries)."""
        return self.derivatives.dense()


@dataclass(frozen=True, eq=False)
class Matrix:
    """Derivatives as a sparse matrix."""

    matrix: sparse.csr_array

    def times(self, d: Floats) -> Floats:
        return np.asarray(self.matrix @ d)

    def transposed(self, y: Floats) -> Floats:
        return np.asarray(self.matrix.T @ y)

    def dense(self) -> Floats:
        return np.asarray(self.matrix.toarray())


@dataclass(frozen=True, eq=False)
class Products:
    """Derivatives that are multiplied step by step of the program, which are quick for products of matrices."""

    program: EquationProgram
    slopes: list[list[Floats]]
    norms: Floats

    def times(self, d: Floats) -> Floats:
        return self.program.times(self.slopes, d) / self.norms

    def transposed(self, y: Floats) -> Floats:
        return self.program.transposed(self.slopes, y / self.norms)

    def dense(self) -> Floats:
        rows = [self.transposed(unit) for unit in np.eye(self.program.equations)]
        return np.array(rows).reshape(self.program.equations, self.program.width)


def linear_part(program: EquationProgram, written: WrittenDerivatives | None, x: Floats) -> LinearPart:
    """The linear part at x; numbers that are not finite where a function has no value or no derivative."""
    with np.errstate(all="ignore"):
        at = program.numbers(x)
        slopes, values, sizes = at.slopes, program.values(at), program.sizes(at)
        if written is None:
            norms = _usable(np.sqrt(program.bound(slopes, np.ones(program.width), 2)))
            reach = program.bound(slopes, np.abs(x), 1)
            return LinearPart(values / norms, (sizes + reach) / norms, norms, Products(program, slopes, norms))
        matrix = written.matrix(slopes)
        magnitudes = _like(matrix, np.abs(matrix.data))
        norms = _usable(np.sqrt(_like(matrix, matrix.data * matrix.data) @ np.ones(program.width)))
        reach = magnitudes @ np.abs(x)
        data = matrix.data / np.repeat(norms, np.diff(matrix.indptr))
        rows = _like(matrix, np.where(np.isfinite(data), data, 0.0))
        return LinearPart(values / norms, (sizes + reach) / norms, norms, Matrix(rows))


def _like(matrix: sparse.csr_array, data: Floats) -> sparse.csr_array:
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _usable(norms: Floats) -> Floats:
    """The norms of the rows, 1 for rows of zeros."""
    return np.where(norms > 0.0, norms, 1.0)
