"""Rows that meet on the same entries: stacked where they run over one loop, a product where they cross and agree."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.blocks.commuting import Commuting
from affinet.blocks.offsets import Nest
from affinet.blocks.regular import RowBatch
from affinet.errors import TooLargeError
from affinet.language.forecast import limited
from affinet.planning.contradiction import Contradiction
from affinet.planning.overlaps.merging import product, stack
from affinet.planning.reading.term_patterns import read
from affinet.system.limits import Limits
from affinet.system.system import System
from affinet.system.tolerance import Tolerance
from tests.oracle import oracle

W = affinet.weights({"a": (4, 6), "t": (3, 4, 5), "b": (4, 6)})
ROWS, COLUMNS = np.arange(1.0, 5), np.array([0.5, 1, 1.5, 2, 2.5, 2.5])


LIMITS = Limits()


def batch(rule: affinet.Constraint, number: int = 0) -> RowBatch:
    found = read(rule.expression, number, 0.0)
    assert isinstance(found, RowBatch)
    return found


def crossed(*rules: affinet.Constraint, limits: Limits = LIMITS) -> Commuting | None:
    return product([batch(rule, number) for number, rule in enumerate(rules)], Tolerance(), limits)


def rank(*rules: affinet.Constraint) -> int:
    return oracle(System.of(rules)).rank


def test_rows_over_one_loop_are_stacked() -> None:
    both = stack(batch(W.a.sum(1) == 1, 3), batch(W.a[:, 1:4] @ np.array([1.0, 2, 3]) == ROWS, 5), LIMITS.most_stacked)
    assert both is not None
    assert both.outer == Nest(((4, 6),))
    assert both.matrix.tolist() == [[1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 0, 0]]
    np.testing.assert_array_equal(both.rhs, np.column_stack([np.ones(4), ROWS]))
    assert both.rules == (3, 5)


@pytest.mark.parametrize(
    "other", [W.b.sum(1) == 1, W.a.sum(0) == 1, W.a[:3].sum(1) == 1], ids=["another weight", "columns", "fewer cells"]
)
def test_rows_over_other_loops_are_not_stacked(other: affinet.Constraint) -> None:
    assert stack(batch(W.a.sum(1) == 1), batch(other), LIMITS.most_stacked) is None


def test_stacks_whose_cells_would_meet_are_none() -> None:
    first, second = batch(W.a[:, :3].sum(1) == 1), batch(W.a.reshape(24)[2:20].sum() == 1)
    assert stack(first, second, LIMITS.most_stacked) is None


def test_rows_and_columns_that_agree_are_a_product() -> None:
    rules = (W.a.sum(1) == ROWS, W.a.sum(0) == COLUMNS)
    found = crossed(*rules)
    assert found is not None
    assert (found.size, found.rank, found.rules) == (24, 9, (0, 1))
    assert found.rank == rank(*rules)
    assert found.view.dims == ((4, 6), (6, 1))


@pytest.mark.parametrize(
    "rules",
    [
        (W.a.sum(1) == 1, W.a.sum(0) == 1),
        (W.a.sum(1) == ROWS, W.a.sum(0) == COLUMNS[::-1] + 0.1),
        (W.a @ np.arange(1.0, 7) == 1, ROWS @ W.a == 1),
        (W.a == np.arange(6.0), W.a.sum(1) == 14),
        (W.t.sum((0, 1)) == 1, W.t.sum((1, 2)) == 1),
        (W.a.sum(1) == ROWS, W.a.sum() == 11),
    ],
    ids=["totals", "vectors", "weighted", "fixed", "a shared axis", "rows and the whole"],
)
def test_rows_and_columns_that_disagree(rules: tuple[affinet.Constraint, ...]) -> None:
    with pytest.raises(Contradiction) as found:
        crossed(*rules)
    assert found.value.rules == (0, 1)


def test_what_they_say_together_is_known_for_plain_sums() -> None:
    with pytest.raises(Contradiction) as plain:
        crossed(W.a.sum(1) == 1, W.a.sum(0) == 1)
    assert plain.value.consequence == "the first makes all entries of a add up to 4, the second to 6."
    with pytest.raises(Contradiction) as weighted:
        crossed(W.a @ np.arange(1.0, 7) == 1, ROWS @ W.a == 1)
    assert weighted.value.consequence == ""


def test_sums_that_cancel_agree() -> None:
    values = np.array([-1.0, 2, -3, 3, -1, 0]) / 3
    found = crossed(W.a == np.tile(values, (4, 1)), W.a.sum(1) == 0)
    assert found is not None
    assert found.rank == 24


def test_three_axes() -> None:
    rules = (W.t.sum(0) == 0, W.t @ np.arange(1.0, 6) == 0, W.t.sum(1) == 0)
    found = crossed(*rules)
    assert found is not None
    assert len(found.slices) == 3
    assert found.rank == rank(*rules) == 60 - 2 * 3 * 4


def test_two_axes_at_once() -> None:
    rules = (W.t.sum((0, 1)) == 12, W.t.sum(2) == 5)
    found = crossed(*rules)
    assert found is not None
    assert found.rank == rank(*rules) == 60 - 11 * 4


@pytest.mark.parametrize(
    "rules",
    [
        (W.a.sum(1) == 1, W.a[:, :3].sum(0) == 1),
        (W.a.sum(1) == 1, W.b.sum(0) == 1),
        (W.t.reshape(12, 5).T @ np.arange(1.0, 13) == 0, W.t.sum((1, 2)) == 0),
        (W.a.sum(1) == 1, W.a[:, np.array([0, 1, 3])].sum(1) == 1),
    ],
    ids=["half of the columns", "another weight", "a shared axis, not even", "irregular columns"],
)
def test_what_is_no_product(rules: tuple[affinet.Constraint, ...]) -> None:
    assert crossed(*rules) is None


def test_right_hand_sides_follow_their_cells_when_loops_are_put_in_order() -> None:
    values = np.random.default_rng(0).standard_normal((3, 4, 5))
    rules = (W.t.sum(1).T == values.sum(1).T, W.t.sum(0) == values.sum(0))
    found = crossed(*rules)
    assert found is not None
    assert found.rank == rank(*rules)


OVERLAPPING = {
    "two pairs of axes": (W.t.sum((0, 1)) == 12, W.t.sum((1, 2)) == 20),
    "all pairs of axes": (W.t.sum((0, 1)) == 12, W.t.sum((1, 2)) == 20, W.t.sum((0, 2)) == 15),
    "one axis and a pair": (W.t.sum(0) == np.arange(1.0, 6), W.t.sum((1, 2)) == 20),
    "totals of each place": (W.t.sum((0, 1)) == np.arange(5.0), W.t.sum((1, 2)) == 10 / 3),
    "beside a matrix of its own": (W.t @ np.arange(1.0, 6) == 0, W.t.sum((0, 1)) == 0),
    "a general matrix that commutes": (
        W.t.transpose(0, 1).reshape(4, 15) @ np.kron([1, 1, -2], np.ones(5)) == 0,
        W.t.sum((1, 2)) == 0,
    ),
}


@pytest.mark.parametrize("case", OVERLAPPING)
def test_sums_along_loops_that_overlap_are_a_product_where_they_commute(case: str) -> None:
    rules = OVERLAPPING[case]
    found = crossed(*rules)
    if case == "beside a matrix of its own":
        assert found is not None
        assert found.separate
    assert found is not None
    assert found.rank == rank(*rules)
    assert found.rules == tuple(range(len(rules)))


def test_sums_that_follow_from_others_are_left_out_with_their_rules_named() -> None:
    found = crossed(W.t.sum() == 60, W.t.sum(2) == 5, W.t.sum((1, 2)) == 20, W.t.sum(0) == 3)
    assert found is not None
    assert [part.rules for part in found.slices] == [(0, 1, 2), (3,)]
    assert found.rank == 60 - 2 * 4 * 4
    assert len(found.slices) == 2


def test_what_commutes_is_read_off_the_matrices_where_they_are_small() -> None:
    rules = OVERLAPPING["a general matrix that commutes"]
    assert crossed(*rules) is not None
    assert crossed(*rules, limits=Limits(most_joint=60)) is not None
    assert crossed(*rules, limits=Limits(most_joint=59)) is None


@pytest.mark.parametrize("n", [20, 257])
def test_equations_that_nearly_follow_from_one_another_agree(n: int) -> None:
    """Orthonormal rows of such equations are off by rounding times their condition number."""
    weights, sums = affinet.weights({"a": (n, n)}), np.ones((n, 2))
    sums[2, 1] = sums[3, 0] = 0.0
    found = crossed(weights.a @ sums == 1, sums.T @ weights.a == 1)
    assert found is not None
    assert found.rank == 4 * n - 4
    with pytest.raises(Contradiction):
        crossed(weights.a @ sums == 1, sums.T @ weights.a == 1 + 1e-9)


def test_right_hand_sides_that_would_not_fit_are_told_before_they_are_reached_for() -> None:
    weights = affinet.weights({"a": (600, 600)})
    rules = weights.a @ np.arange(1.0, 601) == np.ones(600), np.arange(1.0, 601) @ weights.a == np.ones(600)
    with limited(0, "", limit=2**20), pytest.raises(TooLargeError, match="equations along several axes"):
        crossed(*rules)
