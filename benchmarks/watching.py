"""What `handle.watch` costs: `python -m benchmarks.watching` prints training steps as ratios to one not watched.

A 1024 × 1024 layer whose rows sum to one (1,048,576 entries, 1,024 equations) and a 64-32-10 classifier with two rules,
AdamW, batch 32. Three trainings take turns step by step: one that is not watched, and two of which every second step is
looked at, with multipliers and without. Medians of steps that are looked at and of steps that are not; `every=100` is
99 of these and one of those, relative to 100 of these. A step that is not looked at is compared with the first
training.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import affinet

WATCHES: dict[str, dict[str, bool] | None] = {
    "not watched": None,
    "watched": {},
    "watched, multipliers": {"multipliers": True},
}
EVERY = (1, 10, 100)


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
    made: Callable[[], tuple[nn.Module, list[affinet.Constraint]]], options: dict[str, bool] | None
) -> Callable[[], None]:
    """One step of a training; where there are options every second one is looked at."""
    torch.manual_seed(0)
    model, rules = made()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    handle = affinet.project(model, optimizer, rules)
    if options is not None:
        handle.watch(lambda seen: None, every=2, **options)
    inputs = torch.randn(32, next(model.parameters()).shape[1])

    def step() -> None:
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()

    return step


def medians(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds of a step that is looked at and of one that is not, of each training; the first ten rounds warm up."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in steps}
    for number in range(rounds):
        first = number % len(steps)
        for name, step in [*steps.items()][first:] + [*steps.items()][:first]:
            start = time.perf_counter()
            step()
            if number >= 10:
                taken[name][number % 2].append(time.perf_counter() - start)
    return {name: (statistics.median(seen), statistics.median(passed)) for name, (seen, passed) in taken.items()}


def main() -> None:
    """Print a line for each way of watching."""
    torch.set_num_threads(1)
    for title, made, rounds in (("1,048,576 entries", large, 150), ("64-32-10 classifier", small, 1000)):
        found = medians({name: training(made, options) for name, options in WATCHES.items()}, rounds)
        stock = statistics.mean(found.pop("not watched"))
        print(f"{title}: {stock * 1e3:.3g} ms a step, not watched")
        for name, (seen, passed) in found.items():
            mixed = [f"every={n}: {1.0 + (seen / passed - 1.0) / n:.2f}" for n in EVERY]
            print(f"  {name:22} {'   '.join(mixed)}   (a step that is not looked at: {passed / stock:.2f})")


if __name__ == "__main__":
    main()
