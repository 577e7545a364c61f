"""Jobs in several processes are those of one, whatever divides their batches; they resume on another number of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.shards.gang import together
from tests.shards.test_trainings_over_processes import apart

ROUNDING = 1e-12
"""Losses are sums over processes in another order; 16 steps on 70 float64 weights make little of that."""

LBFGS = 1e-9
"""LBFGS divides by differences of gradients, which are 1e-3 of them here: rounding counts for so much more."""

KINDS = [
    ("fsdp", 'optimizer = "AdamW"'),
    ("fsdp", 'optimizer = "SGD"\noptions = { momentum = 0.9 }'),
    ("fsdp", 'optimizer = "RMSprop"'),
    ("ddp", 'optimizer = "Adam"'),
    ("ddp", 'optimizer = "LBFGS"'),
    ("ddp", 'optimizer = "Adam"\nmethod = "lagrange"'),
    ("ddp", 'optimizer = "SGD"\nmethod = "reparametrize"'),
]


ERRORS = {
    "other_data": "RunError: process 1 has a job, rules or data that differ from those of process 0.",
    "buffers": "RunError: buffers of the network differ between processes, which have seen other rows: calls.",
    "rprop": 'a step of Rprop fails: .* With parallel = "ddp" each process has whole weights.',
}


Outcomes = tuple[list[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What two processes find, and then three, which resume a run of the two."""
    folder = str(tmp_path_factory.mktemp("jobs"))
    of_two = together(2, "tests.shards.parallel_jobs:of_two", folder, KINDS[:1])
    return of_two, together(3, "tests.shards.parallel_jobs:of_three", folder, KINDS)


@pytest.mark.parametrize("world", [2, 3])
def test_a_job_in_several_processes_is_that_in_one(outcomes: Outcomes, world: int) -> None:
    """Batches hold 17 rows, the last one a single row: shares differ, and some processes have none."""
    for kind, outcome in zip(KINDS, outcomes[world - 2][0]["compared"], strict=world == 3):
        assert not isinstance(outcome, str), f"{kind}: {outcome}"
        assert apart(*outcome) <= (LBFGS if "LBFGS" in kind[1] else ROUNDING), kind


def test_a_run_of_two_processes_is_resumed_by_three(outcomes: Outcomes) -> None:
    assert apart(*outcomes[1][0]["resumed"]) <= ROUNDING


def test_what_processes_refuse_together(outcomes: Outcomes) -> None:
    for outcome in outcomes[0]:
        assert outcome["refused"].keys() == ERRORS.keys()
        for name, error in outcome["refused"].items():
            assert re.search(ERRORS[name], error), f"{name}: {error}"
