"""Components at regular places of one weight are slices again; others stay gathered."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.blocks.dense import Dense
from affinet.blocks.offsets import Nest
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Parameter
from affinet.planning.elimination.recognition import recognise
from affinet.system.layout import Layout

LAYOUT = Layout((Parameter("a", (20,)), Parameter("b", (40,))))
MATRIX = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]])


def test_the_same_matrix_at_regular_places() -> None:
    columns = 20 + np.array([[9, 8, 10], [1, 0, 2], [5, 4, 6]])
    rhs = np.array([[9.0, 10.0], [1.0, 2.0], [5.0, 6.0]])
    batch = recognise(columns, np.tile(MATRIX, (3, 1, 1)), rhs, LAYOUT)
    assert batch is not None
    assert (batch.parameter.name, batch.offset, batch.outer, batch.inner) == ("b", 0, Nest(((3, 4),)), Nest(((3, 1),)))
    np.testing.assert_array_equal(batch.matrix, MATRIX[:, [1, 0, 2]])
    np.testing.assert_array_equal(batch.rhs, [[1, 2], [5, 6], [9, 10]])


@pytest.mark.parametrize(
    ("columns", "matrices"),
    [
        ([[0, 1, 2], [4, 5, 6]], [1.0, 2.0]),
        ([[0, 1, 2], [4, 5, 7]], [1.0, 1.0]),
        ([[0, 1, 2], [20, 21, 22]], [1.0, 1.0]),
        ([[0, 1, 2], [4, 5, 6], [15, 16, 17]], [1.0, 1.0, 1.0]),
        ([[0, 1, 5]], [1.0]),
    ],
    ids=["two matrices", "two patterns", "two weights", "irregular places", "one irregular component"],
)
def test_what_stays_gathered(columns: list[list[int]], matrices: list[float]) -> None:
    matrix = np.stack([scale * MATRIX for scale in matrices])
    assert recognise(np.array(columns), matrix, np.zeros((len(columns), 2)), LAYOUT) is None


def test_rules_said_apart_end_in_one_block() -> None:
    w = affinet.weights({"a": (6, 4)})
    rules = [w.a.sum(1) == 1, w.a @ np.arange(4.0) == 0]
    (block,) = affinet.plan(rules).blocks
    assert isinstance(block, Slices)
    assert (block.outer.size, block.basis.shape, block.rules) == (6, (2, 4), (0, 1))


def test_tied_entries_keep_a_component_irregular() -> None:
    w = affinet.weights({"a": (4, 5)})
    blocks = affinet.plan([w.a.sum(1) == 1, w.a[:, 0] == w.a[:, 1]]).blocks
    assert [type(block) for block in blocks] == [Dense]
