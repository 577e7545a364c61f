"""How many threads a training is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 20_000_000
"""Multiplications a pass below which a second thread gains nothing, and on a busy machine costs 20 times the time."""


@contextmanager
def suited_threads(multiplications: int) -> Iterator[None]:
    """One thread inside the block for a small network, which also gives the same bits on every number of cores.

    `multiplications`: about how many a forward pass over a batch takes. A large network keeps torch's threads.
    """
    threads = torch.get_num_threads()
    if multiplications < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
