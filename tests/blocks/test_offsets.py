"""Nests and tables are sets of positions: compression keeps them, and disjointness is what counting says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinet.blocks.offsets import Nest, Offsets, Table, compress, disjoint_sums, merged, mixed_radix

DIMS = st.lists(st.tuples(st.integers(1, 4), st.integers(-9, 9)), max_size=4).map(tuple)
POSITIONS = st.lists(st.integers(-30, 60), min_size=1, max_size=25).map(lambda p: np.array(p, np.int64))
SETS = DIMS.map(Nest) | st.sets(st.integers(0, 60), min_size=1, max_size=12).map(lambda p: Table(np.array(sorted(p))))


def brute(dims: tuple[tuple[int, int], ...]) -> list[int]:
    positions = [0]
    for size, step in dims:
        positions = [p + i * step for p in positions for i in range(size)]
    return positions


@given(DIMS)
def test_a_nest_is_its_loops_the_last_one_fastest(dims: tuple[tuple[int, int], ...]) -> None:
    nest, positions = Nest(dims), brute(dims)
    assert nest.table().tolist() == positions
    assert nest.size == len(positions)
    assert nest.bounds() == (min(positions), max(positions))
    assert nest.nbytes == 16 * len(dims)


@given(DIMS)
def test_merging_loops_keeps_positions_and_their_order(dims: tuple[tuple[int, int], ...]) -> None:
    fewer = merged(dims)
    assert brute(fewer) == brute(dims)
    assert all(size > 1 for size, _ in fewer)
    assert merged(fewer) == fewer


def test_whole_tensors_merge_into_one_loop() -> None:
    assert merged([(3, 20), (4, 5), (5, 1)]) == ((60, 1),)
    assert merged([(3, 20), (1, 7), (4, 5), (3, 1)]) == ((12, 5), (3, 1))


@given(POSITIONS)
def test_compressing_keeps_positions_and_their_order(positions: np.ndarray) -> None:
    first, offsets = compress(positions)
    np.testing.assert_array_equal(first + offsets.table(), positions)
    assert offsets.size == len(positions)
    low, high = offsets.bounds()
    assert (first + low, first + high) == (positions.min(), positions.max())


@given(st.lists(st.tuples(st.integers(2, 4), st.integers(1, 3)), max_size=4), st.integers(0, 99))
def test_regular_positions_compress_to_a_nest(factors: list[tuple[int, int]], first: int) -> None:
    dims, step = [], 1
    for size, gap in factors:
        step *= gap
        dims.append((size, step))
        step *= size
    positions = first + Nest(tuple(reversed(dims))).table()
    found, offsets = compress(positions)
    assert found == first
    assert isinstance(offsets, Nest)
    assert merged(offsets.dims) == merged(tuple(reversed(dims)))


@pytest.mark.parametrize("positions", [[0, 1, 2, 4], [0, 0], [5, 3, 3], [0, 1, 4, 5, 8, 10]])
def test_irregular_positions_stay_a_table(positions: list[int]) -> None:
    first, offsets = compress(np.array(positions))
    assert isinstance(offsets, Table)
    assert offsets.positions.dtype == np.int32
    assert offsets.nbytes == 4 * len(positions)
    assert (first + offsets.table()).tolist() == positions


def test_tables_of_far_positions_take_64_bits() -> None:
    _, offsets = compress(np.array([0, 1, 2**31]))
    assert isinstance(offsets, Table)
    assert offsets.positions.dtype == np.int64
    assert offsets.table().tolist() == [0, 1, 2**31]


def test_tables_are_equal_by_content() -> None:
    one, same, other = (Table(np.array(p)) for p in ([0, 2, 3], [0, 2, 3], [0, 2, 4]))
    assert one == same
    assert one != other
    assert one != Nest(((3, 1),))
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


@given(SETS, SETS)
def test_sums_are_disjoint_when_no_position_repeats(outer: Offsets, inner: Offsets) -> None:
    sums = (outer.table()[:, None] + inner.table()).ravel()
    assert disjoint_sums(outer, inner) == (len(np.unique(sums)) == len(sums))
    if mixed_radix(outer, inner):
        assert disjoint_sums(outer, inner)


def test_disjoint_by_count_is_no_radix() -> None:
    outer, inner = Nest(((3, 4),)), Nest(((3, 3),))
    assert disjoint_sums(outer, inner)
    assert not mixed_radix(outer, inner)


def test_large_sets_that_are_no_radix_are_not_counted() -> None:
    assert disjoint_sums(Nest(((4096, 11008),)), Nest(((11008, 1),)))
    assert not disjoint_sums(Nest(((2000, 2001),)), Nest(((2000, 2000),)))
    assert disjoint_sums(Nest(((500, 501),)), Nest(((500, 500),)))
