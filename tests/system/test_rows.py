"""Sparse equations: triples that meet add up, what cancels is gone, and rows keep the way back to their rule."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from affinet.system.rows import Rows, concatenate, gather_rows
from affinet.system.tolerance import Tolerance

CANCELLATION = Tolerance().cancellation
TRIPLES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(-3, 3).map(float)), max_size=30)


def gathered(triples: list[tuple[int, int, float]], count: int = 5) -> Rows:
    row, column, value = (np.array([t[k] for t in triples], kind) for k, kind in enumerate((int, int, float)))
    return gather_rows(
        row, column, value, np.arange(count) * 1.5, np.arange(count) // 2, np.arange(count), CANCELLATION
    )


def written_out(triples: list[tuple[int, int, float]], width: int = 7) -> np.ndarray:
    dense = np.zeros((5, width))
    for row, column, value in triples:
        dense[row, column] += value
    return dense


@given(TRIPLES)
def test_gathered_rows_are_the_sum_of_their_triples(triples: list[tuple[int, int, float]]) -> None:
    triples = [t for t in triples if t[2]]
    rows = gathered(triples)
    np.testing.assert_array_equal(rows.matrix(7).toarray(), written_out(triples))
    np.testing.assert_array_equal(rows.lengths, (written_out(triples) != 0).sum(axis=1))
    for row in range(5):
        assert (np.diff(rows.columns[rows.bounds[row] : rows.bounds[row + 1]]) > 0).all()


def test_triples_that_cancel_leave_nothing_behind() -> None:
    rows = gathered([(1, 2, 0.1), (1, 2, 0.2), (1, 2, -0.3), (1, 3, 1.0), (2, 2, 5.0), (2, 2, -5.0)])
    assert rows.lengths.tolist() == [0, 1, 0, 0, 0]
    assert rows.columns.tolist() == [3]


def test_what_is_left_of_larger_numbers_counts_only_above_their_rounding() -> None:
    kept = gathered([(0, 0, 1.0), (0, 0, -1.0 + 64 * CANCELLATION)])
    assert kept.lengths[0] == 1
    gone = gathered([(0, 0, 1.0), (0, 0, -1.0 + CANCELLATION)])
    assert gone.lengths[0] == 0


def test_small_numbers_alone_are_no_rounding() -> None:
    assert gathered([(0, 0, 1e-30), (0, 1, 1.0), (0, 0, 1e-30)]).values.tolist() == [2e-30, 1.0]


@given(TRIPLES, st.lists(st.integers(0, 4), max_size=6))
def test_selecting_takes_rows_in_the_order_asked_for(triples: list[tuple[int, int, float]], kept: list[int]) -> None:
    rows, order = gathered(triples), np.array(kept, np.int64)
    chosen = rows.select(order)
    np.testing.assert_array_equal(chosen.matrix(7).toarray(), rows.matrix(7).toarray()[order])
    for name in ("rhs", "rule", "index"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(rows, name)[order])
    assert chosen.count == len(kept)


@given(TRIPLES, TRIPLES)
def test_concatenating_stacks_rows(first: list[tuple[int, int, float]], second: list[tuple[int, int, float]]) -> None:
    parts = [gathered(first), gathered([], 0), gathered(second)]
    whole = concatenate(parts)
    np.testing.assert_array_equal(
        whole.matrix(7).toarray(), np.concatenate([part.matrix(7).toarray() for part in parts])
    )
    np.testing.assert_array_equal(whole.rhs, np.concatenate([part.rhs for part in parts]))
    np.testing.assert_array_equal(whole.row_of_each(), np.repeat(np.arange(10), whole.lengths))


def test_one_part_is_passed_on_and_no_part_is_no_rows() -> None:
    rows = gathered([(0, 1, 2.0)])
    assert concatenate([rows]) is rows
    assert concatenate([]).count == 0
