"""The entry of a block that moves farthest when every free number moves by one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from affinet.kernels.torch.bases.basis import Basis
from affinet.kernels.torch.bases.tied import apart, together

SAMPLES = 8
"""Random signs that rows are compared by. One alone shows 32 numbers of size 0.4 as less than a single 1 in a third."""
NOISE = 2.0**-32
"""A share of a row below this part of its largest is what rounding left of zero: factors are made in float64."""
ROUNDS = 4
"""Where a round finds no larger row the search ends, most often after two; a bound for the rest."""


@dataclass(frozen=True, slots=True)
class Reach:
    """One entry, `position` in the weight `name`: `length = Σ_j |N_ij|` over the `numbers` that it follows from."""

    name: str
    position: int
    numbers: int
    length: float


def farthest(basis: Basis) -> Reach | None:
    """The row of N of largest absolute sum, or one that is nearly as large; None where nothing is free.

    Law: `length` is exactly that of the entry named, and so never more than the largest.
    Source: Hager's estimator of the norm of a matrix that is only applied (Higham 2002, 15.2). It starts from the row
    that equal signs carry farthest, which is exact for sums, and from the one that random signs do: the mean of
    `(N s)²` over random signs s is `Σ_j N_ij²`.
    """
    if not basis.free:
        return None
    sizes = [place.size for place in basis.places]
    equal = together(basis.linear(torch.ones(basis.free, dtype=torch.float64))).abs()
    squares = torch.zeros_like(equal)
    for signs in _random_signs(basis.free):
        squares += together(basis.linear(signs)).square()
    found: Reach | None = None
    for start in (equal, squares):
        entry = int(start.argmax())
        for _ in range(ROUNDS):
            unit = torch.zeros(sum(sizes), dtype=torch.float64)
            unit[entry] = 1.0
            row = basis.adjoint(apart(unit, sizes))
            length = float(row.abs().sum())
            if found is not None and length <= found.length:
                break
            found = _named(basis, sizes, entry, _followed(row), length)
            entry = int(together(basis.linear(torch.where(row < 0.0, -1.0, 1.0).double())).abs().argmax())
    return found


def _followed(row: Tensor) -> int:
    """How many numbers an entry follows from: shares that are rounding beside the largest are none."""
    share = row.abs()
    return int((share > NOISE * share.max()).sum())


def _named(basis: Basis, sizes: list[int], entry: int, numbers: int, length: float) -> Reach:
    ends = [*accumulate(sizes)]
    number = bisect_right(ends, entry)
    place, within = basis.places[number], entry - ends[number] + sizes[number]
    position = within if place.positions is None else int(place.positions[within])
    return Reach(place.name, position, numbers, length)


def _random_signs(count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(SAMPLES):
        yield torch.randint(0, 2, (count,), generator=generator).double() * 2.0 - 1.0
