"""Batches that share no entry stay apart, also where a third one touches both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import affinet
from affinet.blocks.regular import RowBatch
from affinet.planning.overlaps import grouping
from affinet.planning.overlaps.grouping import _stack_all, group_batches
from affinet.planning.overlaps.merging import stack
from affinet.planning.reading.term_patterns import read
from affinet.system.limits import Limits
from affinet.system.system import System


def test_what_a_third_batch_reaches_over_to_stays_regular() -> None:
    w: Any = affinet.weights({"a": (90, 4)})
    rules = [w.a[:40].sum(1) == 1, w.a[50:].sum(1) == 1, w.a[30:60].sum(0) == 1]
    batches = [read(rule.expression, number, 0.0) for number, rule in enumerate(rules)]
    system = System.of(rules)
    groups, products, clashing = group_batches([batch for batch in batches if isinstance(batch, RowBatch)], system)
    assert sorted(batch.equations for group in groups for batch in group) == [40, 40]
    assert [len(group) for group in groups] == [1, 1]
    assert products == {}
    assert [rows.count for rows in clashing] == [4]


def test_only_batches_over_the_same_loops_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing every pair took nine tenths of the planning of tensors under rotations of space."""
    tried: list[tuple[RowBatch, RowBatch]] = []

    def counted(first: RowBatch, second: RowBatch, most: int) -> RowBatch | None:
        tried.append((first, second))
        return stack(first, second, most)

    monkeypatch.setattr(grouping, "stack", counted)
    w: Any = affinet.weights({"a": (60, 4)})
    rules = [w.a[:: k + 1].sum(1) == 1 for k in range(20)] + [w.a[:: k + 1] @ np.arange(4.0) == 1 for k in range(20)]
    batches = [read(rule.expression, number, 0.0) for number, rule in enumerate(rules)]
    _stack_all([batch for batch in batches if isinstance(batch, RowBatch)], Limits().most_stacked)
    assert len(tried) == 20
    assert all(first.outer == second.outer for first, second in tried)
