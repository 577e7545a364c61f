"""What rounding leaves open of a base: how far the tangent parts of vectors may be off."""

from __future__ import annotations

from math import prod
from typing import assert_never

import numpy as np

from affinet.blocks.bases import Base
from affinet.blocks.dense import Dense
from affinet.blocks.joined import Joined
from affinet.blocks.mirror import Mirror
from affinet.blocks.mirrored_product import MirroredProduct
from affinet.blocks.pairs import Pairs
from affinet.blocks.product import Product
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats
from affinet.system.tolerance import Tolerance


def unsure(base: Base, x: Floats, tolerance: Tolerance) -> Floats:
    """By how much the tangent parts of the rows of `x` (vectors, entries) may be off, in the Euclidean norm.

    Rounding of equations that almost follow from one another turns the space that their rows span, along each row of
    an orthonormal basis by the tolerance of the rank times the combination of equations that the row is (Wedin; Golub &
    Van Loan, 4th ed., 2.5.3). What a vector has along it is off by that share.
    """
    match base:
        case Slices():
            return _of_cells(x.reshape(len(x), -1, base.inner.size), base, tolerance)
        case Product():
            return _of_product(base, x, tolerance)
        case MirroredProduct():
            return _of_product(base.product, x, tolerance)
        case Joined():
            return unsure(base.base, x, tolerance)
        case Dense():
            basis = base.basis[0]
            return base.condition * tolerance.rank(*basis.shape) * np.asarray(np.linalg.norm(x @ basis.T, axis=1))
        case Mirror() | Pairs():
            return np.zeros(len(x))
        case _:
            assert_never(base)


def _of_product(base: Product, x: Floats, tolerance: Tolerance) -> Floats:
    sizes = [size for size, _ in base.view.dims]
    off = np.zeros(len(x))
    for part, inner in zip(base.slices, base.inner_dims, strict=True):
        outer = [axis for axis in range(len(sizes)) if axis not in inner]
        moved = x.reshape(len(x), *sizes).transpose([0, *(1 + axis for axis in (*outer, *inner))])
        off += _of_cells(moved.reshape(len(x), -1, prod(sizes[axis] for axis in inner)), part, tolerance)
    return off


def _of_cells(cells: Floats, part: Slices, tolerance: Tolerance) -> Floats:
    """Vectors as (vectors, cells, entries of a cell). Nothing along equations that are far from one another."""
    if part.condition == 1.0:
        return np.zeros(len(cells))
    along = cells @ part.basis.T * part.amplified
    return tolerance.rank(*part.basis.shape) * np.asarray(np.linalg.norm(along, axis=(1, 2)))
