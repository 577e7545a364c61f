"""Several sets of slices of one box whose projections commute."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.blocks.entry_sets import View
from affinet.blocks.places import Stepped, box
from affinet.blocks.slices import Slices


@dataclass(frozen=True, eq=False)
class Product:
    """Slices of one box of entries along sets of its loops, whose projections commute and agree.

    `inner_dims` are the loops inside the cells of each; sets of slices may share some. `rank` is that of all together.
    """

    view: View
    slices: tuple[Slices, ...]
    inner_dims: tuple[tuple[int, ...], ...]
    rank: int

    @property
    def entries(self) -> Stepped:
        """Where its entries lie."""
        return box(self.view)

    @property
    def rules(self) -> tuple[int, ...]:
        return tuple(sorted({rule for part in self.slices for rule in part.rules}))

    @property
    def size(self) -> int:
        return self.view.size

    @property
    def condition(self) -> float:
        return max(part.condition for part in self.slices)

    @property
    def separate(self) -> bool:
        """Whether no two sets of slices share a loop: the tangent projector is a tensor product."""
        inside = [axis for axes in self.inner_dims for axis in axes]
        return len(set(inside)) == len(inside)

    @property
    def even(self) -> bool:
        """Whether all are plain sums."""
        return all(part.even for part in self.slices)
