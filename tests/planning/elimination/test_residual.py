"""A contradiction in a core that is too large to factor: proven by the residual, never where the rows can hold."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.planning.elimination.residual import refuted
from affinet.system.tolerance import Tolerance
from tests.limits import planned
from tests.planning.elimination.test_peeling import scattered

SHAPES = [(60, 40, 0), (50, 60, 10), (90, 30, 5), (40, 80, 0)]


@pytest.mark.parametrize(("rows", "columns", "repeated"), SHAPES)
@pytest.mark.parametrize("seed", range(10))
def test_it_says_what_the_ranks_say(seed: int, rows: int, columns: int, repeated: int) -> None:
    draw, matrix = np.random.default_rng(seed), scattered(seed, rows, columns, repeated=repeated)
    right = matrix @ draw.standard_normal(columns)
    wrong = right + (np.arange(rows) == draw.integers(rows))
    rank, both = (np.linalg.matrix_rank(m) for m in (matrix.toarray(), np.c_[matrix.toarray(), wrong]))
    assert not refuted(matrix, right, np.abs(right), Tolerance())
    assert refuted(matrix, wrong, np.abs(wrong), Tolerance()) == (both > rank)


def test_what_is_not_found_in_time_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.planning.elimination.residual.MOST_SWEPT", 0)
    matrix = scattered(0, 60, 40)
    assert not refuted(matrix, np.random.default_rng(0).standard_normal(60), np.ones(60), Tolerance())


def test_contradictory_rules_of_a_large_core_do_not_train() -> None:
    limits = {"dense_rows": 0, "largest_core": 0, "most_eliminated": 0}
    A = scattered(1, 60, 40).toarray()
    w, b = affinet.weights({"w": (40,)}).w, A @ np.ones(40)
    rule = families.linear([w], A, b).named("most of it")
    assert planned(rule, **limits).rank.high == 40
    with pytest.raises(affinet.InfeasibleError, match="cannot hold") as refusal:
        planned([rule, (w.sum() == 41).named("one more")], **limits)
    assert refusal.value.rules == ("most of it", "one more")
