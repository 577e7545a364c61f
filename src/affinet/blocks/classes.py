"""A partition of tied entries into classes, each with one free number, and the class means that project onto it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from affinet.blocks.law import Rounds, Sum
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.phrases import BYTES
from affinet.blocks.places import Part
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.distinct import distinct


@dataclass(frozen=True, eq=False)
class Classes:
    """Tied entries: `w_i = scale_i · z[class_i] + shift_i`, with one free number z per class.

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
        """Whether no two entries share a class, so that nothing is averaged."""
        return self.count == len(self.class_of)

    def share(self, place: int) -> float:
        """`scale² / D`: the freedom of an entry whose class is free."""
        scale = float(self.scale[place if len(self.scale) > 1 else 0])
        return scale**2 / float(self.weight[self.class_of[place]])

    def mates(self, place: int) -> tuple[Integers, int]:
        """The places of all entries in the class of an entry, and the place of its representative."""
        number = self.class_of[place]
        return np.flatnonzero(self.class_of == number), int(self.representative[number])

    def tied(self, rules: tuple[int, ...], most: int) -> Iterator[Tied]:
        """All classes, or none where there are more than `most` entries."""
        if len(self.class_of) > most:
            return
        order = np.argsort(self.class_of, kind="stable")
        bounds = np.searchsorted(self.class_of[order], np.arange(self.count + 1))
        scale, shift = (np.broadcast_to(part, order.shape)[order] for part in (self.scale, self.shift))
        yield Tied(order, bounds, scale, shift, rules)

    def taken(self, parts: Iterable[Part]) -> dict[Parameter, int]:
        """Entries of each parameter minus the classes with an entry of it; `parts` list the entries."""
        counts, first = Counter[Parameter](), 0
        for part in parts:
            counts[part.parameter] += part.size - len(distinct(self.class_of[first : first + part.size]))
            first += part.size
        return dict(counts)

    def pairs_or_groups(self) -> Tally:
        """Counts of pairs where every class has two entries, otherwise counts of groups."""
        sizes = np.bincount(self.class_of, minlength=self.count)
        if (sizes == 2).all():
            return Tally(pairs=len(sizes))
        return Tally(grouped=len(self.class_of), groups=len(sizes))

    def bytes_a_step(self) -> int:
        """Bytes of the entries, their positions and their classes, for the gradient and the weights."""
        return 4 * (BYTES + 8 + 8) * len(self.class_of)


@dataclass(frozen=True, eq=False)
class Means:
    """Class means: the nearest free number of each class from its entries, and the entries from the free numbers.

    The mean is computed from differences to one representative: then the mean of a million equal numbers is that
    number, which their rounded sum would not give. `shard` lists the entries of one holder, None for all entries.
    Holders first add up the representatives: one of them contributes the number, the others contribute zero.
    With `exact_sums` they add up their entries at once: sums of float32 numbers in float64 are exact where 2²⁹ of them
    are equal, or nearly so.
    """

    classes: Classes
    shard: Integers | None = None
    exact_sums: bool = False

    @cached_property
    def identical(self) -> bool:
        """Whether the free numbers are the entries themselves, so that nothing is averaged."""
        classes = self.classes
        return classes.plain and bool((classes.scale == 1.0).all()) and not classes.shift.any()

    def reduced(
        self, xp: Namespace, x: Array, *, affine: bool, squares: bool = False
    ) -> Rounds[tuple[Array, Array | None]]:
        """One number per class; with `squares`, also the root mean square of its entries, from the same round."""
        count = self.classes.count
        if self.identical and self.shard is None:
            z = xp.take(x, self.classes.representative)
            return z, abs(z)
        if self.exact_sums:
            reference, difference = 0.0, x - xp.array(self._shift, x) if affine and np.any(self._shift) else x
        else:
            reference, difference = yield from self._differences(xp, x, affine=affine)
        part = xp.segment_sum(self._scaled(xp, difference), self._class_of, count)
        if squares:
            part = xp.concat([part, xp.segment_sum(x * x, self._class_of, count)])
        total = yield Sum(part)
        z = reference + total[:count] / xp.array(self.classes.weight, x)
        return z, (total[count:] / xp.array(self._sizes, x)) ** 0.5 if squares else None

    def reduced_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[tuple[Array, Array]]:
        """The nearest numbers in `Σ metric_i dx_i²`, and the metric of each class: `Σ metric scale²`."""
        count = self.classes.count
        reference, difference = yield from self._differences(xp, x, affine=True)
        scaled = self._scaled(xp, metric)
        parts = (difference * scaled, self._scaled(xp, scaled))
        total = yield Sum(xp.concat([xp.segment_sum(part, self._class_of, count) for part in parts]))
        return reference + total[:count] / total[count:], total[count:]

    def expanded(self, xp: Namespace, z: Array, *, affine: bool) -> Array:
        """Every entry from the number of its class; equal and opposite entries get the same bits."""
        x = self._scaled(xp, xp.take(xp.hold(z), self._class_of))
        return x + xp.array(self._shift, z) if affine and np.any(self._shift) else x

    def spread(self, xp: Namespace, z: Array) -> Array:
        """The number of each class, repeated for all of its entries."""
        return xp.take(z, self._class_of)

    def _differences(self, xp: Namespace, x: Array, *, affine: bool) -> Rounds[tuple[Array, Array]]:
        """The representatives, and the difference of each entry from the value that its representative implies."""
        if affine and np.any(self._shift):
            x = x - xp.array(self._shift, x)
        representative = self.classes.representative
        if self.shard is None:
            reference = xp.take(x, representative)
        else:
            local_classes, local_places = self._representatives
            reference = yield Sum(xp.segment_sum(xp.take(x, local_places), local_classes, self.classes.count))
        return reference, x - self._scaled(xp, xp.take(reference, self._class_of))

    def _scaled(self, xp: Namespace, x: Array) -> Array:
        return x if (self._scale == 1.0).all() else x * xp.array(self._scale, x)

    @cached_property
    def _representatives(self) -> tuple[Integers, Integers]:
        """The classes whose representative is in the shard, and the places of these in it."""
        assert self.shard is not None
        order = np.argsort(self.shard)
        at = np.searchsorted(self.shard, self.classes.representative, sorter=order)
        nearest = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros(0, np.int64)
        if not len(order):
            return nearest, nearest
        local_classes = np.flatnonzero(self.shard[nearest] == self.classes.representative)
        return local_classes, nearest[local_classes]

    @cached_property
    def _class_of(self) -> Integers:
        return self.classes.class_of if self.shard is None else self.classes.class_of[self.shard]

    @cached_property
    def _sizes(self) -> Integers:
        """The number of entries in each class, over all holders."""
        return np.bincount(self.classes.class_of, minlength=self.classes.count)

    @cached_property
    def _scale(self) -> Floats:
        return self._in_shard(self.classes.scale)

    @cached_property
    def _shift(self) -> Floats:
        return self._in_shard(self.classes.shift)

    def _in_shard(self, values: Floats) -> Floats:
        return values if self.shard is None or len(values) == 1 else values[self.shard]
