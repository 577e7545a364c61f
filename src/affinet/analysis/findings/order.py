"""Find matrices of linear rules whose columns fit the listed weights only in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from affinet.analysis.lookup.entry_names import cut
from affinet.language.calculus.terms import Integers, Parameter
from affinet.system.layout import Layout
from affinet.system.rows import Rows

MOST_LISTED = 3
"""All orders of up to this many weights are tried."""


@dataclass(frozen=True)
class OtherOrder:
    """A linear rule that reads whole rows or columns of its matrices only if its weights stand in another `order`."""

    rule: str
    listed: tuple[str, ...]
    order: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f'A in "{cut(self.rule)}" looks misaligned: with its weights in the order [{", ".join(self.order)}] every '
            f"equation reads whole rows or columns of them, and not in the order [{', '.join(self.listed)}] in which "
            f"they are listed. If A was made for the former, list them so."
        )


def other_order(rule: str, rows: Rows, listed: Sequence[Parameter], layout: Layout) -> OtherOrder | None:
    """A finding if exactly one order of the weights, and not the listed one, has all matrices read by lines.

    By lines: the equations that read two entries or more of a matrix read each of its rows, or each of its columns,
    and nothing else.
    """
    matrices = [weight for weight in listed if len(weight.shape) == 2 and min(weight.shape) > 1]
    if not 2 <= len(listed) <= MOST_LISTED or not matrices:
        return None
    columns = _columns_of_the_matrix(rows.columns, listed, layout)
    if columns is None or any(_reads_by_lines(rows, columns, listed, weight) for weight in matrices):
        return None
    fitting = [
        order
        for order in permutations(listed)
        if all(_reads_by_lines(rows, columns, order, weight) for weight in matrices)
    ]
    if len(fitting) != 1:
        return None
    return OtherOrder(rule, tuple(weight.name for weight in listed), tuple(weight.name for weight in fitting[0]))


def _columns_of_the_matrix(entries: Integers, listed: Sequence[Parameter], layout: Layout) -> Integers | None:
    """The column of A for each entry; None where a weight is listed twice."""
    if len({weight.name for weight in listed}) < len(listed):
        return None
    columns, first = np.zeros(len(entries), np.int64), 0
    for weight in listed:
        start = layout.start(weight)
        inside = (entries >= start) & (entries < start + weight.size)
        columns[inside] = entries[inside] - start + first
        first += weight.size
    return columns


def _reads_by_lines(rows: Rows, columns: Integers, order: Sequence[Parameter], weight: Parameter) -> bool:
    """Whether the equations read each row or each column of a weight, were A made for the weights in this order."""
    first = sum(other.size for other in order[: list(order).index(weight)])
    inside = (columns >= first) & (columns < first + weight.size)
    counts = np.bincount(rows.row_of_each()[inside], minlength=rows.count)
    places, bounds = columns[inside] - first, np.concatenate([[0], np.cumsum(counts)])
    supports = {tuple(np.sort(places[bounds[row] : bounds[row + 1]]).tolist()) for row in np.flatnonzero(counts > 1)}
    if (counts == 1).any() or len(places) < weight.size:  # all lines together are every entry
        return False
    grid = np.arange(weight.size).reshape(weight.shape)
    return supports in ({tuple(line.tolist()) for line in grid}, {tuple(line.tolist()) for line in grid.T})
