"""First weights and batches that NumPy draws, beside those that torch draws from the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from affinet.cli.trainings.first_network import (
    first_network,
    packed_random,
    permutation,
    random_numbers,
    restore_random,
)
from affinet.cli.trainings.snapshot import Packed
from affinet.cli.trainings.torch.network import build_network
from affinet.system.malformed import Malformed
from tests.cli.conftest import changed, job_of

SEEDS = [0, 1, 2**31, 2**32 - 1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_first_weights_are_those_of_torch(folder: Path, seed: int, dtype: str) -> None:
    job = job_of(
        changed(("hidden = [5]", f'hidden = [37, 6]\ndtype = "{dtype}"'), ("batch_size", f"seed = {seed}\nbatch_size")),
        folder,
    )
    drawn = first_network(job, 13, 3).weights
    torch.manual_seed(seed)
    expected = build_network(job, 13, 3).state_dict()
    assert list(drawn) == list(expected)
    for name, tensor in expected.items():
        assert drawn[name].dtype == dtype
        # A product and a sum in float32: torch rounds them once or twice, as the processor has it. All are below 1/√3.
        np.testing.assert_allclose(drawn[name], tensor.numpy(), rtol=0, atol=2.0**-24, err_msg=name)


def test_weights_that_are_drawn_in_parts_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(changed(("hidden = [5]", "hidden = [37, 6]")), folder)
    at_once = first_network(job, 13, 3).weights
    monkeypatch.setattr("affinet.cli.trainings.first_network.DRAWN_AT_ONCE", 7)
    for name, weight in first_network(job, 13, 3).weights.items():
        np.testing.assert_array_equal(weight, at_once[name])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [0, 1, 2, 1437])
def test_batches_are_in_the_order_of_torch(seed: int, count: int) -> None:
    random, shuffling = random_numbers(seed), torch.Generator().manual_seed(seed)
    for _ in range(2):
        assert permutation(random, count).tolist() == torch.randperm(count, generator=shuffling).tolist()


def test_random_numbers_go_on_from_a_checkpoint() -> None:
    random, restored = random_numbers(3), random_numbers(0)
    permutation(random, 700)
    packed = packed_random(random)
    expected = permutation(random, 700).tolist()
    restore_random(packed, restored)
    assert permutation(restored, 700).tolist() == expected


@pytest.mark.parametrize(
    "packed",
    [
        Packed({"position": 3}, []),
        Packed({"position": 3}, [np.zeros(5, np.uint32)]),
        Packed({"position": 3}, [np.zeros(624, np.int64)]),
        Packed({"position": 625}, [np.zeros(624, np.uint32)]),
        Packed({}, [np.zeros(624, np.uint32)]),
    ],
)
def test_another_random_state_is_malformed(packed: Packed) -> None:
    with pytest.raises(Malformed, match="random state"):
        restore_random(packed, random_numbers(0))
