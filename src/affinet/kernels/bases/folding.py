"""A transform of an axis that a mirror maps to itself, with a complement of even and odd columns."""

from __future__ import annotations

from math import sqrt

import numpy as np

from affinet.kernels.bases.operations import Array, Operations
from affinet.kernels.bases.transform import Transform, indices, orthonormal
from affinet.language.calculus.terms import Floats, Integers
from affinet.system import lapack


class Folded:
    """Orthonormal, every column even or odd under `image`, an involution of the places of the axis.

    Places are rotated into sums and differences of images (by 45° each). Rows whose span the mirror preserves separate
    into even and odd rows, and each part has its complement. `parity` is +1 or −1 per column.
    """

    def __init__(self, basis: Floats, image: Integers) -> None:
        self.size = len(image)
        places = np.arange(self.size)
        first, second, fixed = places[places < image], image[places < image], places[places == image]
        even = np.hstack([basis[:, first] + basis[:, second], sqrt(2.0) * basis[:, fixed]]) / sqrt(2.0)
        odd = (basis[:, first] - basis[:, second]) / sqrt(2.0)
        self._parts: tuple[Transform, Transform] = (orthonormal(_rows(even)), orthonormal(_rows(odd)))
        self.free = sum(part.free for part in self._parts)
        self.parity = np.repeat([1.0, -1.0], [part.free for part in self._parts])
        self._pairs = len(first)
        self._first, self._second, self._fixed = indices(first), indices(second), indices(fixed)
        self._order = indices(np.argsort(np.concatenate([first, second, fixed])))

    def linear(self, xp: Operations, x: Array) -> Array:
        even, odd = (
            self._parts[0].linear(xp, x[:, : self._parts[0].free]),
            self._parts[1].linear(xp, x[:, self._parts[0].free :]),
        )
        sums, fixed = even[:, : self._pairs], even[:, self._pairs :]
        unfolded = xp.concat([(sums + odd) / sqrt(2.0), (sums - odd) / sqrt(2.0), fixed], 1)
        return xp.take(unfolded, self._order, 1)

    def adjoint(self, xp: Operations, g: Array) -> Array:
        first, second, fixed = (xp.take(g, of, 1) for of in (self._first, self._second, self._fixed))
        even = xp.concat([(first + second) / sqrt(2.0), fixed], 1)
        odd = (first - second) / sqrt(2.0)
        return xp.concat([self._parts[0].adjoint(xp, even), self._parts[1].adjoint(xp, odd)], 1)

    def picked(self, xp: Operations, x: Array) -> Array:
        return self.adjoint(xp, x)


def _rows(basis: Floats) -> Floats:
    """An orthonormal basis of the rows; their singular values are 0 or 1, since the mirror preserves their span."""
    if not basis.size:
        return np.zeros((0, basis.shape[1]))
    _, sizes, rows = lapack.svd(basis, full_matrices=False)
    spanning: Floats = rows[sizes > 0.5]
    return spanning
