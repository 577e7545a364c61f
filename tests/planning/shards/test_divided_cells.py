"""Cells over a mesh: each process has a product of cells and entries, and all together have every entry once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from affinet.blocks.offsets import Nest
from affinet.blocks.slices import Slices
from affinet.planning.shards.divided_cells import loops_of
from affinet.planning.shards.splits import Split, Splits
from tests.contract.building import PATHS, plan_of
from tests.contract.cases import CASES


def meshes(rank: int) -> list[tuple[tuple[int, ...], tuple[Split | None, ...]]]:
    """Meshes, and how a weight of some axes is split over each."""
    last = Split(rank - 1)
    return [
        ((2,), (Split(0),)),
        ((3,), (last,)),
        ((2, 2), (Split(0), last)),
        ((2, 2), (Split(0, 2), Split(0))),
        ((2, 3), (None, Split(0))),
        ((7,), (Split(0),)),
    ]


@pytest.mark.parametrize("path", PATHS)
def test_processes_have_products_that_are_every_entry_once(path: str) -> None:
    divided = 0
    for block in (block for case in CASES for block in plan_of(case.name, path).blocks):
        if not isinstance(block, Slices) or (loops := loops_of(block.entries)) is None:
            continue
        shape = block.parameter.shape
        places = np.arange(block.parameter.size).reshape(shape)
        table = block.offset + block.outer.table()[:, None] + block.inner.table()
        for mesh, by_dimension in meshes(len(shape)):
            splits, times = Splits(shape, mesh, by_dimension), np.zeros(table.shape, int)
            for coordinate in product(*map(range, mesh)):
                box = splits.box(coordinate)
                assert box is not None
                part = places[tuple(slice(o, o + n) for o, n in zip(box.offset, box.sizes, strict=True))].reshape(-1)
                local = loops.on(box)
                if len(local.cells) * len(local.entries):
                    read = part[local.offset + Nest(local.dims).table()].reshape(len(local.cells), -1)
                    np.testing.assert_array_equal(read, table[np.ix_(local.cells, local.entries)])
                times[np.ix_(local.cells, local.entries)] += 1
            copies = mesh[0] if by_dimension[0] is None else 1
            assert (times == copies).all()
            divided += 1
    assert divided > 100


def test_a_holder_has_the_entries_that_its_box_has() -> None:
    for shape in ((5, 7), (4,), (3, 2, 5)):
        positions = np.arange(np.prod(shape))
        for mesh, by_dimension in meshes(len(shape)):
            splits = Splits(shape, mesh, by_dimension)
            holders = splits.holders(positions)
            boxes = [box for c in product(*map(range, mesh)) if (box := splits.box(c)) is not None]
            held = {tuple(positions[box.find(positions) >= 0]) for box in boxes if box.size}
            assert held == {tuple(positions[holders == holder]) for holder in np.unique(holders)}


def test_parts_that_are_not_a_box_are_none() -> None:
    assert Splits((6, 2), (3,), (Split(0, 2),)).box((0,)) is None
