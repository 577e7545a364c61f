"""Laws 1, 5, 6, 7 and 14 where weights lie over 2, 3 and 4 processes: by rows, by columns, copied, on two axes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.contract.building import PATHS, PRECISIONS
from tests.contract.cases import CASES
from tests.contract.running import OPTIMIZERS, Run, run_of
from tests.contract.tables import rows
from tests.contract.test_steps import (
    assert_feasible,
    assert_ties_are_bit_equal,
    assert_untouched_entries_follow_the_stock_optimizer,
)
from tests.kernels.judging import apart, condition_of
from tests.shards.contract_on_shards import LAYOUTS, Row, States
from tests.shards.gang import together


@pytest.mark.parametrize("world", LAYOUTS)
def test_training_keeps_the_laws_over_processes(world: int) -> None:
    table = _table(world)
    found = together(world, "tests.shards.contract_on_shards:on_this_rank", table)
    faults = [fault for row, *states in zip(table, *found, strict=True) if (fault := _fault(row, states))]
    assert not faults, f"{len(faults)} of {len(table)}:\n" + "\n".join(faults[:20])


def _table(world: int) -> list[Row]:
    """Every case by one layout, in one dtype, by one optimizer, which change from case to case.

    Two processes meet all cases, three and four of them half each. With AFFINET_SHARDS=1 all of them meet every pair of
    values of every case.
    """
    if os.environ.get("AFFINET_SHARDS"):
        return [(row[0].name, *map(str, row[1:])) for row in rows(LAYOUTS[world], PRECISIONS, OPTIMIZERS, PATHS)]
    layouts, dtypes, makes = LAYOUTS[world], [str(precision) for precision in PRECISIONS], list(OPTIMIZERS)
    return [
        (case.name, layouts[(k + world) % 3], dtypes[(k // 3 + world) % 3], makes[k // 9 % 3], PATHS[k // 27 % 2])
        for k, case in enumerate(CASES)
        if world == 2 or k % 2 == world % 2
    ]


def _fault(row: Row, found: Sequence[list[States]]) -> str:
    """What is wrong with the weights after each step, by process; empty where nothing is."""
    case, _, dtype, optimizer, path = row
    alone, (steps, free) = run_of(case, dtype, path, optimizer), found[0]
    for others, _ in found[1:]:
        if not all(torch.equal(w, b[name]) for a, b in zip(steps, others, strict=True) for name, w in a.items()):
            return f"{row}: processes have other bits"
    shared, condition = replace(alone, steps=steps, free=free), condition_of(alone.oracle)
    try:
        assert_feasible(shared, condition)
        assert_ties_are_bit_equal(shared)
        assert_untouched_entries_follow_the_stock_optimizer(shared)
        assert_follows(shared, alone, condition, steps=len(alone.steps) if optimizer == "SGD" else 1)
    except AssertionError as error:
        return f"{row}: {error}"
    return ""


def assert_follows(shared: Run, alone: Run, condition: float, *, steps: int) -> None:
    """The weights are those of one process, to the rounding of both.

    Under Adam only after attaching: it divides a gradient that is rounding by its own size.
    """
    assert shared.plan is not None
    inputs: list[dict[str, Any]] = [shared.before]
    for step in range(steps):
        share = apart(shared.plan, shared.steps[step], alone.steps[step], *inputs, condition=condition)
        assert share <= 2.0 * (1 + 2 * step), f"after step {step}: {share:.3g} of what rounding allows"
