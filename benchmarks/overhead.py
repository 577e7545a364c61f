"""What the hooks cost a small model: a 64-32-10 network with two rules, medians over steps, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

import affinet

STEPS = 2_000


def network() -> torch.nn.Sequential:
    """A 64-32-10 classifier, the same numbers every time."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def rules(model: torch.nn.Module) -> list[affinet.Constraint]:
    """A tie of two single weights, and rows that sum to one."""
    w = affinet.weights(model)
    return [w[2].weight[0, 1] == w[2].weight[2, 3], w[0].weight.sum(dim=1) == 1]


def median_step(prepare: Callable[[torch.nn.Module, torch.optim.Optimizer], object]) -> tuple[float, float]:
    """Median seconds of a whole training step and of `optimizer.step()` alone."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    prepare(model, optimizer)
    x, y = torch.randn(32, 64), torch.randint(0, 10, (32,))
    whole, step = [], []
    for _ in range(STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        middle = time.perf_counter()
        optimizer.step()
        end = time.perf_counter()
        whole.append(end - start)
        step.append(end - middle)
    return statistics.median(whole[100:]), statistics.median(step[100:])


def without_capture(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Attach as for a model of more than 65,536 constrained entries, whose gradients are kept only when asked for."""
    handle = affinet.project(model, optimizer, rules(model))
    handle._sandwich.capture._always = False


def main() -> None:
    """Print the medians, their differences and ratios."""
    stock = [median_step(lambda model, optimizer: None) for _ in range(3)]
    ruled = [median_step(lambda model, optimizer: affinet.project(model, optimizer, rules(model))) for _ in range(3)]
    bare = [median_step(without_capture) for _ in range(3)]
    plain, plain_step = (statistics.median(times) for times in zip(*stock, strict=True))
    bound, bound_step = (statistics.median(times) for times in zip(*ruled, strict=True))
    uncaptured, uncaptured_step = (statistics.median(times) for times in zip(*bare, strict=True))
    print(f"64-32-10, Adam, batch 32, two rules; torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"step without rules     {plain * 1e6:8.0f} µs   (optimizer.step {plain_step * 1e6:6.0f} µs)")
    print(f"step with rules        {bound * 1e6:8.0f} µs   (optimizer.step {bound_step * 1e6:6.0f} µs)")
    print(
        f"without the capture    {uncaptured * 1e6:8.0f} µs   (optimizer.step {uncaptured_step * 1e6:6.0f} µs): "
        f"no copy of the gradients for multipliers()"
    )
    print(
        f"the hooks cost         {(bound_step - plain_step) * 1e6:8.0f} µs a step; "
        f"ratio of whole steps {bound / plain:.2f}; "
        f"ratio of the hooks with and without capture {(bound_step - plain_step) / (uncaptured_step - plain_step):.2f}"
    )


if __name__ == "__main__":
    main()
