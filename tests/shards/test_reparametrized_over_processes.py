"""Models that are reparametrized and sharded then train as in one process; the numbers of any layer are at hand."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from tests.shards.gang import together
from tests.shards.reparametrized import BASES, LINEAR

ROUNDING = 1e-12
"""Gradients are sums over processes in another order; five steps of 126 float64 weights make little of that."""

KINDS = {
    (3, "shards"): [*product(LINEAR[2:], BASES), ("row sums", "orthonormal"), ("column sums", "projection")],
    (4, "copies of shards"): [("tie over layers", "free"), ("transposed", "projection")],
}


@pytest.mark.parametrize(("world", "way"), list(KINDS), ids=str)
def test_reparametrized_models_train_over_processes_as_in_one(world: int, way: str) -> None:
    kinds = KINDS[world, way]
    results = together(world, "tests.shards.reparametrized:compared", way, kinds)
    for number, kind in enumerate(kinds):
        for alone, shared in (result[number] for result in results):
            for part in ("numbers", "weights", "assigned"):
                for name, values in alone[part].items():
                    assert (values - shared[part][name]).abs().max() <= ROUNDING, (kind, name)
            assert max(shared["violation"].values()) <= 16 * torch.finfo(torch.float64).eps, kind
        weights = [result[number][1]["weights"] for result in results]
        assert all(torch.equal(w, other[name]) for other in weights for name, w in weights[0].items()), kind


def test_a_model_of_one_process_reads_the_state_and_is_baked() -> None:
    assert together(2, "tests.shards.reparametrized:baked_elsewhere") == [True, True]


MESSAGES = {
    "baked": "bake takes a reparametrized model of one process",
    "removed": "remove_parametrizations takes a reparametrized model of one process",
    "multipliers": "A report of multipliers takes a reparametrized model of one process",
    "report": "A report of multipliers takes a reparametrized model of one process",
    "optimizer": "this Adam was made before fully_shard: it holds first.weight.free",
    "divided": "set_gradient_divide_factor was called on second.",
    "rounded": "first.weight has torch.float64 and would be computed from numbers of torch.bfloat16",
}


def test_what_needs_numbers_of_one_process_is_refused() -> None:
    for messages in together(2, "tests.shards.reparametrized:refused"):
        assert messages.keys() == MESSAGES.keys()
        for name, message in MESSAGES.items():
            assert message in messages[name], name
