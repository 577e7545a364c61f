"""Row batches: which cells positions lie in, what is left without some cells, and the same equations one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from affinet.blocks.offsets import Nest, Offsets, Table, compress
from affinet.blocks.regular import RowBatch, row_batch, shared
from affinet.errors import TooLargeError
from affinet.language.calculus.terms import Parameter
from affinet.system.layout import Layout

PARAMETER = Parameter("p", (400,))
LAYOUT = Layout((Parameter("a", (7,)), PARAMETER))
STEPS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), max_size=3).map(tuple)
RISING = st.sets(st.integers(0, 40), min_size=1, max_size=8).map(lambda p: np.array(sorted(p)))
OUTERS = STEPS.map(Nest) | RISING.map(lambda p: Table(p - p[0])) | RISING.map(lambda p: Table((p - p[0])[::-1].copy()))
INNERS = STEPS.map(lambda dims: np.sort(Nest(dims).table())) | RISING


@st.composite
def batches(draw: st.DrawFn) -> RowBatch:
    outer, inner = draw(OUTERS), draw(INNERS)
    draw_numbers = np.random.default_rng(draw(st.integers(0, 99)))
    r = draw(st.integers(1, 3))
    matrix = draw_numbers.integers(1, 4, (r, len(inner))).astype(float)
    if draw(st.booleans()):
        matrix[:] = 2.0
    rhs = draw_numbers.integers(-2, 3, (outer.size if draw(st.booleans()) else 1, r)).astype(float)
    owner = draw_numbers.integers(0, 3, (len(rhs), r))
    found = row_batch(PARAMETER, 10, outer, inner, matrix, rhs, owner)
    assume(found is not None)
    return found


def cells_by_search(batch: RowBatch, positions: np.ndarray) -> list[int]:
    return [c for c, places in enumerate(batch.positions().tolist()) if set(places) & set(positions.tolist())]


@given(batches(), st.lists(st.integers(0, 399), max_size=10))
def test_cells_of_positions_are_those_of_a_search(batch: RowBatch, positions: list[int]) -> None:
    asked = np.unique(np.array(positions, np.int64))
    assert batch.cells_of(asked).tolist() == cells_by_search(batch, asked)


@given(batches())
def test_every_entry_lies_in_its_own_cell(batch: RowBatch) -> None:
    table = batch.positions()
    assert (int(table.min()), int(table.max())) == batch.span
    assert batch.size == table.size == len(np.unique(table))
    for cell, places in enumerate(table):
        for place in places:
            assert batch.cells_of(np.array([place])).tolist() == [cell]


def test_cells_that_interleave_without_a_radix_are_found() -> None:
    batch = row_batch(
        PARAMETER, 0, Nest(((3, 4),)), np.array([0, 3, 6]), np.ones((1, 3)), np.zeros((1, 1)), np.zeros((1, 1), int)
    )
    assert batch is not None
    assert [batch.cells_of(np.array([p])).tolist() for p in (0, 6, 7, 8, 11, 1)] == [[0], [0], [1], [2], [2], []]


def equations(batch: RowBatch) -> list[tuple[tuple[tuple[int, float], ...], float, int]]:
    """Every equation as its (column, coefficient) pairs, its right-hand side and its rule."""
    rows = batch.rows(LAYOUT)
    found = []
    for k in range(rows.count):
        place = slice(rows.bounds[k], rows.bounds[k + 1])
        pairs = zip(rows.columns[place].tolist(), rows.values[place].tolist(), strict=True)
        found.append((tuple(pairs), float(rows.rhs[k]), int(rows.rule[k])))
    return found


@given(batches())
def test_one_by_one_the_equations_are_the_same(batch: RowBatch) -> None:
    r = len(batch.matrix)
    rhs, owner = (np.broadcast_to(x, (batch.cells, r)) for x in (batch.rhs, batch.owner))
    wanted = []
    for cell, places in enumerate(batch.positions()):
        order = np.argsort(places)
        for row in range(r):
            pairs = zip((places[order] + 7).tolist(), batch.matrix[row][order].tolist(), strict=True)
            wanted.append((tuple(pairs), float(rhs[cell, row]), int(owner[cell, row])))
    assert equations(batch) == wanted


@given(batches(), st.data())
def test_kept_and_left_cells_are_the_batch(batch: RowBatch, data: st.DataObject) -> None:
    taken = np.array(sorted(data.draw(st.sets(st.integers(0, batch.cells - 1)))), np.int64)
    left = batch.without(taken)
    assert (left is None) == (len(taken) == batch.cells)
    parts = ([batch.keep(taken)] if len(taken) else []) + ([left] if left is not None else [])
    assert sorted(e for part in parts for e in equations(part)) == sorted(equations(batch))
    if left is not None:
        assert left.cells == batch.cells - len(taken)


def test_places_in_no_equation_are_dropped_and_the_others_sorted() -> None:
    matrix = np.array([[5.0, 0.0, 3.0], [7.0, 0.0, 0.0]])
    batch = row_batch(
        PARAMETER, 4, Nest(((2, 50),)), np.array([9, 5, 2]), matrix, np.zeros((1, 2)), np.zeros((1, 2), int)
    )
    assert batch is not None
    assert (batch.offset, batch.inner.table().tolist()) == (6, [0, 7])
    assert batch.matrix.tolist() == [[3.0, 5.0], [0.0, 7.0]]


@pytest.mark.parametrize(
    ("outer", "inner", "matrix"),
    [
        (Nest(((3, 1),)), [0, 1], [[1.0, 1.0]]),
        (Nest(((3, 10),)), [2, 2], [[1.0, 1.0]]),
        (Nest(((3, -10),)), [0, 1], [[1.0, 1.0]]),
        (Nest(((3, 10),)), [0, 1], [[0.0, 0.0]]),
        (Table(np.array([0, 0])), [0], [[1.0]]),
    ],
    ids=["cells share entries", "a place twice", "cells run backwards", "no coefficients", "a cell twice"],
)
def test_what_is_no_batch(outer: Offsets, inner: list[int], matrix: list[list[float]]) -> None:
    rhs, owner = np.zeros((1, 1)), np.zeros((1, 1), np.int64)
    assert row_batch(PARAMETER, 0, outer, np.array(inner), np.array(matrix), rhs, owner) is None


def test_right_hand_sides_that_are_all_equal_are_held_once() -> None:
    rhs, owner = np.full((5, 1), 3.0), np.full((5, 1), 2)
    batch = row_batch(PARAMETER, 0, Nest(((5, 4),)), np.arange(4), np.ones((1, 4)), rhs, owner)
    assert batch is not None
    assert (batch.rhs.shape, batch.owner.shape, batch.rules) == ((1, 1), (1, 1), (2,))


def test_equal_coefficients_are_held_as_one_number() -> None:
    assert not any(shared(np.full((3, 4), 2.0)).strides)
    assert shared(np.eye(2)).strides != (0, 0)
    np.testing.assert_array_equal(shared(np.full((3, 4), 2.0)), np.full((3, 4), 2.0))


def test_equations_that_memory_cannot_hold_are_refused() -> None:
    huge = Parameter("huge", (2**20, 2**20))
    inner = compress(np.arange(4))[1].table()
    batch = row_batch(huge, 0, Nest(((2**38, 4),)), inner, np.ones((1, 4)), np.zeros((1, 1)), np.zeros((1, 1), int))
    assert batch is not None
    with pytest.raises(TooLargeError, match="274,877,906,944 equations over huge, written out one by one, would take"):
        batch.rows(Layout((huge,)))
