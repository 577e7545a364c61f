"""Computes a dense basis of any small block from its tangent projector."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from affinet.kernels.torch.bases.basis import Constant, Kind, Place
from affinet.kernels.torch.bases.tied_bases import join_flat, split_flat
from affinet.kernels.torch.kernel import Kernel
from affinet.kernels.torch.precision import exact_matmul
from affinet.language.calculus.terms import Floats, Parameter
from affinet.system import lapack

ROUNDING = 1e-11
"""Rows of a basis, with numbers of size one, are equal up to rounding where they differ by less."""
MOST_ENTRIES = 1_024
"""Entries up to which a block without usable structure gets a dense basis: 8 MB in float64."""


class MatrixBasis:
    """`N v` with a matrix N of one row per entry."""

    def __init__(self, places: tuple[Place, ...], matrix: Floats, inverse: Floats) -> None:
        self.places, self.free = places, matrix.shape[1]
        self._sizes = [place.size for place in places]
        self._matrix, self._inverse = Constant(matrix), Constant(inverse)

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        return split_flat(_times(self._matrix, v), self._sizes)

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        return _times(self._matrix, join_flat(gradients), transposed=True)

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        return _times(self._inverse, join_flat(entries))


def from_tangents(kernel: Kernel, parameters: Iterable[Parameter], kind: Kind) -> MatrixBasis | None:
    """The basis of the set that a kernel projects onto; None for more than `MOST_ENTRIES` entries.

    The trace of the tangent projector is the number of free directions; QR with column pivoting finds its range. For
    `free` a second one chooses the entries that serve as free numbers.
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
    # Integers first, so that an entry that equals a free entry is computed as that entry.
    matrix = _agreeing(np.where(np.abs(matrix - np.round(matrix)) < ROUNDING, np.round(matrix), matrix))
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
    projector = np.stack(columns, 1) if columns else np.zeros((0, 0))
    return (projector + projector.T) / 2.0


def _agreeing(matrix: Floats) -> Floats:
    """`matrix` with rows that are zero, equal or opposite up to rounding (those of tied entries) made so to the bit."""
    matrix[np.abs(matrix).max(1, initial=0.0) < ROUNDING] = 0.0
    marks = matrix @ np.random.default_rng(0).standard_normal(matrix.shape[1])
    order = np.argsort(np.abs(marks), kind="stable")
    for last, row in pairwise(order):
        if abs(abs(marks[row]) - abs(marks[last])) < ROUNDING:
            sign = 1.0 if marks[row] * marks[last] > 0.0 else -1.0
            if np.abs(matrix[row] - sign * matrix[last]).max(initial=0.0) < ROUNDING:
                matrix[row] = sign * matrix[last]
    return matrix


def _times(matrix: Constant, x: Tensor, *, transposed: bool = False) -> Tensor:
    wide = exact_matmul(x)
    factor = matrix.like(wide)
    return ((factor.mT if transposed else factor) @ wide).to(x.dtype)
