"""Combine the cases of the contract with paths, precisions and optimizers: every pair occurs, not every combination.

Nothing is lost by that. What a rule becomes is a kind of block, and some ten kinds serve all cases: a fault in a kind
in one dtype by one path shows in each case of that kind, and `tests/contract/test_tables.py` holds that no kind that
comes of a path misses a dtype by that path. Kinds that few cases have are tagged `EVERY_WAY` and meet all combinations.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import product
from typing import Any

import pytest

from tests.contract.case import EVERY_WAY, Case
from tests.contract.cases import CASES
from tests.pairwise import pairwise


def rows(*axes: Collection[Any], cases: Iterable[Case] = CASES) -> list[tuple[Any, ...]]:
    """A case and one value per axis: every pair of values, and for cases tagged `EVERY_WAY` all combinations."""
    every = list(cases)
    full = product([case for case in every if EVERY_WAY in case.tags], *axes)
    kept = {(row[0].name, *map(str, row[1:])): row for row in (*pairwise(every, *axes), *full)}
    return list(kept.values())


def each_row(names: str, table: Iterable[tuple[Any, ...]]) -> pytest.MarkDecorator:
    """Parametrize a test with the rows of a table, under the names of their values."""
    return pytest.mark.parametrize(tuple(name.strip() for name in names.split(",")), list(table), ids=str)
