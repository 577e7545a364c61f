"""Choose the number of threads of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 20_000_000
"""Multiplications per pass below which a second thread gains nothing; on a busy machine it is 20 times slower."""


@contextmanager
def suited_threads(multiplications: int) -> Iterator[None]:
    """Use one thread inside the block for a small network, which also gives the same bits on every number of cores.

    `multiplications` is roughly how many a forward pass over a batch takes. A large network keeps torch's threads.
    """
    threads = torch.get_num_threads()
    if multiplications < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
