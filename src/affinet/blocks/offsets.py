"""A set of positions in one parameter: a nest of strided loops where it is regular, a table where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod

import numpy as np

from affinet.language.calculus.terms import Integers, row_major_steps

Dim = tuple[int, int]
"""A loop: (size, step), in entries."""


@dataclass(frozen=True)
class Nest:
    """Positions `Σ_k step_k · i_k` over all `0 <= i_k < size_k`, the last loop fastest."""

    dims: tuple[Dim, ...]

    @cached_property
    def size(self) -> int:
        return prod(size for size, _ in self.dims)

    @property
    def nbytes(self) -> int:
        return 16 * len(self.dims)

    def table(self) -> Integers:
        positions = np.zeros(1, np.int64)
        for size, step in self.dims:
            positions = (positions[:, None] + np.arange(size, dtype=np.int64) * step).ravel()
        return positions

    def bounds(self) -> tuple[int, int]:
        """Lowest and highest position."""
        reaches = [step * (size - 1) for size, step in self.dims]
        return sum(min(0, reach) for reach in reaches), sum(max(0, reach) for reach in reaches)


@dataclass(frozen=True, eq=False)
class Table:
    """Positions listed individually."""

    positions: Integers

    @property
    def size(self) -> int:
        return len(self.positions)

    @property
    def nbytes(self) -> int:
        return int(self.positions.nbytes)

    def table(self) -> Integers:
        return self.positions.astype(np.int64, copy=False)

    def bounds(self) -> tuple[int, int]:
        return int(self.positions.min()), int(self.positions.max())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and np.array_equal(self.positions, other.positions)

    __hash__ = None  # type: ignore[assignment]  # equal by content, and content is an array


Offsets = Nest | Table


def merged(dims: Sequence[Dim]) -> tuple[Dim, ...]:
    """The same positions in the same order with as few loops as possible."""
    result: list[Dim] = []
    for size, step in dims:
        if size == 1:
            continue
        if result and result[-1][1] == size * step:
            result[-1] = (result[-1][0] * size, step)
        else:
            result.append((size, step))
    return tuple(result)


def compress(positions: Integers) -> tuple[int, Offsets]:
    """The first position, and all positions relative to it: as a nest of up to four loops if they form one."""
    first = int(positions[0])
    relative = positions.astype(np.int64, copy=False) - first
    dims: list[Dim] = []
    remaining = relative
    while len(remaining) > 1 and len(dims) < 4:
        step = int(remaining[1])
        breaks = np.flatnonzero(np.diff(remaining) != step)
        size = int(breaks[0]) + 1 if len(breaks) else len(remaining)
        if len(remaining) % size or step == 0:
            return first, _table(relative)
        block = remaining.reshape(-1, size)
        if (block != block[:, :1] + np.arange(size) * step).any():
            return first, _table(relative)
        dims.append((size, step))
        remaining = block[:, 0]
    return (first, Nest(tuple(reversed(dims)))) if len(remaining) == 1 else (first, _table(relative))


def disjoint_sums(outer: Offsets, inner: Offsets) -> bool:
    """Whether all positions `outer + inner` differ: by their steps, or by comparing them where the set is small."""
    return mixed_radix(outer, inner) or (outer.size * inner.size <= 1_000_000 and _all_differ(outer, inner))


def mixed_radix(outer: Offsets, inner: Offsets) -> bool:
    """Whether the loops are digits: sorted by step, every step is larger than the reach of all smaller loops together.

    Then all positions differ, and dividing by the largest step first finds the digits of each position. An irregular
    set counts as one loop whose step is the greatest common divisor of its differences.
    """
    digits = sorted((step, reach) for part in (outer, inner) for step, reach in _digits(part))
    reached = 0
    for step, reach in digits:
        if step <= reached:
            return False
        reached += reach
    return True


def located(dims: Sequence[Dim], positions: Integers) -> Integers:
    """The place of each position in the row-major order of loops that are digits; −1 for a position not reached."""
    remainder = positions - sum(step * (n - 1) for n, step in dims if step < 0)
    place = np.zeros(len(positions), np.int64)
    weights = row_major_steps(tuple(size for size, _ in dims))
    for (size, step), weight in sorted(zip(dims, weights, strict=True), key=lambda loop: -abs(loop[0][1])):
        if size > 1:
            digit = np.clip(remainder // abs(step), 0, size - 1)
            remainder = remainder - digit * abs(step)
            place += weight * (size - 1 - digit if step < 0 else digit)
    return np.where(remainder == 0, place, -1)


def _digits(part: Offsets) -> list[Dim]:
    if isinstance(part, Nest):
        return [(abs(step), abs(step) * (size - 1)) for size, step in part.dims if size > 1]
    if part.size < 2:
        return []
    ordered = np.sort(part.table())
    gaps = np.diff(ordered)
    return [(gcd(*(int(g) for g in np.unique(gaps))), int(ordered[-1] - ordered[0]))]


def _all_differ(outer: Offsets, inner: Offsets) -> bool:
    positions = (outer.table()[:, None] + inner.table()).ravel()
    return len(np.unique(positions)) == len(positions)


def _table(relative: Integers) -> Table:
    fits = len(relative) == 0 or (abs(int(relative.min())) < 2**31 and int(relative.max()) < 2**31)
    return Table(relative.astype(np.int32) if fits else relative)
