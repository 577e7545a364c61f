"""A mirror and a product on the same box whose projections commute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from scipy import sparse

from affinet.blocks.gram import unit_row
from affinet.blocks.interval import Interval
from affinet.blocks.law import Linear, Rounds, mean_square, silenced, trailing
from affinet.blocks.mirror import Mirror, Reflection
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.phrases import BYTES
from affinet.blocks.places import Stepped, no_places
from affinet.blocks.product import Chain, Product
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.tolerance import Tolerance


@dataclass(frozen=True, eq=False)
class MirroredProduct:
    """A product and a mirror of the same box that takes each of its parts to one of them: the projections commute.

    `mirror` has the loops of the product's view; `rank` counts the equations of both that are independent.
    """

    mirror: Mirror
    product: Product
    rank: int

    @property
    def entries(self) -> Stepped:
        """Where its entries lie."""
        return self.product.entries

    @property
    def condition(self) -> float:
        return self.product.condition

    @property
    def rules(self) -> tuple[int, ...]:
        return tuple(sorted({*self.mirror.rules, *self.product.rules}))

    @property
    def size(self) -> int:
        return self.product.size

    @property
    def ambiguous(self) -> int:
        return self.product.ambiguous

    def sizes(self) -> dict[Parameter, int]:
        return self.product.sizes()

    def freedom(self, place: int) -> float | None:
        if self.product.freedom(place) is None:
            return None
        return float(self.gram(unit_row(place, self.size))[0, 0])

    def value(self, place: int) -> float | None:
        value = self.product.value(place)
        return self.mirror.value(place) if value is None else value

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return self.mirror.mates(place)

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return iter(())

    def taken(self) -> dict[Parameter, Interval]:
        return {self.product.view.parameter: Interval.of(self.rank)}

    def fixed(self) -> dict[Parameter, int]:
        return self.sizes() if self.rank == self.size else {}

    def resolution(self) -> Resolution:
        return REGULAR

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return self.product.solves_in_metric()

    def tally(self) -> Tally:
        return self.mirror.tally() + self.product.tally()

    def describe(self) -> str:
        return f"{self.mirror.describe()}; {self.product.describe()}"

    def bytes_a_step(self) -> int:
        return 8 * BYTES * self.size

    def renumbered(self, numbers: Mapping[int, int]) -> MirroredProduct:
        return replace(self, mirror=self.mirror.renumbered(numbers), product=self.product.renumbered(numbers))

    def homogeneous(self) -> MirroredProduct:
        return replace(self, mirror=self.mirror.homogeneous(), product=self.product.homogeneous())

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        return self.mirror.projected(self.product.projected(vectors, affine=affine), affine=affine)

    def gram(self, rows: sparse.csr_array) -> Floats:
        return self.product.gram(self.mirror.halved(rows))

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        return self.product.unsure(vectors, tolerance)

    def partners(self, place: int) -> list[tuple[int, float]]:
        return self.mirror.partners(place)

    def pinned_value(self, place: int) -> float | None:
        return None

    def law(self) -> Linear[Mirrored]:
        """How its entries are projected: in the loops of the box."""
        return Linear(Mirrored(Reflection(self.mirror), self.product.law().projection))


@dataclass(frozen=True, eq=False)
class Mirrored:
    """The projection of a product and then of its mirror, so that images agree to the bit; neither undoes the other."""

    mirror: Reflection
    product: Chain

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mirror.shape

    @property
    def wide(self) -> bool:
        """As the product."""
        return False

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        x = yield from self.product.nearest(xp, x)
        return (yield from self.mirror.nearest(xp, x))

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        noise = None
        if floor:
            # The same for an entry and its image, which are zero together.
            axes = trailing(x, len(self.shape), tuple(range(len(self.shape))))
            rms = (yield from mean_square(xp, x, axes, prod(self.shape))) ** 0.5
            noise = (rms + self.noise(xp, x)) * floor
        x = yield from self.product.tangent(xp, x)
        x = yield from self.mirror.tangent(xp, x)
        return x if noise is None else silenced(xp, x, noise)

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Raises AttachError, as the product does."""
        return (yield from self.product.nearest_in_metric(xp, x, metric))

    def noise(self, xp: Namespace, x: Array) -> Array:
        return self.mirror.noise(xp, x)
