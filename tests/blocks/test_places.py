"""Where entries of blocks lie: places, columns and ranges of every block of the contract table agree."""

from __future__ import annotations

import numpy as np
import pytest

from affinet.blocks.bordered import Bordered
from affinet.blocks.kinds import AnyBlock
from affinet.system.layout import Layout
from tests.contract.building import PATHS, plan_of
from tests.contract.cases import CASES


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_place_is_found_at_its_column(case: object, path: str) -> None:
    plan = plan_of(case.name, path)  # type: ignore[attr-defined]
    layout = plan.system.layout
    held = np.zeros(layout.size, int)
    for block in plan.blocks:
        bases = block.bases if isinstance(block, Bordered) else ()
        for one in (block, *bases):
            _agrees(one, layout)
        held += block.entries.find(np.arange(layout.size), layout) >= 0
    assert held.max(initial=0) <= 1, "two blocks hold one entry"
    assert held.sum() == plan.size


def _agrees(block: AnyBlock, layout: Layout) -> None:
    entries = block.entries
    columns = entries.columns(np.arange(entries.count), layout)
    found = entries.find(np.arange(layout.size), layout)
    # A mirror reads entries that equal themselves, which a border may hold one by one: only what is held is found.
    held = np.flatnonzero(found >= 0)
    np.testing.assert_array_equal(columns[found[held]], held)
    assert (found >= 0).sum() == block.size
    ranges = [(layout.start(p) + low, layout.start(p) + high) for p, low, high in entries.spans]
    assert all(any(low <= column <= high for low, high in ranges) for column in columns.tolist())
    assert sum(size for _, size in entries.sizes) >= block.size
