"""A mirror and a product on the same box whose projections commute."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.blocks.mirror import Mirror
from affinet.blocks.places import Stepped
from affinet.blocks.product import Product


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
