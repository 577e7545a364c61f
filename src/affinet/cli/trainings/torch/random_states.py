"""Take and restore the state of every source of random numbers: torch, the shuffling of batches, Python and NumPy."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affinet.cli.trainings.snapshot import Packed
from affinet.system.malformed import Malformed, fields, integer, number

PYTHON_VERSION = 3
"""The version that `random.getstate` has returned since Python 3.2."""


def random_states(shuffling: torch.Generator) -> Packed:
    """The current states. Networks of a factory may draw from any of them."""
    _, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002  (the state of the global generator is needed)
    content = {
        "python": {"gauss": gauss},
        "numpy": {
            "position": int(numpy["state"]["pos"]),
            "has_gauss": int(numpy["has_gauss"]),
            "gauss": numpy["gauss"],
        },
    }
    return Packed(
        content,
        [
            torch.get_rng_state(),
            shuffling.get_state(),
            torch.tensor(words, dtype=torch.int64),
            torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else ()),
        ],
    )


def restore_random_states(packed: Packed, shuffling: torch.Generator) -> None:
    """Restore the states in `packed`. Raises Malformed for anything that `random_states` never writes."""
    content = fields(packed.content, "the random states", ("python", "numpy"))
    python = fields(content["python"], "Python's random state", ("gauss",))
    numpy = fields(content["numpy"], "NumPy's random state", ("position", "has_gauss", "gauss"))
    try:
        torch_state, shuffling_state, words, key, *devices = packed.tensors
        torch.set_rng_state(torch_state)
        shuffling.set_state(shuffling_state)
        gauss = None if python["gauss"] is None else number(python["gauss"], "Python's gauss")
        random.setstate((PYTHON_VERSION, tuple(words.tolist()), gauss))
        np.random.set_state(_numpy_state(key, numpy))  # noqa: NPY002
        for device, state in zip(range(torch.cuda.device_count()), devices, strict=False):
            torch.cuda.set_rng_state(state, device)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise Malformed(f"a random state is invalid: {error}") from error


def _numpy_state(key: Tensor, description: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "bit_generator": "MT19937",
        "state": {
            "key": key.numpy().astype(np.uint32),
            "pos": integer(description["position"], "NumPy's position", 0, len(key)),
        },
        "has_gauss": integer(description["has_gauss"], "NumPy's has_gauss", 0, 1),
        "gauss": number(description["gauss"], "NumPy's gauss"),
    }
