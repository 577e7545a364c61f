from __future__ import annotations

import json
import random

import numpy as np
import torch

from affinet.cli.trainings.snapshot import Packed
from affinet.cli.trainings.torch.random_states import random_states, restore_random_states


def drawn(shuffling: torch.Generator) -> tuple[object, ...]:
    return (
        torch.randn(3).tolist(),
        torch.randperm(9, generator=shuffling).tolist(),
        random.random(),
        random.gauss(0, 1),
        np.random.normal(size=3).tolist(),  # noqa: NPY002
    )


def test_every_source_goes_on_where_it_stood() -> None:
    shuffling = torch.Generator().manual_seed(3)
    drawn(shuffling)  # an odd count of normal numbers, so that one is kept for the next call
    states = random_states(shuffling)
    kept = Packed(json.loads(json.dumps(states.content)), [tensor.clone() for tensor in states.tensors])
    expected = [drawn(shuffling) for _ in range(3)]
    random.seed(9)
    np.random.seed(9)  # noqa: NPY002
    torch.manual_seed(9)
    other = torch.Generator()
    restore_random_states(kept, other)
    assert [drawn(other) for _ in range(3)] == expected
