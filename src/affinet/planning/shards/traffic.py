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
class Message:
    """A message that blocks share: the same verb and round, operation, processes and dtype."""

    of_gradient: bool
    round: int
    operation: Literal["all_reduce", "all_to_all"]
    dimensions: tuple[int, ...]
    """Of the mesh: an all-reduce over several of them is one along each."""
    is_wide: bool = False
    for_doubles: bool = False
    """Sent only where the weights are float64."""


@dataclass(frozen=True)
class Traffic:
    """What one process sends in a step: numbers of the dtype of the weights, and numbers of float64."""

    way: Way
    numbers: int = 0
    wide_numbers: int = 0
    for_doubles: int = 0
    """Further numbers of float64 where the weights are float64."""
    messages: frozenset[Message] = frozenset()
    """Those that the block takes part in, together with others."""
    own_messages: int = 0
    """All-reduces of this block alone."""

    def bytes_sent(self, itemsize: int) -> int:
        """Bytes, for weights whose numbers have `itemsize` bytes; those of 16 bits are sent as float32."""
        further = self.for_doubles if itemsize >= WIDE else 0
        return self.numbers * max(itemsize, LEAST) + (self.wide_numbers + further) * WIDE


def traffic_of(block: AnyBlock, splits: Mapping[str, Splits]) -> Traffic:
    """The traffic of a block whose weights are split over one mesh, of the process that holds most of it."""
    names = [parameter.name for parameter, _ in block.entries.sizes]
    dimensions = tuple(sorted({dimension for name in names for dimension in splits[name].dimensions}))
    if not dimensions:
        return Traffic("local")
    entries = block.entries.count
    match division := division_of(block, splits):
        case DividedValues() | LocalPairs() | LocalSet():
            return Traffic("local")
        case DividedCells():
            return _of_cells(division, splits[division.block.parameter.name])
        case DividedClasses():
            return _of_classes(division, splits, dimensions)
        case DividedCell():
            if not division.across:
                return Traffic("local")
            return Traffic("sums", 2 * division.block.basis.shape[1] + 1, messages=_messages(dimensions))
        case Exchanged():
            dimension = division.dimension
            if dimension is None:
                return Traffic("local")
            crossing = division.grouped.crossing(splits, 0, dimension)
            return Traffic("swaps", 2 * crossing, messages=_swaps(dimension))
        case GivenToAll():
            return Traffic("entries", 2 * entries, messages=_messages(dimensions))
        case GatheredAlone():
            numbers = (0, 2 * entries) if division.block.law().wide else (2 * entries, 0)
            return Traffic("entries", *numbers, own_messages=2 * len(dimensions))
        case GatheredSet():
            # The gradient is read, and the weights before and after the step.
            return Traffic("entries", 3 * entries, own_messages=3 * len(dimensions))
        case _:
            assert_never(division)


def _of_cells(division: DividedCells, splits: Splits) -> Traffic:
    """A number for each equation of the cells of a process, and one more for its noise; copies are sent as well."""
    if not division.dimensions:
        return Traffic("local")
    block, cells = division.block, len(division.loops.on(splits.largest_box).cells)
    rows = len(block.basis)
    of_gradient = 1 if block.even else rows + 1
    messages = _messages(division.dimensions)
    if len(block.copies):
        messages |= _messages(division.dimensions, 1)
    return Traffic("sums", cells * (of_gradient + rows + 2 * len(block.copies)), messages=messages)


def _of_classes(division: DividedClasses, splits: Mapping[str, Splits], dimensions: tuple[int, ...]) -> Traffic:
    """Three numbers for each class that is summed, of float64 also two representatives; and small classes twice."""
    summed = int((division.across & ~division.small).sum())
    sums = frozenset[Message]()
    if summed:
        sums = _messages(dimensions, is_wide=True) | _messages(dimensions, 1, is_wide=True, for_doubles=True)
    if not division.small.any():
        return Traffic("sums" if summed else "local", 0, 3 * summed, 2 * summed, sums)
    small = division.block.only(division.small)
    if division.dimension is None:
        sent, messages = small.size, _messages(dimensions)
    else:
        sent, messages = TiedClasses(small).crossing(splits, 0, division.dimension), _swaps(division.dimension)
    way: Way = "sums" if summed else "entries" if division.dimension is None else "swaps"
    return Traffic(way, 2 * sent, 3 * summed, 2 * summed, sums | messages)


def _messages(
    dimensions: tuple[int, ...], number: int = 0, *, is_wide: bool = False, for_doubles: bool = False
) -> frozenset[Message]:
    """The all-reduces of a round, for the gradient and for the weights."""
    return frozenset(
        Message(of_gradient, number, "all_reduce", dimensions, is_wide, for_doubles) for of_gradient in (True, False)
    )


def _swaps(dimension: int) -> frozenset[Message]:
    return frozenset(Message(of_gradient, 0, "all_to_all", (dimension,)) for of_gradient in (True, False))
