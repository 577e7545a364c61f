"""A candidate block: regular rules that become one block unless another equation shares an entry with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from affinet.blocks.bases import AnyBase
from affinet.blocks.regular import RowBatch
from affinet.language.calculus.terms import Integers
from affinet.planning.factors.panels import single_cell
from affinet.planning.factors.slice_factors import factor_slices
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class Candidate:
    """The equations of batches, complete rules and `extra` rows, with the block that holds them all, `solved`.

    Without `solved` the candidate is a single batch, whose block is computed when it is needed.
    """

    system: System
    batches: tuple[RowBatch, ...] = ()
    rules: tuple[int, ...] = ()
    solved: AnyBase | None = None
    extra: Rows | None = None

    @cached_property
    def block(self) -> AnyBase:
        """The block. Raises Contradiction if its equations cannot hold."""
        if self.solved is not None:
            return self.solved
        (batch,) = self.batches
        return single_cell(factor_slices(batch, self.system.tolerance), self.system.limits.large_basis)

    @property
    def divisible(self) -> RowBatch | None:
        """The batch, if cells can be removed without a change of the others; otherwise None."""
        return self.batches[0] if self.solved is None else None

    @property
    def pairs(self) -> int:
        """The number of (equation, entry) pairs of all equations."""
        count = sum(batch.size * len(batch.matrix) for batch in self.batches)
        count += 0 if self.extra is None else len(self.extra.columns)
        return count + sum(self.system.rules[rule].nonzeros for rule in self.rules)

    def rows(self) -> Rows:
        """All equations, one by one. Raises TooLargeError."""
        parts = [self.system.rows(self.rules)] if self.rules else []
        parts += [] if self.extra is None else [self.extra]
        return concatenate([*parts, *(batch.rows(self.system.layout) for batch in self.batches)])

    def find(self, columns: Integers) -> Integers:
        """Indices of the columns that are entries of the block."""
        return (self.block.entries.find(columns, self.system.layout) >= 0).nonzero()[0]
