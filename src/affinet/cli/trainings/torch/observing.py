"""Look at a network between two steps, and leave all that the next step depends on as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from affinet.cli.trainings.torch.random_states import random_states, restore_random_states


@contextmanager
def observed(network: nn.Module, shuffling: torch.Generator) -> Iterator[None]:
    """Inside the block the network is in its mode for evaluation: without dropout, and with its running means.

    Afterwards it is in its mode for training, and its buffers and all random numbers are as before, whatever the code
    of a user's network does in its forward.
    """
    states = random_states(shuffling)
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    network.eval()
    try:
        yield
    finally:
        network.train()
        restore_random_states(states, shuffling)
        with torch.no_grad():
            for module, name, buffer, former in buffers:
                buffer.copy_(former)
                setattr(module, name, buffer)
