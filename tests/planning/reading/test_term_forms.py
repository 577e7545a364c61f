"""What large rules are read as, from their terms alone, and in how few bytes they are planned."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.blocks.commuting import Commuting
from affinet.blocks.entry_sets import View
from affinet.blocks.fixed import Fixed
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Nest, Table
from affinet.blocks.pairs import Pairs
from affinet.blocks.regular import RowBatch
from affinet.blocks.slices import Slices
from affinet.planning.reading.term_patterns import read

SHAPES = {
    "W": (4096, 11008),
    "T": (4096, 11008),
    "V": (11008, 4096),
    "S": (4096, 4096),
    "K": (256, 128, 3, 3),
    "b": (4096,),
}
LEFT = np.random.default_rng(0).standard_normal((3, 4096))
RIGHT = np.random.default_rng(1).standard_normal((11008, 2))


def w() -> Any:
    return affinet.weights(SHAPES)


def form(rule: affinet.Constraint) -> Any:
    return read(rule.expression, 7, 0.0)


BATCHES = {
    "row sums": (w().W.sum(1) == 1, ((4096, 11008),), ((11008, 1),), (1, 11008)),
    "column sums": (w().W.sum(0) == np.arange(11008.0), ((11008, 1),), ((4096, 11008),), (1, 4096)),
    "weighted row sums": ((w().W * np.arange(1.0, 11009.0)).sum(1) == 0, ((4096, 11008),), ((11008, 1),), (1, 11008)),
    "a matrix on the left": (LEFT @ w().W == 0, ((11008, 1),), ((4096, 11008),), (3, 4096)),
    "a matrix on the right": (w().W @ RIGHT == 1, ((4096, 11008),), ((11008, 1),), (2, 11008)),
    "kernels that sum to zero": (w().K.sum((2, 3)) == 0, ((256, 1152), (128, 9)), ((9, 1),), (1, 9)),
    "every second row of kernels": (w().K[:, :, ::2].sum(1) == 3, ((256, 1152), (2, 6), (3, 1)), ((128, 9),), (1, 128)),
    "a trace": (w().S.trace() == 0, (), ((4096, 4097),), (1, 4096)),
    "a row of zeros": (w().W[5] == 0, ((11008, 1),), (), (1, 1)),
    "strided rows": (w().W[::2, 1::3].sum(1) == 1, ((2048, 22016),), ((3669, 3),), (1, 3669)),
    "a last cumulative sum": (w().W.cumsum(1)[:, -1] == 1, ((4096, 11008),), ((11008, 1),), (1, 11008)),
}


@pytest.mark.parametrize(("rule", "outer", "inner", "shape"), BATCHES.values(), ids=BATCHES)
def test_one_small_matrix_over_cells(rule: affinet.Constraint, outer: Any, inner: Any, shape: tuple[int, int]) -> None:
    batch = form(rule)
    assert isinstance(batch, RowBatch)
    assert (batch.outer, batch.inner, batch.matrix.shape) == (Nest(outer), Nest(inner), shape)
    assert batch.rules == (7,)
    assert batch.equations == rule.rows


def test_columns_picked_by_hand_are_a_table_inside_each_row() -> None:
    batch = form(w().W[:, np.array([1, 5, 2])].sum(1) == 1)
    assert (batch.offset, batch.outer, batch.inner) == (1, Nest(((4096, 11008),)), Table(np.array([0, 1, 4])))


def test_right_hand_sides_follow_the_cells() -> None:
    assert form(w().W.sum(0) == np.arange(11008.0)).rhs.ravel().tolist() == list(range(11008))
    assert form(w().W.sum(1) == 1).rhs.tolist() == [[1.0]]
    half = form(w().K.sum((2, 3)) == np.arange(256.0)[:, None]).rhs.ravel()
    np.testing.assert_array_equal(half, np.repeat(np.arange(256.0), 128))


MIRRORS = {
    "symmetric": (families.symmetric(w().S), (1, 0), (), 1.0),
    "skew": (families.skew(w().S), (1, 0), (), -1.0),
    "upside down": (w().S == w().S.flip(0), (0, 1), (0,), 1.0),
    "opposite half a turn on": (w().S == -w().S.flip((0, 1)), (0, 1), (0, 1), -1.0),
}


@pytest.mark.parametrize(("rule", "permutation", "flips", "sign"), MIRRORS.values(), ids=MIRRORS)
def test_mirrors(rule: affinet.Constraint, permutation: Any, flips: Any, sign: float) -> None:
    mirror = form(rule)
    assert isinstance(mirror, Mirror)
    assert (mirror.permutation, mirror.flips, mirror.sign, mirror.rules) == (permutation, flips, sign, (7,))


PAIRS = {
    "one is the other's transpose": (w().W == w().V.T, 1.0, 0.0),
    "scaled and shifted": (w().W == 2 * w().T + 1, 2.0, 1.0),
    "two halves": (w().W[:2048] == -w().W[2048:], -1.0, 0.0),
    "a diagonal": (3 * w().S.diagonal() == w().b, 1 / 3, 0.0),
}


@pytest.mark.parametrize(("rule", "ratio", "shift"), PAIRS.values(), ids=PAIRS)
def test_pairs(rule: affinet.Constraint, ratio: float, shift: float) -> None:
    pairs = form(rule)
    assert isinstance(pairs, Pairs)
    assert (pairs.ratio, float(pairs.shift), pairs.rank) == (pytest.approx(ratio), shift, rule.rows)


def test_the_transposed_side_is_read_with_steps_exchanged() -> None:
    pairs = form(w().W == w().V.T)
    assert pairs.second == View(pairs.second.parameter, 0, ((4096, 1), (11008, 4096)))


@pytest.mark.parametrize(
    "rule",
    [
        w().W.diff(dim=1) == 0,
        w().W == w().W[:1],
        w().S[1:] == w().S[:-1],
        w().S == w().S.roll(1, 0),
        w().W.sum(1) == w().b,
        w().S == 2 * w().S.T,
        w().S == w().S.T + np.arange(4096.0),
        w().W[:0].sum(1) == 0,
    ],
    ids=lambda rule: rule.text,
)
def test_what_has_no_regular_form(rule: affinet.Constraint) -> None:
    assert form(rule) is None


LARGE = {
    "row sums": (lambda w: [w.W.sum(1) == 1], Slices),
    "a symmetric matrix": (lambda w: [families.symmetric(w.S)], Mirror),
    "a transposed pair": (lambda w: [w.W == w.V.T], Pairs),
    "rows and columns": (lambda w: [w.W.sum(1) == 0, w.W.sum(0) == 0], Commuting),
    "kernels along three axes": (lambda w: [w.K.sum((2, 3)) == 0, w.K.sum(1) == 0, w.K.sum(0) == 0], Commuting),
    "rows of zeros": (lambda w: [w.W[5:100] == 0], Fixed),
    "a matrix on the left": (lambda w: [LEFT @ w.W == 0], Slices),
}


@pytest.mark.parametrize(("rules", "kind"), LARGE.values(), ids=LARGE)
def test_plans_of_large_rules_take_few_bytes(rules: Any, kind: type) -> None:
    given = rules(w())
    tracemalloc.start()
    try:
        plan = affinet.plan(given)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [type(block) for block in plan.blocks] == [kind]
    assert peak < 4_000_000, f"{peak:,} bytes"
