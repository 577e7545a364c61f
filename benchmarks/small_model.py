"""What the hooks cost a small model: `python -m benchmarks.small_model` prints JSON, for compare_commits.py.

A 64-32-10 classifier, batch 32, two rules, AdamW as torch makes it by default: the hooks are then all that there is to
see. A training with rules and one without take turns; medians in seconds of a whole step and of `optimizer.step()`.
It asks no more of affinet than `weights` and `project`, so that it runs on old commits too.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass

import torch
from torch import nn

import affinet

ROUNDS, BLOCK = 20, 50


@dataclass(frozen=True)
class Overhead:
    """Medians in seconds."""

    stock: float
    ruled: float
    stock_optimizer: float
    ruled_optimizer: float

    @property
    def hooks(self) -> float:
        """What the hooks add to `optimizer.step()`."""
        return self.ruled_optimizer - self.stock_optimizer


def _training(ruled: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if ruled:
        w = affinet.weights(model)
        affinet.project(model, optimizer, [w[2].weight[0, 1] == w[2].weight[2, 3], w[0].weight.sum(dim=1) == 1])
    return model, optimizer


def measured(rounds: int = ROUNDS) -> Overhead:
    """The medians of one run; the first call of every block is left out."""
    trainings = {ruled: _training(ruled) for ruled in (False, True)}
    x, y = torch.randn(32, 64), torch.randint(0, 10, (32,))
    whole: dict[bool, list[float]] = {False: [], True: []}
    alone: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds):
        for ruled in (False, True) if number % 2 else (True, False):
            model, optimizer = trainings[ruled]
            for call in range(BLOCK):
                start = time.perf_counter()
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                middle = time.perf_counter()
                optimizer.step()
                end = time.perf_counter()
                if call:
                    whole[ruled].append(end - start)
                    alone[ruled].append(end - middle)
    return Overhead(*(statistics.median(times[ruled]) for times in (whole, alone) for ruled in (False, True)))


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(asdict(measured()) | {"affinet": affinet.__file__}), file=sys.stdout)
