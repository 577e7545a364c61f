"""Regular rules on their way to a block: as long as nothing else touches them they are one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from affinet.blocks.bases import AnyBase
from affinet.blocks.regular import RowBatch
from affinet.language.calculus.terms import Integers
from affinet.planning.factors.panels import single_cell
from affinet.planning.factors.slices import factor_slices
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class Candidate:
    """Batches, whole rules and more equations that `found` says, or slices of their own where nothing was found yet."""

    system: System
    batches: tuple[RowBatch, ...] = ()
    whole: tuple[int, ...] = ()
    found: AnyBase | None = None
    extra: Rows | None = None

    @cached_property
    def block(self) -> AnyBase:
        """The block. Raises Contradiction where its equations cannot hold."""
        if self.found is not None:
            return self.found
        (batch,) = self.batches
        return single_cell(factor_slices(batch, self.system.tolerance), self.system.limits.large_basis)

    @property
    def divisible(self) -> RowBatch | None:
        """The batch, where some of its cells can be taken away and the others stay as they are."""
        return self.batches[0] if self.found is None else None

    @property
    def pairs(self) -> int:
        """(Equation, entry) pairs that there would be one by one."""
        spoken = sum(batch.size * len(batch.matrix) for batch in self.batches)
        spoken += 0 if self.extra is None else len(self.extra.columns)
        return spoken + sum(self.system.rules[rule].nonzeros for rule in self.whole)

    def rows(self) -> Rows:
        """The same equations one by one. Raises TooLargeError."""
        said = [self.system.rows(self.whole)] if self.whole else []
        said += [] if self.extra is None else [self.extra]
        return concatenate([*said, *(batch.rows(self.system.layout) for batch in self.batches)])

    def hit(self, columns: Integers) -> Integers:
        """Numbers of the columns that are entries of the block."""
        return (self.block.entries.find(columns, self.system.layout) >= 0).nonzero()[0]
