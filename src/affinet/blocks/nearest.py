"""The projection of a base in NumPy, on vectors in the order in which the base is read: for planning alone."""

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


def projected(base: Base, x: Floats, *, affine: bool) -> Floats:
    """The nearest points to the rows of `x` (vectors, entries) that satisfy a base; without `affine`, tangent parts."""
    match base:
        case Slices():
            cells = x.reshape(len(x), -1, base.inner.size)
            return off(cells, base.basis, base.target if affine else None).reshape(x.shape)
        case Product():
            return _product(base, x, affine)
        case Mirror():
            return _mirrored(base, x, affine)
        case MirroredProduct():
            return _mirrored(base.mirror, _product(base.product, x, affine), affine)
        case Pairs():
            return _paired(base, x, affine)
        case Joined():
            return projected(base.base, x, affine=affine)
        case Dense():
            return off(x, base.basis[0], base.target if affine else None)
        case _:
            assert_never(base)


def off(x: Floats, basis: Floats, target: Floats | None) -> Floats:
    """`x − basisᵀ(basis x − target)` along the last axis."""
    if len(basis) == 1 and not any(basis.strides):
        # All coefficients equal: no copy of the basis, and one sum.
        gap = x.sum(axis=-1, keepdims=True) * float(basis[0, 0])
        moved: Floats = x - (gap if target is None else gap - target) * float(basis[0, 0])
        return moved
    gap = x @ basis.T
    return np.asarray(x - (gap if target is None else gap - target) @ basis)


def turned(mirror: Mirror, x: Floats) -> Floats:
    """Vectors seen in a mirror, without its sign."""
    sizes = [size for size, _ in mirror.view.dims]
    box = x.reshape(len(x), *sizes).transpose(0, *(1 + axis for axis in mirror.permutation))
    return np.asarray(np.flip(box, tuple(1 + axis for axis in mirror.flips)).reshape(x.shape))


def _product(base: Product, x: Floats, affine: bool) -> Floats:
    sizes = [size for size, _ in base.view.dims]
    for part, inner in zip(base.slices, base.inner_dims, strict=True):
        outer = [axis for axis in range(len(sizes)) if axis not in inner]
        order = [0, *(1 + axis for axis in (*outer, *inner))]
        moved = x.reshape(len(x), *sizes).transpose(order)
        cells = moved.reshape(len(x), -1, prod(sizes[axis] for axis in inner))
        done = off(cells, part.basis, part.target if affine else None)
        x = done.reshape(moved.shape).transpose(np.argsort(order)).reshape(x.shape)
    return x


def _mirrored(base: Mirror, x: Floats, affine: bool) -> Floats:
    both = x + base.sign * turned(base, x)
    if affine:
        both = both + np.broadcast_to(base.shift, [size for size, _ in base.view.dims]).ravel()
    return np.asarray(both / 2.0)


def _paired(base: Pairs, x: Floats, affine: bool) -> Floats:
    first, second = np.split(x, 2, axis=1)
    shift = np.broadcast_to(base.shift if affine else np.zeros(()), [size for size, _ in base.first.dims]).ravel()
    z = second + (first - shift - base.ratio * second) * (base.ratio / (1.0 + base.ratio**2))
    return np.concatenate([base.ratio * z + shift, z], axis=1)
