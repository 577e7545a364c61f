"""What `handle.watch` costs: `python -m benchmarks.watching` prints whole training steps as ratios to one not watched.

A 1024 × 1024 layer whose rows sum to one (1,048,576 entries, 1,024 equations) and a 64-32-10 classifier with two rules,
AdamW, batch 32. The trainings take turns, blocks of 100 steps, so that every hundredth step counts as one in a hundred;
a figure is the median over blocks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import affinet

BLOCK = 100
WATCHES: dict[str, dict[str, int | bool]] = {
    "not watched": {},
    "every=100": {"every": 100},
    "every=10": {"every": 10},
    "every=1": {"every": 1},
    "every=100, multipliers": {"every": 100, "multipliers": True},
}


def large() -> tuple[nn.Module, list[affinet.Constraint]]:
    """One rule over a million entries."""
    model = nn.Sequential(nn.Linear(1024, 1024))
    return model, [affinet.weights(model)[0].weight.sum(dim=1) == 1]


def small() -> tuple[nn.Module, list[affinet.Constraint]]:
    """A model whose steps are all overhead."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    w = affinet.weights(model)
    return model, [w[2].weight[0, 1] == w[2].weight[2, 3], w[0].weight.sum(dim=1) == 1]


def training(
    made: Callable[[], tuple[nn.Module, list[affinet.Constraint]]], **options: int | bool
) -> Callable[[], None]:
    """One step of a training, watched where there are options."""
    torch.manual_seed(0)
    model, rules = made()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    handle = affinet.project(model, optimizer, rules)
    if options:
        handle.watch(lambda seen: None, every=options["every"], multipliers=bool(options.get("multipliers")))
    inputs = torch.randn(32, next(model.parameters()).shape[1])

    def step() -> None:
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()

    return step


def medians(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds a step, the trainings in turns; the first block of each is left out."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(BLOCK):
                step()
            if number:
                taken[name].append((time.perf_counter() - start) / BLOCK)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Print a line for each way of watching."""
    torch.set_num_threads(1)
    for title, made, rounds in (("1,048,576 entries", large, 5), ("64-32-10 classifier", small, 15)):
        found = medians({name: training(made, **options) for name, options in WATCHES.items()}, rounds)
        print(f"{title}: {found['not watched'] * 1e3:.3g} ms a step, not watched")
        for name, seconds in found.items():
            print(f"  {name:24}{seconds / found['not watched']:.2f}")


if __name__ == "__main__":
    main()
