"""Classes of tied entries: one free number per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from affinet.blocks.phrases import BYTES
from affinet.blocks.places import Part
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.distinct import distinct


@dataclass(frozen=True, eq=False)
class Classes:
    """Tied entries: `w_i = scale_i · z[class_i] + shift_i`, one free number z a class.

    `class_of`, `scale`, `shift` follow the order of the block's parts; `scale` and `shift` may be of length one
    (the same for all). `representative` is the entry of each class with scale 1 and shift 0 (the largest |scale|).
    """

    class_of: Integers
    scale: Floats
    shift: Floats
    representative: Integers

    @property
    def count(self) -> int:
        return len(self.representative)

    @cached_property
    def weight(self) -> Floats:
        """`D = Σ scale²` of each class: the metric that the free numbers carry."""
        scale = np.broadcast_to(self.scale, self.class_of.shape)
        return np.bincount(self.class_of, scale * scale, self.count).astype(np.float64, copy=False)

    @property
    def plain(self) -> bool:
        """No two entries share a class: there is nothing to average."""
        return self.count == len(self.class_of)

    def share(self, place: int) -> float:
        """`scale² / D`: how free an entry is where its class is free."""
        scale = float(self.scale[place if len(self.scale) > 1 else 0])
        return scale**2 / float(self.weight[self.class_of[place]])

    def mates(self, place: int) -> tuple[Integers, int]:
        """The places of the class of an entry, and that of its representative."""
        number = self.class_of[place]
        return np.flatnonzero(self.class_of == number), int(self.representative[number])

    def tied(self, rules: tuple[int, ...], most: int) -> Iterator[Tied]:
        """All classes, where the entries are not more than `most`."""
        if len(self.class_of) > most:
            return
        order = np.argsort(self.class_of, kind="stable")
        bounds = np.searchsorted(self.class_of[order], np.arange(self.count + 1))
        scale, shift = (np.broadcast_to(part, order.shape)[order] for part in (self.scale, self.shift))
        yield Tied(order, bounds, scale, shift, rules)

    def taken(self, parts: Iterable[Part]) -> dict[Parameter, int]:
        """Entries of each parameter less the classes that it has entries in; `parts` are where the entries lie."""
        counts, first = Counter[Parameter](), 0
        for part in parts:
            counts[part.parameter] += part.size - len(distinct(self.class_of[first : first + part.size]))
            first += part.size
        return dict(counts)

    def pairs_or_groups(self) -> Tally:
        """The classes as pairs, where all of them are, otherwise as groups."""
        sizes = np.bincount(self.class_of, minlength=self.count)
        if (sizes == 2).all():
            return Tally(pairs=len(sizes))
        return Tally(grouped=len(self.class_of), groups=len(sizes))

    def bytes_a_step(self) -> int:
        """Entries, their positions and their classes, for the gradient and the weights."""
        return 4 * (BYTES + 8 + 8) * len(self.class_of)
