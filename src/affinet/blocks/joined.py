"""Boxes of several parameters side by side, with the equations of one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from affinet.blocks.entry_sets import View
from affinet.blocks.places import Beside
from affinet.blocks.product import Product
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Parameter


@dataclass(frozen=True, eq=False)
class Joined:
    """Boxes of several parameters side by side as one matrix (cells, places), and the equations of that.

    Each of `members` has its loops over cells first; its places are the columns of the matrix after those of the
    members before it. `base` is about one weight that stands for the matrix, row-major.
    """

    members: tuple[View, ...]
    cells: int
    base: Slices | Product

    @property
    def rules(self) -> tuple[int, ...]:
        return self.base.rules

    @property
    def size(self) -> int:
        return self.base.size

    @property
    def rank(self) -> int:
        return self.base.rank

    @property
    def condition(self) -> float:
        return self.base.condition

    @property
    def parts(self) -> tuple[Slices, ...]:
        """All sets of slices of the matrix."""
        return (self.base,) if isinstance(self.base, Slices) else self.base.slices

    @property
    def matrix(self) -> Parameter:
        """The weight that `base` is about."""
        return self.within.parameter

    @property
    def within(self) -> Slices:
        """What is said about every cell."""
        return self.base if isinstance(self.base, Slices) else self._along((1,))

    @property
    def across(self) -> Slices | None:
        """What is said about every column, if anything is."""
        return None if isinstance(self.base, Slices) else self._along((0,))

    def _along(self, axes: tuple[int, ...]) -> Slices:
        assert isinstance(self.base, Product)
        return self.base.slices[self.base.inner_dims.index(axes)]

    @cached_property
    def entries(self) -> Beside:
        """Where its entries lie."""
        return Beside(self.members, self.cells)

    @property
    def columns(self) -> tuple[int, ...]:
        """The first column of the matrix that each member has, and how many columns there are in all."""
        return self.entries.bounds
