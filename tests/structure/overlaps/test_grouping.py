"""Batches that share no entry stay apart, also where a third one touches both."""

from __future__ import annotations

from typing import Any

import affinet
from affinet.structure.overlaps.grouping import grouped
from affinet.structure.reading.terms import read
from affinet.structure.regular import RowBatch
from affinet.system.system import System


def test_what_a_third_batch_reaches_over_to_stays_regular() -> None:
    w: Any = affinet.weights({"a": (90, 4)})
    rules = [w.a[:40].sum(1) == 1, w.a[50:].sum(1) == 1, w.a[30:60].sum(0) == 1]
    batches = [read(rule.expression, number, 0.0) for number, rule in enumerate(rules)]
    system = System.of(rules)
    groups, products, clashing = grouped([batch for batch in batches if isinstance(batch, RowBatch)], system)
    assert sorted(batch.equations for group in groups for batch in group) == [40, 40]
    assert [len(group) for group in groups] == [1, 1]
    assert products == {}
    assert [rows.count for rows in clashing] == [4]
