"""The entries that a process holds are the same, whether they are looked for in the block or in the boxes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from affinet.planning.shards.local_places import LocalPlaces, _of_boxes, _of_entries, local_places
from affinet.planning.shards.splits import Split, Splits
from affinet.system.layout import Layout
from tests.contract.building import PATHS, plan_of
from tests.contract.cases import CASES


@pytest.mark.parametrize("path", PATHS)
def test_entries_are_found_from_both_sides(path: str) -> None:
    mesh = (2, 2)
    for block in (block for case in CASES for block in plan_of(case.name, path).blocks):
        layout = Layout.of(parameter for parameter, _ in block.entries.sizes)
        splits = {p.name: Splits(p.shape, mesh, (Split(0), Split(len(p.shape) - 1))) for p in layout.parameters}
        count = 0
        for coordinate in product(*map(range, mesh)):
            boxes = {name: box for name, each in splits.items() if (box := each.box(coordinate)) is not None}
            ways = [local_places(block.entries, boxes)]
            ways += [way(block.entries, boxes, layout) for way in (_of_boxes, _of_entries)]
            for name in boxes:
                first, *others = (_in_order(way[name]) for way in ways)
                for other in others:
                    np.testing.assert_array_equal(first, other)
                count += first.shape[1]
        every = np.arange(block.entries.count)  # some are read twice, or are in no equation
        assert count == (block.entries.find(block.entries.columns(every, layout), layout) == every).sum()


def _in_order(places: LocalPlaces) -> np.ndarray:
    order = np.argsort(places.in_part)
    return np.stack([places.in_part[order], places.in_block[order]])
