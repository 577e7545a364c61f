"""A block that makes a box of entries equal to its own mirror image, a transposed, flipped or permuted copy of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from affinet.blocks.copies import renumber
from affinet.blocks.entry_sets import Mask, View
from affinet.blocks.gram import squared, unit_row
from affinet.blocks.interval import Interval
from affinet.blocks.law import Linear, Rounds, silenced, trailing
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.phrases import BYTES, many, without
from affinet.blocks.places import Following, box, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter, row_major_steps
from affinet.system.distinct import distinct
from affinet.system.tolerance import Tolerance


@dataclass(frozen=True, eq=False)
class Mirror:
    """`x − sign · mirrored(x) == shift` where `mirrored` permutes and flips the loops of one box, its own inverse.

    Planning reads it in the form of `Pairs`: `first == ratio · second + shift`. The two are separate kinds because
    they share no formula for rank, projection or inner products: one kind for both would branch in each verb.
    `without` are places of the flattened box that belong to another block, with their images, in ascending order.
    """

    view: View
    permutation: tuple[int, ...]
    flips: tuple[int, ...]
    sign: float
    shift: Floats
    rules: tuple[int, ...]
    without: Integers = field(default_factory=no_places)

    @property
    def entries(self) -> Following:
        """The places of its entries; an entry that is its own image is read, but is in no equation."""
        unmoved = (lambda at: self.images(at) == at) if self.sign > 0 else None
        return Following((box(self.view),), self.without, unmoved)

    @property
    def condition(self) -> float:
        return 1.0  # no two of its equations share an entry

    @property
    def size(self) -> int:
        """Count of the entries in the equations, without those that are their own image."""
        return self.view.size - len(self.without) - (self.fixed_points if self.sign > 0 else 0)

    @cached_property
    def fixed_points(self) -> int:
        """Count of the entries of the block that are their own mirror image."""
        count, visited = 1, set()
        for axis, other in enumerate(self.permutation):
            if axis in visited:
                continue
            visited |= {axis, other}
            n = self.view.dims[axis][0]
            count *= n % 2 if other == axis and axis in self.flips else n
        return count - int((self.images(self.without) == self.without).sum())

    @property
    def rank(self) -> int:
        pairs = (self.view.size - len(self.without) - self.fixed_points) // 2
        return pairs if self.sign > 0 else pairs + self.fixed_points

    def images(self, places: Integers) -> Integers:
        """The mirror images of places of the flattened box."""
        sizes = tuple(size for size, _ in self.view.dims)
        if not sizes or not len(places):
            return places
        index = np.unravel_index(places, sizes)
        image = [index[0]] * len(sizes)
        for axis, other in enumerate(self.permutation):
            image[other] = sizes[axis] - 1 - index[axis] if axis in self.flips else index[axis]
        return np.ravel_multi_index(tuple(image), sizes).astype(np.int64)

    @property
    def ambiguous(self) -> int:
        return 0

    @property
    def _pairs(self) -> int:
        """Count of the pairs of different entries."""
        return self.rank - (self.fixed_points if self.sign < 0 else 0)

    @property
    def boxes(self) -> tuple[View, ...]:
        """The boxes that are read."""
        return (self.view,)

    @property
    def first(self) -> View:
        """The left side of the equations."""
        return self.view

    @property
    def second(self) -> View:
        """The box that the right side reads."""
        return self.view

    @property
    def ratio(self) -> float:
        """The factor of the right side."""
        return self.sign

    @property
    def reflection(self) -> Mirror:
        """The mirror whose projection may commute with those of sums over the box."""
        return self

    def closed(self, places: Integers) -> Integers:
        """The places and all places tied to them, in ascending order."""
        return distinct(np.concatenate([places, self.images(places)]))

    def leading(self, places: Integers) -> Integers:
        """Of a set closed under images, the place on the left side of each equation."""
        images = self.images(places)
        return np.asarray(places[(places < images) | ((places == images) & (self.sign < 0))])

    def reflected(self, mask: Mask) -> Mask:
        """A mask over the right side, of the shape of the loops, at the places of the left side."""
        return np.asarray(np.flip(np.transpose(mask, self.permutation), self.flips))

    def image(self, place: int) -> int:
        """The mirror image of one place."""
        return int(self.images(np.array([place]))[0])

    def sizes(self) -> dict[Parameter, int]:
        return {self.view.parameter: self.size}

    def freedom(self, place: int) -> float | None:
        return float(self.gram(unit_row(place, self.view.size))[0, 0])

    def value(self, place: int) -> float | None:
        if self.sign > 0 or self.image(place) != place:
            return None
        shift = np.broadcast_to(self.shift, [size for size, _ in self.view.dims])
        return float(shift.reshape(-1)[place]) / 2.0

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return np.array([place, self.image(place)], np.int64), None

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return iter(())  # `mates` answers for pairs that single equations tie

    def taken(self) -> dict[Parameter, Interval]:
        return {self.view.parameter: Interval.of(self.rank)}

    def fixed(self) -> dict[Parameter, int]:
        return self.sizes() if self.rank == self.size else {}

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally(fixed=self.rank - self._pairs, pairs=self._pairs)

    def describe(self) -> str:
        opposite = "" if self.sign > 0 else ", of opposite sign"
        name = self.view.parameter.name
        return f"{many(self._pairs, 'pair')} mirrored within {name}{opposite}{without(len(self.without))}"

    def bytes_a_step(self) -> int:
        return 4 * BYTES * self.size

    def renumbered(self, numbers: Mapping[int, int]) -> Mirror:
        return replace(self, rules=renumber(self.rules, numbers))

    def homogeneous(self) -> Mirror:
        return replace(self, shift=np.zeros(()))

    def turned(self, vectors: Floats) -> Floats:
        """The mirror images of vectors (vectors, entries), without the sign."""
        sizes = [size for size, _ in self.view.dims]
        box = vectors.reshape(len(vectors), *sizes).transpose(0, *(1 + axis for axis in self.permutation))
        return np.asarray(np.flip(box, tuple(1 + axis for axis in self.flips)).reshape(vectors.shape))

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        both = vectors + self.sign * self.turned(vectors)
        if affine:
            both = both + np.broadcast_to(self.shift, [size for size, _ in self.view.dims]).ravel()
        return np.asarray(both / 2.0)

    def halved(self, rows: sparse.csr_array) -> sparse.csr_array:
        """`rows P`: half of each row, and half of its mirror image."""
        triples = rows.tocoo()
        images = self.images(triples.col.astype(np.int64))
        values, row = np.concatenate([triples.data, self.sign * triples.data]) / 2.0, np.tile(triples.row, 2)
        return sparse.coo_array((values, (row, np.concatenate([triples.col, images]))), shape=rows.shape).tocsr()

    def gram(self, rows: sparse.csr_array) -> Floats:
        return squared(self.halved(rows))

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        return np.zeros(len(vectors))  # no two of its equations share an entry

    def partners(self, place: int) -> list[tuple[int, float]]:
        return [] if np.any(self.shift) else [(self.image(place), self.sign)]

    def pinned_value(self, place: int) -> float | None:
        return None

    def law(self) -> Linear[Reflection]:
        """The law over its entries, in the loops of the box."""
        return Linear(Reflection(self))


@dataclass(frozen=True, eq=False)
class Reflection:
    """The projection of a mirror, `(x + sign · mirrored(x) + shift) / 2`: an entry and its image are equal to the bit.

    Entries that are their own image or belong to another block keep their bits.
    """

    block: Mirror

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size for size, _ in self.block.view.dims)

    @property
    def wide(self) -> bool:
        """False: the sum of two numbers is rounded once, in their dtype."""
        return False

    @cached_property
    def unmoved(self) -> Integers:
        """Places of the flat box that keep their numbers, in ascending order."""
        itself = _unmoved(self.block) if self.block.sign > 0 else no_places()
        return np.unique(np.concatenate([self.block.without, itself]))

    def image(self, xp: Namespace, x: Array) -> Array:
        """The mirror images of the entries, without the sign."""
        count, lead = len(self.shape), tuple(range(x.ndim - len(self.shape)))
        turned = xp.permute(x, (*lead, *trailing(x, count, self.block.permutation)))
        return xp.flip(turned, trailing(x, count, self.block.flips)) if self.block.flips else turned

    def noise(self, xp: Namespace, x: Array) -> Array:
        """`|x − sign · mirrored(x)|`: twice the size of an entry and of its image where the projection is zero."""
        return abs(x - self.image(xp, x) * self.block.sign)

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        yield from ()
        both = self._sum_with_image(xp, x)
        if np.any(self.block.shift):
            both += xp.array(self.block.shift, x)
        return self._halved(xp, both, x)

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        yield from ()
        x = xp.hold(x) if floor else x
        y = self._halved(xp, self._sum_with_image(xp, x), x)
        if not floor:
            return y
        return self._restored(xp, silenced(xp, y, self.noise(xp, x) * floor), x, self.block.without)

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Law: each pair becomes its mean, weighted by the metric."""
        yield from ()
        other, image = self.image(xp, metric), self.image(xp, x) * self.block.sign + xp.array(self.block.shift, x)
        return self._restored(xp, xp.hold((metric * x + other * image) / (metric + other)), x, self.unmoved)

    def _sum_with_image(self, xp: Namespace, x: Array) -> Array:
        image = self.image(xp, x)
        return x + image if self.block.sign > 0 else x - image

    def _halved(self, xp: Namespace, both: Array, x: Array) -> Array:
        both *= 0.5
        return self._restored(xp, xp.hold(both), x, self.unmoved)

    def _restored(self, xp: Namespace, y: Array, x: Array, places: Integers) -> Array:
        """`y` with the numbers of `x` at some places."""
        if not len(places):
            return y
        flat = (*x.shape[: x.ndim - len(self.shape)], self.block.view.size)
        return xp.reshape(xp.put(xp.reshape(y, flat), places, xp.take(xp.reshape(x, flat), places)), tuple(x.shape))


def _unmoved(block: Mirror) -> Integers:
    """Places of the flat box that are their own mirror image."""
    sizes = tuple(size for size, _ in block.view.dims)
    steps = row_major_steps(sizes)
    places = np.zeros(1, np.int64)
    for axis, other in enumerate(block.permutation):
        n, flipped = sizes[axis], axis in block.flips
        i = np.arange(n)
        if other > axis:
            reach = i * steps[axis] + (i[::-1] if flipped else i) * steps[other]
        elif other == axis:
            reach = (i[i == i[::-1]] if flipped else i) * steps[axis]
        else:
            continue
        places = (places[:, None] + reach).ravel()
    return places
