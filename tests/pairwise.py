"""Build a covering array: few combinations of several axes that still contain every pair of values of any two axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from itertools import product
from typing import Any


def pairwise(*axes: Collection[Any]) -> list[tuple[Any, ...]]:
    """Rows with one value per axis, sorted in the order of the axes, that contain every pair of values of two axes.

    The two longest axes are crossed in full; each further axis gives every row the value that completes the most
    missing pairs, and then adds rows for the pairs that are still missing. Ties go to the value that was paired least
    often, so that all pairs occur about equally often. The same axes give the same rows in every process.
    Source: "in parameter order" (Lei & Tai, In-parameter-order: a test generation strategy for pairwise testing, 1998).
    """
    lists = [list(axis) for axis in axes]
    if not all(lists):
        return []
    order = sorted(range(len(lists)), key=lambda place: (-len(lists[place]), place))
    rows = [dict(zip(order, values, strict=False)) for values in product(*(range(len(lists[k])) for k in order[:2]))]
    for count in range(2, len(order)):
        _add_axis(rows, order[:count], order[count], lists)
    chosen = sorted(tuple(row[place] for place in range(len(lists))) for row in rows)
    return [tuple(axis[value] for axis, value in zip(lists, row, strict=True)) for row in chosen]


def _add_axis(rows: list[dict[int, int]], before: list[int], axis: int, lists: list[list[Any]]) -> None:
    """Give each row a value of `axis`, and append rows until every pair of it with the axes before is there."""
    values = range(len(lists[axis]))
    times: Counter[tuple[int, int, int]] = Counter()
    for number, row in enumerate(rows):
        row[axis] = min(
            values,
            key=lambda value: (
                -sum(not times[other, row[other], value] for other in before),
                sum(times[other, row[other], value] for other in before),
                (value - number) % len(values),
            ),
        )
        times.update((other, row[other], row[axis]) for other in before)
    for other, value in product(before, values):
        for partner in range(len(lists[other])):
            if not times[other, partner, value]:
                row = dict.fromkeys(before, 0) | {other: partner, axis: value}
                rows.append(row)
                times.update((place, row[place], value) for place in before)
