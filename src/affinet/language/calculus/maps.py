"""Compute with maps, which say where a loop variable points, as a step or as a table."""

from __future__ import annotations

import numpy as np

from affinet.language.calculus.marked import Marked
from affinet.language.calculus.progressions import as_slice
from affinet.language.calculus.terms import Integers, Map, Source, narrow, table


def scale_map(positions: Map, factor: int) -> Map:
    """`factor` times every position."""
    if isinstance(positions, int):
        return positions * factor
    return positions if factor == 1 else narrow(positions.astype(np.int64) * factor)


def add_maps(first: Source, second: Source, size: int) -> Map:
    """The sums of two maps of one variable of size `size`."""
    if isinstance(first, int) and isinstance(second, int):
        return first + second
    return narrow(table(first, size).astype(np.int64) + table(second, size))


def at_points(positions: Source, points: Integers) -> Map:
    """The map of a variable that visits `points` one after the other."""
    if isinstance(positions, Marked):
        return positions.table()[points]
    if not isinstance(positions, int):
        return positions[points]
    if positions == 0:
        return 0
    return narrow(points) if positions == 1 else narrow(points.astype(np.int64) * positions)


def at_range(positions: Source, points: range) -> tuple[Map, int]:
    """The map of a variable that visits a range of points, and the number that is added to every position."""
    if isinstance(positions, Marked):
        if len(points) == 1:
            return 0, positions.at(points.start)
        positions = positions.table()
    if isinstance(positions, int):
        return positions * points.step, positions * points.start
    return positions[as_slice(points)], 0


def first_position(positions: Source) -> int:
    """The position of a map at 0."""
    if isinstance(positions, Marked):
        return positions.at(0)
    return 0 if isinstance(positions, int) else int(positions[0])


def as_step(positions: Source) -> tuple[Map, int]:
    """A map and a number to add to it: a step where the map is an arithmetic progression, else the map and 0."""
    positions = positions.table() if isinstance(positions, Marked) else positions
    if isinstance(positions, int) or len(positions) < 2:
        return positions, 0
    step = int(positions[1]) - int(positions[0])
    first, last = int(positions[0]), int(positions[-1])
    if step == 0 or last - first != step * (len(positions) - 1) or not (np.diff(positions) == step).all():
        return positions, 0
    return step, first
