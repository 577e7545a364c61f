"""A box of entries that equals its own mirror image: a transposed, flipped or permuted copy of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from affinet.blocks.entry_sets import View
from affinet.blocks.places import Following, box, no_places
from affinet.language.calculus.terms import Floats, Integers


@dataclass(frozen=True, eq=False)
class Mirror:
    """`x − sign · mirrored(x) == shift` where `mirrored` permutes and flips the loops of one box, twice is once.

    `without` are places of the flattened box, rising, with their images, that belong to another block.
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
        """Where its entries lie; one that equals itself is read, and no equation is about it."""
        unmoved = (lambda at: self.images(at) == at) if self.sign > 0 else None
        return Following((box(self.view),), self.without, unmoved)

    @property
    def condition(self) -> float:
        return 1.0  # no two of its equations share an entry

    @property
    def size(self) -> int:
        """Entries that the equations speak of: an entry that equals itself is left out."""
        return self.view.size - len(self.without) - (self.fixed_points if self.sign > 0 else 0)

    @cached_property
    def fixed_points(self) -> int:
        """Entries of the block that are their own mirror image."""
        count, seen = 1, set()
        for axis, other in enumerate(self.permutation):
            if axis in seen:
                continue
            seen |= {axis, other}
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
