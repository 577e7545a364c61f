"""Find rules that are searched as one large polyhedron, whose steps take long where its active rows change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from affinet.analysis.lookup.entry_names import by_rules
from affinet.blocks.block import Block
from affinet.system.system import System

MANY_ROWS = 1_000
"""Rows of one polyhedron from which on it is reported: a dense factor of so many takes some hundredths of a second."""


@dataclass(frozen=True)
class LargeSearch:
    """Rules that share weights in one polyhedron of `rows` rows over `entries` weights, solved as `form` says."""

    rules: tuple[str, ...]
    form: str
    rows: int
    entries: int

    def __str__(self) -> str:
        are = "is" if len(self.rules) == 1 else "are"
        return (
            f"{by_rules(self.rules)} {are} searched as one set over {self.entries:,} weights: {self.form}. A step in "
            f"which other bounds or rows become active factors the active ones of {self.rows:,} rows anew, in time "
            f"that grows with the cube of their number. Rules that share no weights are searched by themselves."
        )


def large_searches(system: System, blocks: Sequence[Block]) -> Iterator[LargeSearch]:
    """The blocks of one set with many rows that share weights."""
    for block in blocks:
        rows = block.resolution().searched
        if rows >= MANY_ROWS:
            names = tuple(system.rules[number].name for number in block.rules)
            yield LargeSearch(names, block.describe(), rows, block.size)
