"""Finds the entry of a block that moves farthest when every free number moves by one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from affinet.kernels.bases.basis import Basis
from affinet.kernels.bases.operations import NumPyOperations
from affinet.kernels.bases.tied_bases import join_flat, split_flat
from affinet.language.calculus.terms import Floats

SAMPLES = 8
"""Random sign vectors that rows are compared by. A single one shows 32 numbers of size 0.4 as less than one number of
size 1 in a third of all cases."""
NOISE = 2.0**-32
"""Numbers of a row below this fraction of its largest are rounded zeros: factors are computed in float64."""
NUMPY = NumPyOperations()
ROUNDS = 4
"""The most rounds of the search. It ends when a round finds no larger row, usually after two rounds."""


@dataclass(frozen=True, slots=True)
class Reach:
    """An entry, `position` in the weight `name`: `length = Σ_j |N_ij|` over the `numbers` that it depends on."""

    name: str
    position: int
    numbers: int
    length: float


def farthest(basis: Basis) -> Reach | None:
    """The row of N with the largest absolute sum, or nearly the largest; None without free numbers.

    Law: `length` is exact for the returned entry, and so never more than the largest.
    Source: Hager's estimator of the norm of a matrix that is only applied (Higham 2002, 15.2). It starts from the row
    with the largest `N 1`, which is exact for sums, and from the row with the largest mean of `(N s)²` over random
    signs s, which estimates `Σ_j N_ij²`.
    """
    if not basis.free:
        return None
    sizes = [place.size for place in basis.places]
    equal = abs(join_flat(NUMPY, basis.linear(NUMPY, np.ones(basis.free))))
    squares = np.zeros_like(equal)
    for signs in _random_signs(basis.free):
        squares += join_flat(NUMPY, basis.linear(NUMPY, signs)) ** 2
    longest: Reach | None = None
    for start in (equal, squares):
        entry = int(start.argmax())
        for _ in range(ROUNDS):
            unit = np.zeros(sum(sizes))
            unit[entry] = 1.0
            row = basis.adjoint(NUMPY, split_flat(NUMPY, unit, sizes))
            length = float(abs(row).sum())
            if longest is not None and length <= longest.length:
                break
            longest = _named(basis, sizes, entry, _followed(row), length)
            signs = np.where(row < 0.0, -1.0, 1.0)
            entry = int(abs(join_flat(NUMPY, basis.linear(NUMPY, signs))).argmax())
    return longest


def _followed(row: Floats) -> int:
    """The number of free numbers that an entry depends on, not counting those that are rounding of the largest."""
    share = abs(row)
    return int((share > NOISE * share.max()).sum())


def _named(basis: Basis, sizes: list[int], entry: int, numbers: int, length: float) -> Reach:
    ends = [*accumulate(sizes)]
    number = bisect_right(ends, entry)
    place, within = basis.places[number], entry - ends[number] + sizes[number]
    position = within if place.positions is None else int(place.positions[within])
    return Reach(place.name, position, numbers, length)


def _random_signs(count: int) -> Iterator[Floats]:
    generator = np.random.default_rng(0)
    for _ in range(SAMPLES):
        yield np.where(generator.integers(0, 2, count) == 1, 1.0, -1.0)
