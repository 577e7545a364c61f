"""DDP, FSDP2 and tensor parallelism, by hand, by Lightning and by accelerate: two processes follow the loop of one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.integrations import strategies
from tests.integrations.problem import ROUNDING, Net, plain, violation
from tests.shards.gang import together

pytest.importorskip("lightning.pytorch")
pytest.importorskip("accelerate")

REFUSED = {
    "accelerate_too_early": "AttachError: encoder.weight is no longer the parameter that the rules are attached to",
}
TAKEN = [way for way in strategies.WAYS if way not in REFUSED]
TRAININGS = [
    *((way, "equations") for way in strategies.WAYS),
    ("lightning_model_parallel", "nonlinear"), ("fabric_model_parallel", "inequalities"),
    ("accelerate_ddp", "inequalities"), ("accelerate_fsdp2", "nonlinear"),
]  # fmt: skip
"""tests/shards has all kinds of rules over processes; here one more for each library."""


@pytest.fixture(scope="module")
def ends() -> list[dict[tuple[str, str], Any]]:
    """What each process ended with, by way and kind of rules: two processes for all of them."""
    return together(2, "tests.integrations.strategies:ends", TRAININGS)


@pytest.mark.parametrize(("way", "kind"), [pair for pair in TRAININGS if pair[0] in TAKEN])
def test_a_training_is_that_of_one_process(way: str, kind: str, ends: list[dict[tuple[str, str], Any]]) -> None:
    first, second = (end[way, kind] for end in ends)
    assert torch.equal(first, second)
    net = Net()
    torch.nn.utils.vector_to_parameters(first, net.parameters())
    assert violation(net, kind) < ROUNDING
    # The mean over a batch is taken in two parts: a rounding of the gradient, amplified by Adam's first steps.
    expected = strategies.numbers(plain(strategies.adamw, most=strategies.MOST, kind=kind))
    assert torch.allclose(first, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("way", REFUSED)
def test_what_cannot_work_says_so(way: str, ends: list[dict[tuple[str, str], Any]]) -> None:
    for end in ends:
        assert str(end[way, "equations"]).startswith(REFUSED[way])
