"""Any small block: a dense basis from its own tangent projector."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from affinet.kernels.torch.bases.basis import Constant, Kind, Place
from affinet.kernels.torch.bases.tied import apart, together
from affinet.kernels.torch.kernel import Kernel
from affinet.kernels.torch.precision import exact_matmul
from affinet.language.calculus.terms import Floats, Parameter
from affinet.system import lapack

NEAR = 1e-11
"""Rows of a basis, whose entries are of size one, differ by rounding where they differ by less."""
MOST_ENTRIES = 1_024
"""Entries up to which a block without structure of its own gets a dense basis: 8 MB in float64."""


class MatrixBasis:
    """`N v` with a matrix N of one row an entry."""

    def __init__(self, places: tuple[Place, ...], matrix: Floats, inverse: Floats) -> None:
        self.places, self.free = places, matrix.shape[1]
        self._sizes = [place.size for place in places]
        self._matrix, self._inverse = Constant(matrix), Constant(inverse)

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        return apart(_times(self._matrix, v), self._sizes)

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        return _times(self._matrix, together(gradients), transposed=True)

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        return _times(self._inverse, together(entries))


def from_tangents(kernel: Kernel, parameters: Iterable[Parameter], kind: Kind) -> MatrixBasis | None:
    """The basis of whatever a kernel projects on; None where it has more entries than `MOST_ENTRIES`.

    The trace of the tangent projector is the number of free directions; its range is read off by QR with column
    pivoting. For `free` the same picks the entries that carry them best.
    """
    used = [parameter for parameter in parameters if parameter.name in kernel.names]
    places = _entries(kernel, used)
    size = sum(place.size for place in places)
    if size > MOST_ENTRIES:
        return None
    projector = _tangents(kernel, used, places)
    free = round(float(np.trace(projector)))
    basis = _agreeing(lapack.qr(projector, mode="economic", pivoting=True)[0][:, :free])
    if kind == "orthonormal":
        return MatrixBasis(places, basis, basis.T)
    order = lapack.qr(basis.T, mode="r", pivoting=True)[-1][:free]
    chosen = np.sort(order)
    matrix = lapack.solve(basis[chosen].T, basis.T).T if free else basis
    matrix[chosen] = np.eye(free)
    # Whole numbers first, so that what equals a free entry is that entry.
    matrix = _agreeing(np.where(np.abs(matrix - np.round(matrix)) < NEAR, np.round(matrix), matrix))
    return MatrixBasis(places, matrix, np.eye(size)[chosen])


def _entries(kernel: Kernel, parameters: list[Parameter]) -> tuple[Place, ...]:
    """The entries that a kernel writes to."""
    nothing = {p.name: torch.full(p.shape, torch.nan, dtype=torch.float64) for p in parameters}
    zeros = {p.name: torch.zeros(p.shape, dtype=torch.float64) for p in parameters}
    kernel.write(nothing, torch.zeros_like(kernel.read(zeros)))
    written = {name: np.flatnonzero(~np.isnan(x.numpy().ravel())) for name, x in nothing.items()}
    return tuple(Place.of(p.name, written[p.name], p.size) for p in parameters)


def _tangents(kernel: Kernel, parameters: list[Parameter], places: tuple[Place, ...]) -> Floats:
    """The tangent projector, column by column, made symmetric to the last bit."""
    where = [np.arange(place.size) if place.positions is None else place.positions for place in places]
    columns = []
    for number, place in enumerate(places):
        for k in range(place.size):
            x = {p.name: torch.zeros(p.shape, dtype=torch.float64) for p in parameters}
            x[place.name].view(-1)[int(where[number][k])] = 1.0
            kernel.write(x, kernel.tangent(kernel.read(x), None)[0])
            columns.append(
                np.concatenate([x[p.name].view(-1).numpy()[at] for p, at in zip(parameters, where, strict=True)])
            )
    found = np.stack(columns, 1) if columns else np.zeros((0, 0))
    return (found + found.T) / 2.0


def _agreeing(matrix: Floats) -> Floats:
    """Rows that are zero, equal or opposite but for rounding, made so to the bit: those of tied entries are."""
    matrix[np.abs(matrix).max(1, initial=0.0) < NEAR] = 0.0
    marks = matrix @ np.random.default_rng(0).standard_normal(matrix.shape[1])
    order = np.argsort(np.abs(marks), kind="stable")
    for last, row in pairwise(order):
        if abs(abs(marks[row]) - abs(marks[last])) < NEAR:
            sign = 1.0 if marks[row] * marks[last] > 0.0 else -1.0
            if np.abs(matrix[row] - sign * matrix[last]).max(initial=0.0) < NEAR:
                matrix[row] = sign * matrix[last]
    return matrix


def _times(matrix: Constant, x: Tensor, *, transposed: bool = False) -> Tensor:
    wide = exact_matmul(x)
    factor = matrix.like(wide)
    return ((factor.mT if transposed else factor) @ wide).to(x.dtype)
