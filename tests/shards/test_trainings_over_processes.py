"""Trainings with fully_shard, copies of shards and tensor parallelism: those of one process, and what is refused."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.shards.fsdp_training import OPTIMIZERS, RULES
from tests.shards.gang import together

ROUNDING = 1e-12
"""Losses are sums over processes in another order; six steps of 126 float64 weights make little of that."""

BOUNDS = {"in_bfloat16": 1e-6, "overflowed_on_one": 1e-6, "with_closure": 1e-11}
"""In float32 eight spacings of numbers up to one; LBFGS divides by differences of gradients."""


@pytest.mark.parametrize(
    ("world", "way"), [(2, "shards"), (3, "shards"), (4, "tensor parallel"), (4, "copies of shards")], ids=str
)
def test_trainings_over_processes_are_those_of_one(world: int, way: str) -> None:
    _assert_alike(world, way, list(zip(list(RULES)[:: 1 if world == 3 else 2], cycle(OPTIMIZERS), strict=False)))


def test_a_process_without_any_row_takes_part() -> None:
    """Six rows over four processes: two each, and none on the last one."""
    names = ("simplices", "products in rows", "unit rows", "not negative", "transposed")
    _assert_alike(4, "shards", list(zip(names, cycle(OPTIMIZERS), strict=False)))


def _assert_alike(world: int, way: str, kinds: list[tuple[str, str]]) -> None:
    """Trainings over processes end as those of one, with the same bits on all of them."""
    found = together(world, "tests.shards.fsdp_training:compared", way, kinds)
    for number, kind in enumerate(kinds):
        for results in found:
            alone, shared = results[number]
            assert apart(alone, shared) <= ROUNDING, kind
            assert alone["report"] == shared["report"], kind
        bits = [results[number][1]["weights"] for results in found]
        assert all(torch.equal(w, other[name]) for other in bits for name, w in bits[0].items()), kind


DIVIDED = ("row sums", "column sums", "transposed", "tie over layers", "simplices", "unit rows")
"""Not chains: the first step of Adam has one length everywhere and so makes neighbours equal to the bit. Rounding then
decides which bounds are active in the second step, in one process as well."""


def test_rules_add_no_deviation_to_that_of_training_over_processes() -> None:
    """Twenty float32 steps of Adam, in which sums over processes round differently from those of one."""
    for found in together(2, "tests.shards.deviations:deviations", list(DIVIDED), 3):
        free = found.pop("no rules")
        assert free > 0
        assert all(deviation <= 4 * free for deviation in found.values()), (free, found)


@pytest.mark.parametrize("world", [2, 3])
def test_what_trainings_meet_over_processes(world: int) -> None:
    """Clipping, accumulation, missing gradients, freezing, watching, updates, closures, scaled losses, resuming."""
    for results in together(world, "tests.shards.scenarios:played"):
        for name, (alone, shared) in results.items():
            bound = (
                1e-6 if name in ("in_bfloat16", "overflowed_on_one") else 1e-11 if name == "with_closure" else ROUNDING
            )
            assert apart(alone, shared) <= bound, name


ERRORS = {
    "not_finite": "GradientError: the gradient of first.weight holds 1 number that is not finite",
    "certified": "of the optimizer cannot be constrained: it is held by several processes (a DTensor",
    "reparametrized": "Reparametrize first and call fully_shard then",
    "augmented": "UnsupportedWeightError: second.weight cannot be constrained: it is held by several processes",
    "sharded_after_attaching": "AttachError: first.weight is no longer the parameter that the rules are attached to",
    "measured_after_sharding": "AttachError: first.weight is no longer the parameter that the rules are attached to",
    "optimizer_made_before": "AttachError: the optimizer holds none of the constrained parameters",
    "other_rules": "have different rules: only in the first ['second.weight.sum(dim=",
    "other_order": "have different rules: the same ones in another order. Attach the same rules in the same order",
    "other_numbers": "rules: their names are the same, and the numbers or weights in ['the whole'] are not.",
    "other_rules_of_copies": "rules: only in the first ['second.bias.sum() == ",
    "partial_weights": "UnsupportedWeightError: first.weight cannot be constrained: it is the sum of what several",
    "on_another_mesh": "AttachError: first.weight is held by processes [0], and this is process",
    "other_placements": "AttachError: the optimizer holds none of the constrained parameters",
    "not_on_every_process": "AttachError: processes [1, 2] hold parts or copies of the same weights as this one",
    "strided_weights": "UnsupportedWeightError: first.weight cannot be constrained: under the placements",
}


def test_all_processes_refuse_alike() -> None:
    every = together(3, "tests.shards.scenarios:refused")
    for results in every:
        assert results.keys() == ERRORS.keys()
        results["not_on_every_process"] = every[0]["not_on_every_process"]
        for name, error in results.items():
            assert ERRORS[name] in error, f"{name}: {error}"


def apart(one: Any, other: Any) -> float:
    """The largest difference of two results of one structure; texts and counts have to be equal."""
    if isinstance(one, Tensor):
        return float((one - other).abs().max()) if one.numel() else 0.0
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((apart(value, other[key]) for key, value in one.items()), default=0.0)
    if isinstance(one, list | tuple):
        return max((apart(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, float):
        return abs(one - other)
    assert one == other
    return 0.0
