"""Covering arrays contain every pair, and hardly more rows than the two longest axes have pairs."""

from __future__ import annotations

from itertools import combinations, product
from math import prod

import pytest

from tests.pairwise import pairwise

SIZES = [
    (4,),
    (4, 3),
    (132, 2, 3),
    (132, 2, 3, 3),
    (132, 5, 2, 3),
    (2, 2, 2, 2),
    (3, 3, 3, 3),
    (2, 3, 4, 5),
    (5, 1, 2),
    (3, 0, 2),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_pair_of_two_axes_occurs(sizes: tuple[int, ...]) -> None:
    axes = [[f"{axis}.{value}" for value in range(size)] for axis, size in enumerate(sizes)]
    rows = pairwise(*axes)
    assert all(value in axis for row in rows for axis, value in zip(axes, row, strict=True))
    if not all(sizes):
        assert rows == []
        return
    for a, b in combinations(range(len(sizes)), 2):
        assert {(row[a], row[b]) for row in rows} == set(product(axes[a], axes[b]))
    for axis, values in enumerate(axes):
        assert {row[axis] for row in rows} == set(values)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_few_rows_are_needed_each_once_and_always_the_same(sizes: tuple[int, ...]) -> None:
    rows = pairwise(*map(range, sizes))
    assert rows == sorted(set(rows)) == pairwise(*map(range, sizes))
    longest = prod(sorted(sizes)[-2:])
    # Every pair of the two longest axes takes a row of its own; a square of short axes may take some more.
    assert longest * all(sizes) <= len(rows) <= 2 * longest


def test_values_occur_about_equally_often() -> None:
    """Short axes are balanced: none of their pairs is left to a single row of a long table."""
    rows = pairwise(range(132), range(5), ("equations", "terms"), ("float64", "float32", "bfloat16"))
    for path, dtype, law in product(("equations", "terms"), ("float64", "float32", "bfloat16"), range(5)):
        assert sum(row[1:] == (law, path, dtype) for row in rows) >= 132 // 6 // 2
