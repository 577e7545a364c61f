"""Counts the numbers that a step under the rules of a block sends between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from affinet.blocks.kinds import AnyBlock
from affinet.planning.shards.division import (
    DividedCell,
    DividedCells,
    DividedClasses,
    DividedValues,
    Exchanged,
    GatheredAlone,
    GatheredSet,
    GivenToAll,
    LocalPairs,
    LocalSet,
    division_of,
)
from affinet.planning.shards.exchanged import TiedClasses
from affinet.planning.shards.splits import Splits

Way = Literal["local", "sums", "swaps", "entries"]
"""What processes exchange: nothing; sums over the entries of each; entries with those who hold their partners; or all
entries, with all."""
WIDE = 8
"""Bytes of a number that is added up in float64."""
LEAST = 4
"""Bytes of a number that is computed in float32, the coarsest dtype that kernels work in."""


@dataclass(frozen=True)
class Traffic:
    """What one process sends in a step: numbers of the dtype of the weights, and numbers of float64."""

    way: Way
    numbers: int = 0
    wide_numbers: int = 0
    for_doubles: int = 0
    """Further numbers of float64 where the weights are float64."""

    def bytes_sent(self, itemsize: int) -> int:
        """Bytes, for weights whose numbers have `itemsize` bytes; those of 16 bits are sent as float32."""
        further = self.for_doubles if itemsize >= WIDE else 0
        return self.numbers * max(itemsize, LEAST) + (self.wide_numbers + further) * WIDE


def traffic_of(block: AnyBlock, splits: Mapping[str, Splits]) -> Traffic:
    """The traffic of a block whose weights are split over one mesh, of the process that holds most of it."""
    if not any(splits[parameter.name].dimensions for parameter, _ in block.entries.sizes):
        return Traffic("local")
    entries = block.entries.count
    match division := division_of(block, splits):
        case DividedValues() | LocalPairs() | LocalSet():
            return Traffic("local")
        case DividedCells():
            return _of_cells(division, splits[division.block.parameter.name])
        case DividedClasses():
            return _of_classes(division, splits)
        case DividedCell():
            rows = division.block.basis.shape[1]
            return Traffic("sums", 2 * rows + 1) if division.across else Traffic("local")
        case Exchanged():
            dimension = division.dimension
            if dimension is None:
                return Traffic("local")
            return Traffic("swaps", 2 * division.grouped.crossing(splits, 0, dimension))
        case GivenToAll():
            return Traffic("entries", 2 * entries)
        case GatheredAlone():
            is_wide = division.block.law().wide
            return Traffic("entries", 0 if is_wide else 2 * entries, 2 * entries if is_wide else 0)
        case GatheredSet():
            # The gradient is read, and the weights before and after the step.
            return Traffic("entries", 3 * entries)
        case _:
            assert_never(division)


def _of_cells(division: DividedCells, splits: Splits) -> Traffic:
    """A number for each equation of the cells of a process, and one more for its noise; copies are sent as well."""
    if not division.dimensions:
        return Traffic("local")
    block, cells = division.block, len(division.loops.on(splits.largest_box).cells)
    rows = len(block.basis)
    of_gradient = 1 if block.even else rows + 1
    return Traffic("sums", cells * (of_gradient + rows + 2 * len(block.copies)))


def _of_classes(division: DividedClasses, splits: Mapping[str, Splits]) -> Traffic:
    """Three numbers for each class that is summed, of float64 also two representatives; and small classes twice."""
    summed = int((division.across & ~division.small).sum())
    if not division.small.any():
        return Traffic("sums" if summed else "local", 0, 3 * summed, 2 * summed)
    small = division.block.only(division.small)
    if division.dimension is None:
        sent = small.size
    else:
        sent = TiedClasses(small).crossing(splits, 0, division.dimension)
    way: Way = "sums" if summed else "entries" if division.dimension is None else "swaps"
    return Traffic(way, 2 * sent, 3 * summed, 2 * summed)
