"""Bases that consist of an index and a scale: those of ties, mirrors, pairs and fixed entries."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from affinet.blocks.classes import Classes
from affinet.blocks.entry_sets import View, mask_of
from affinet.blocks.fixed import Fixed
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Nest
from affinet.blocks.pairs import Pairs
from affinet.blocks.places import Part
from affinet.blocks.ties import Ties
from affinet.kernels.bases.basis import Basis, Kind, Place
from affinet.kernels.bases.operations import Array, Constant, Operations
from affinet.language.calculus.terms import Floats, Integers


class Spread:
    """`x_i = scale_i · z[class_i]`: expands one number per class to entries, and sums entries over classes."""

    def __init__(self, class_of: Integers, scale: Floats, count: int, representative: Integers) -> None:
        self.size, self.count = len(class_of), count
        identical = count == self.size and bool((class_of == np.arange(count)).all())
        self._class_of = None if identical else Constant(class_of.astype(np.int64))
        self._scale = None if (scale == 1.0).all() else Constant(scale)
        self._representative = Constant(representative.astype(np.int64))
        representative_scale = np.broadcast_to(scale, class_of.shape)[representative]
        self._inverse = None if (representative_scale == 1.0).all() else Constant(1.0 / representative_scale)

    def expanded(self, xp: Operations, z: Array) -> Array:
        """Every entry from the number of its class; equal and opposite entries get the same bits."""
        x = z if self._class_of is None else xp.expand(xp.hold(z), self._class_of)
        return x if self._scale is None else xp.hold(x * xp.numbers(self._scale, x))

    def summed(self, xp: Operations, g: Array) -> Array:
        """`Σ scale_i g_i` over the entries of each class."""
        g = g if self._scale is None else g * xp.numbers(self._scale, g)
        return g if self._class_of is None else xp.class_sums(g, self._class_of, self.count)

    def picked(self, xp: Operations, x: Array) -> Array:
        """The number of every class from its representative."""
        z = xp.take(x, self._representative, 0)
        return z if self._inverse is None else z * xp.numbers(self._inverse, z)

    @classmethod
    def of(cls, classes: Classes) -> Spread:
        """The spread of the classes of a block."""
        return cls(classes.class_of, classes.scale, classes.count, classes.representative)


class TiedBasis:
    """One free number per class: the representative itself (`free`), or √D times it (`orthonormal`)."""

    def __init__(self, places: tuple[Place, ...], spread: Spread, weight: Floats, kind: Kind) -> None:
        self.places, self._spread = places, spread
        self.free = spread.count
        self._sizes = [place.size for place in places]
        unscaled = kind == "free" or bool((weight == 1.0).all())
        self._shrink = None if unscaled else Constant(1.0 / np.sqrt(weight))

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        z = v if self._shrink is None else v * xp.numbers(self._shrink, v)
        return split_flat(xp, self._spread.expanded(xp, z), self._sizes)

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        z = self._spread.summed(xp, join_flat(xp, gradients))
        return z if self._shrink is None else z * xp.numbers(self._shrink, z)

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        z = self._spread.picked(xp, join_flat(xp, entries))
        return z if self._shrink is None else z / xp.numbers(self._shrink, z)


class ConstantsBasis:
    """The basis of entries that depend on no free number."""

    free = 0

    def __init__(self, place: Place) -> None:
        self.places = (place,)

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        return tuple(xp.zeros(place.size, v) for place in self.places)

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        return xp.zeros(0, gradients[0])

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        return self.adjoint(xp, entries)


class PairsBasis:
    """`first = ratio · second` for two boxes: two multiples of v, without an index."""

    def __init__(self, block: Pairs, kind: Kind) -> None:
        shared = np.delete(np.arange(block.first.size), block.without)
        self.places = tuple(placed(view, shared) for view in (block.first, block.second))
        self.free = len(shared)
        largest = max(abs(block.ratio), 1.0)
        size = sqrt(block.ratio**2 + 1.0) if kind == "orthonormal" else block.ratio if largest > 1.0 else 1.0
        self._factors = (block.ratio / size, 1.0 / size)
        self._larger = 0 if largest > 1.0 else 1

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        first, second = self._factors
        if first == second:
            return (scaled(v, first),) * 2
        # Opposite entries are one number with two signs; the smaller entry is never a quotient of rounded numbers.
        return scaled(v, first), scaled(v, second)

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        return xp.add(scaled(gradients[0], self._factors[0]), gradients[1], self._factors[1])

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        return entries[self._larger] / self._factors[self._larger]


def ties(block: Ties, kind: Kind) -> Basis:
    """The basis of tied entries."""
    return TiedBasis(places_of(block.parts), Spread.of(block.classes), block.classes.weight, kind)


def mirror(block: Mirror, kind: Kind) -> Basis:
    """The basis of a mirror: one free number per pair of images; entries that are their own opposite are constant."""
    places = np.arange(block.view.size)
    image = block.images(places)
    belongs = (image != places) | (block.sign < 0.0)
    belongs[block.without] = False
    used = places[belongs]
    spread, weight = paired(np.searchsorted(used, image[used]), np.full(len(used), block.sign))
    return TiedBasis((placed(block.view, used),), spread, weight, kind)


def paired(image: Integers, signs: Floats) -> tuple[Spread, Floats]:
    """The spread of `x_j = sign_j · x_image(j)`, and the weight of each of its classes.

    `image` is an involution; an entry that is its own image with sign −1 is zero.
    """
    places = np.arange(len(image))
    zero = (image == places) & (signs < 0.0)
    first = places[(places <= image) & ~zero]
    number = np.zeros(len(image), np.int64)
    number[first] = np.arange(len(first))
    second = places > image
    number[second] = number[image[second]]
    scale = np.where(zero, 0.0, np.where(second, signs, 1.0))
    return Spread(number, scale, len(first), first), np.where(image[first] == first, 1.0, 2.0)


def places_of(parts: tuple[Part, ...]) -> tuple[Place, ...]:
    """The places of the parts of a block."""
    return tuple(Place.of(p.parameter.name, p.positions.astype(np.int64), p.parameter.size) for p in parts)


def place_of_fixed(block: Fixed) -> Place:
    """The place of fixed entries, as a mask, which takes one byte per entry of the parameter."""
    return Place(block.parameter.name, mask_of(block.places, block.parameter.size), block.size)


def placed(view: View, places: Integers) -> Place:
    """The place of some entries of a box, by their places in it."""
    positions = view.offset + Nest(view.dims).table()
    return Place.of(view.parameter.name, positions[places], view.parameter.size)


def split_flat(xp: Operations, flat: Array, sizes: Sequence[int]) -> tuple[Array, ...]:
    """A flat tensor split into pieces."""
    return (flat,) if len(sizes) == 1 else xp.split(flat, sizes, 0)


def join_flat(xp: Operations, pieces: Sequence[Array]) -> Array:
    """Pieces concatenated into one flat tensor."""
    return pieces[0] if len(pieces) == 1 else xp.concat(pieces, 0)


def scaled(x: Array, factor: float) -> Array:
    """`factor · x`, x itself where the factor is one."""
    return x if factor == 1.0 else x * factor
