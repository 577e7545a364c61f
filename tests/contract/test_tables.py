"""Tables of cases hold every pair, and every kind of block in every dtype by every path that makes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest

from tests.contract.building import PATHS, PRECISIONS, plan_of
from tests.contract.cases import CASES
from tests.contract.running import OPTIMIZERS
from tests.contract.tables import rows

TABLES = {
    "projections": partial(rows, PATHS, PRECISIONS),
    "projections, paths reversed": partial(rows, PATHS[::-1], PRECISIONS),
    "steps and reparametrized models": partial(rows, PATHS, PRECISIONS, OPTIMIZERS),
}
Table = Callable[[], list[tuple[Any, ...]]]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_case_meets_every_path_dtype_and_optimizer_and_these_each_other(table: Table) -> None:
    made = [(row[0].name, *map(str, row[1:])) for row in table()]
    assert len(made) == len(set(made)) < len(CASES) * len(PATHS) * len(PRECISIONS)
    names, *axes = ([case.name for case in CASES], PATHS, [str(each) for each in PRECISIONS], list(OPTIMIZERS))
    for place, axis in enumerate(axes[: len(made[0]) - 1], 1):
        assert {(row[0], row[place]) for row in made} == set(product(names, axis))
        for other in range(1, place):
            assert {(row[other], row[place]) for row in made} == set(product(axes[other - 1], axis))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_kind_of_block_meets_every_dtype_by_every_path_that_makes_it(table: Table) -> None:
    """A kind that fails here belongs to few cases: tag one of them `EVERY_WAY`."""
    made = {(case.name, path): {type(b) for b in plan_of(case.name, path).blocks} for case in CASES for path in PATHS}
    wanted = {(kind, key[1], str(dtype)) for key, kinds in made.items() for kind in kinds for dtype in PRECISIONS}
    met = {(kind, row[1], str(row[2])) for row in table() for kind in made[row[0].name, row[1]]}
    assert sorted(map(str, wanted - met)) == []
    assert len({kind for kind, _, _ in wanted}) > 5
