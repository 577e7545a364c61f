"""Weights that are hard on a projection: even, all equal, of one sign, far away, over four decades, with one giant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

import affinet
from tests.kernels.block_kinds import draw

Weights = dict[str, Tensor]


def hard(plan: affinet.Plan, dtype: torch.dtype) -> Iterator[tuple[str, Weights]]:
    """Inputs by name: even, all equal, of one sign, far away, of magnitudes over four decades, with one giant."""
    for number, (name, numbers) in enumerate(_numbers().items()):
        yield (
            name,
            {
                p.name: torch.from_numpy(numbers(draw(number, k), p.size)).reshape(p.shape).to(dtype)
                for k, p in enumerate(plan.parameters)
            },
        )


def _numbers() -> dict[str, Callable[[np.random.Generator, int], np.ndarray]]:
    return {
        "even": lambda rng, n: rng.standard_normal(n),
        "of one sign": lambda rng, n: rng.uniform(0.5, 1.0, n),
        "all equal": lambda rng, n: np.full(n, 0.1),
        "far": lambda rng, n: 300.0 * rng.standard_normal(n),
        "decades": lambda rng, n: rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 1, n),
        "one giant": lambda rng, n: np.where(np.arange(n) == n // 3, 3e4, rng.standard_normal(n)),
    }
