"""The small arithmetic under terms: progressions that meet, maps, and the pairs that a term stands for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from affinet.language.calculus.maps import add_maps, as_step, at_points, scale_map
from affinet.language.calculus.progressions import as_slice, common_indices
from affinet.language.calculus.terms import (
    Factor,
    Parameter,
    Term,
    Variable,
    held_bytes,
    identity,
    lower,
    narrow,
    row_major_steps,
)

STEPS = st.integers(-7, 7).filter(bool)
RANGES = st.builds(lambda a, s, n: range(a, a + s * n, s), st.integers(-20, 20), STEPS, st.integers(1, 15))


@given(RANGES, RANGES)
def test_meeting_finds_every_equal_pair_in_the_order_of_the_second(first: range, second: range) -> None:
    truth = [(first.index(value), j) for j, value in enumerate(second) if value in first]
    met = common_indices(first, second)
    assert (list(zip(*met, strict=True)) if met else []) == truth


@given(RANGES.filter(lambda r: min(r) >= 0))
def test_a_slice_reads_the_positions_of_its_range(positions: range) -> None:
    np.testing.assert_array_equal(np.arange(200)[as_slice(positions)], positions)


def test_maps_are_steps_or_tables() -> None:
    table = np.array([2, 0, 1], np.int32)
    assert scale_map(3, 4) == 12
    assert scale_map(table, 2**31).dtype == np.int64  # type: ignore[union-attr]
    assert add_maps(1, 2, 3) == 3
    np.testing.assert_array_equal(add_maps(table, 10, 3), [2, 10, 21])
    np.testing.assert_array_equal(at_points(5, table), [10, 0, 5])
    np.testing.assert_array_equal(at_points(table, np.array([2, 2])), [1, 1])
    assert as_step(np.array([3, 5, 7])) == (2, 3)
    assert as_step(table)[0] is table
    assert narrow(np.array([2**31])).dtype == np.int64
    assert narrow(np.array([-(2**31)])).dtype == np.int32
    assert narrow(np.array([], np.int64)).dtype == np.int32


def test_a_parameter_reads_itself() -> None:
    assert row_major_steps((2, 3, 4)) == (12, 4, 1)
    term = identity(Parameter("p", (2, 1, 3)))
    rows, entries, values = lower(term, (2, 1, 3))
    np.testing.assert_array_equal(rows, range(6))
    np.testing.assert_array_equal(entries, range(6))
    np.testing.assert_array_equal(values, np.ones(6))
    assert term.count == 6
    assert term.variables_on(2) == [1]
    assert held_bytes(term) == 192


def test_pairs_with_coefficient_zero_are_not_written_out() -> None:
    factor = Factor((0,), np.array([1.0, 0.0, 2.0]))
    term = Term(Parameter("p", (3,)), 0, (Variable(3, 1),), 1.0, (factor,), (None,))
    rows, entries, values = lower(term, (2,))
    assert list(zip(rows.tolist(), entries.tolist(), values.tolist(), strict=True)) == [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 2, 2.0),
        (1, 2, 2.0),
    ]
