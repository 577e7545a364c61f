"""A block that ties two boxes entry by entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import sqrt

import numpy as np
from scipy import sparse

from affinet.blocks.copies import renumber
from affinet.blocks.entry_sets import Mask, View
from affinet.blocks.gram import squared, unit_row
from affinet.blocks.interval import Interval
from affinet.blocks.law import Linear, Rounds, ravelled, silenced
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.phrases import BYTES, many
from affinet.blocks.places import Following, box, entry_counts, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.tolerance import Tolerance


@dataclass(frozen=True, eq=False)
class Pairs:
    """`first == ratio · second + shift`, entry by entry of two boxes that share no entry.

    `without` are places of the flattened boxes that belong to another block on both sides, in ascending order.
    """

    first: View
    second: View
    ratio: float
    shift: Floats
    rules: tuple[int, ...]
    without: Integers = field(default_factory=no_places)

    @property
    def entries(self) -> Following:
        """The places of its entries."""
        return Following(
            (box(self.first), box(self.second)), np.concatenate([self.without, self.without + self.first.size])
        )

    @property
    def condition(self) -> float:
        return 1.0  # no two of its equations share an entry

    @property
    def size(self) -> int:
        return 2 * self.rank

    @property
    def rank(self) -> int:
        return self.first.size - len(self.without)

    @property
    def ambiguous(self) -> int:
        return 0

    @property
    def boxes(self) -> tuple[View, ...]:
        """The boxes that are read."""
        return self.first, self.second

    @property
    def reflection(self) -> None:
        """None: the two boxes differ, so that there is no mirror."""
        return None

    def images(self, places: Integers) -> Integers:
        """The places on the right side that are tied to places of the left side: the same."""
        return places

    def closed(self, places: Integers) -> Integers:
        """The places and all places tied to them, in ascending order."""
        return places

    def leading(self, places: Integers) -> Integers:
        """Of a closed set, the place on the left side of each equation."""
        return places

    def reflected(self, mask: Mask) -> Mask:
        """A mask over the right side, of the shape of the loops, at the places of the left side."""
        return mask

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        return float(self.gram(unit_row(place, 2 * self.first.size))[0, 0])

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return np.array([place, self._partner(place)], np.int64), None

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return iter(())  # `mates` answers for pairs that single equations tie

    def taken(self) -> dict[Parameter, Interval]:
        sizes = self.sizes()
        count = self.rank if len(sizes) == 1 else 0
        return {parameter: Interval.of(count) for parameter in sizes}

    def fixed(self) -> dict[Parameter, int]:
        return {}

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally(pairs=self.rank)

    def describe(self) -> str:
        return f"{many(self.rank, 'pair')} of {self.first.parameter.name} and {self.second.parameter.name}"

    def bytes_a_step(self) -> int:
        return 4 * BYTES * self.size

    def renumbered(self, numbers: Mapping[int, int]) -> Pairs:
        return replace(self, rules=renumber(self.rules, numbers))

    def homogeneous(self) -> Pairs:
        return replace(self, shift=np.zeros(()))

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        first, second = np.split(vectors, 2, axis=1)
        shift = np.broadcast_to(self.shift if affine else np.zeros(()), [size for size, _ in self.first.dims]).ravel()
        z = second + (first - shift - self.ratio * second) * (self.ratio / (1.0 + self.ratio**2))
        return np.concatenate([self.ratio * z + shift, z], axis=1)

    def gram(self, rows: sparse.csr_array) -> Floats:
        """From the orthonormal coordinates `(ratio first + second) / √(1 + ratio²)` of the tangent space."""
        n = self.first.size
        free = (self.ratio * rows[:, :n] + rows[:, n:]) / sqrt(1.0 + self.ratio**2)
        return squared(sparse.csr_array(free))

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        return np.zeros(len(vectors))  # no two of its equations share an entry

    def partners(self, place: int) -> list[tuple[int, float]]:
        exact = abs(self.ratio) == 1.0 and not np.any(self.shift)
        return [(self._partner(place), self.ratio)] if exact else []

    def pinned_value(self, place: int) -> float | None:
        return None

    def _partner(self, place: int) -> int:
        return (place + self.first.size) % (2 * self.first.size)

    def law(self) -> Linear[Shared]:
        """The law over its entries: two boxes along a first axis."""
        return Linear(Shared(self, (self.first.size,)))


@dataclass(frozen=True, eq=False)
class Shared:
    """The projection of pairs: both sides are computed from one number, in the metric `D = 1 + ratio²`.

    That number is the side with the larger scale, so that equal and opposite entries agree to the bit.
    Entries that belong to another block keep their bits.
    """

    block: Pairs
    axes: tuple[int, ...]

    def reshaped(self, axes: tuple[int, ...]) -> Shared:
        """The same projection with the entries of each box, in order, as an array of other axes."""
        return Shared(self.block, axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, *self.axes)

    @property
    def wide(self) -> bool:
        """False: the mean of two numbers is rounded to their dtype anyway."""
        return False

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        yield from ()
        ratio, scaled, plain = self._sides(x)
        if np.any(self._shift):
            scaled = scaled - xp.array(self._shift, x)
        return self._expanded(xp, self._common(xp, scaled - ratio * plain, plain), x, affine=True)

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        yield from ()
        ratio, scaled, plain = self._sides(x)
        z = self._common(xp, scaled - ratio * plain, plain)
        if not floor:
            return self._expanded(xp, z, x, affine=False)
        y = silenced(xp, self._expanded(xp, z, x, affine=False), self.noise(xp, x) * floor)
        return self._restored(xp, y, x)

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Law: `z = (m₁ ratio (x₁ − shift) + m₂ x₂) / (m₁ ratio² + m₂)` with m the metric of both sides."""
        yield from ()
        (ratio, scaled, plain), (_, heavy, light) = self._sides(x), self._sides(metric)
        z = heavy * ratio * (scaled - xp.array(self._shift, x)) + light * plain
        return self._expanded(xp, xp.hold(z / (heavy * ratio**2 + light)), x, affine=True)

    def noise(self, xp: Namespace, x: Array) -> Array:
        _, scaled, plain = self._sides(x)
        size = ((scaled * scaled + plain * plain) * 0.5) ** 0.5 * 2.0
        return self._both(xp, size, size)

    @property
    def _swapped(self) -> bool:
        return abs(self.block.ratio) > 1.0

    @cached_property
    def _shift(self) -> Floats:
        """The shift of the scaled side, which broadcasts to the axes."""
        shift = -self.block.shift / self.block.ratio if self._swapped else self.block.shift
        numbers = ravelled(np.asarray(shift), tuple(size for size, _ in self.block.first.dims))
        return numbers.reshape((1,) * len(self.axes) if numbers.size == 1 else self.axes)

    def _sides(self, x: Array) -> tuple[float, Array, Array]:
        """The ratio, the side `ratio · plain`, and the plain side."""
        across = (slice(None),) * len(self.axes)
        first, second = x[(..., 0, *across)], x[(..., 1, *across)]
        return (1.0 / self.block.ratio, second, first) if self._swapped else (self.block.ratio, first, second)

    def _common(self, xp: Namespace, gap: Array, plain: Array) -> Array:
        """The plain side after the projection, as a change of it, so that a pair that agrees keeps its bits."""
        ratio = 1.0 / self.block.ratio if self._swapped else self.block.ratio
        gap *= ratio / (1.0 + ratio * ratio)
        return xp.hold(plain + gap)

    def _expanded(self, xp: Namespace, z: Array, x: Array, *, affine: bool) -> Array:
        ratio = 1.0 / self.block.ratio if self._swapped else self.block.ratio
        other = z * ratio
        if affine and np.any(self._shift):
            other += xp.array(self._shift, x)
        return self._restored(xp, self._both(xp, z, other) if self._swapped else self._both(xp, other, z), x)

    def _restored(self, xp: Namespace, y: Array, x: Array) -> Array:
        """`y` with the numbers of `x` where entries belong to another block."""
        if not len(self.block.without):
            return y
        places = np.concatenate([self.block.without, self.block.without + self.block.first.size])
        flat = (*x.shape[: x.ndim - len(self.shape)], 2 * self.block.first.size)
        return xp.reshape(xp.put(xp.reshape(y, flat), places, xp.take(xp.reshape(x, flat), places)), tuple(x.shape))

    def _both(self, xp: Namespace, first: Array, second: Array) -> Array:
        return xp.stack([first, second], -1 - len(self.axes))
