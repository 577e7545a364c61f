"""Mini-batch training of a network whose hidden rows lie on the simplex, beside projecting after each step.

Digits (8 × 8), 64-32-10, batches of 64, 800 steps, a cosine schedule; the hidden rows are nonnegative and sum to 1.
Both trainings start at the same weights and see the same batches. The KKT residual is `|w − Π(w − g)|` for the gradient
g over all data; the zero pattern is the set of hidden weights that are exactly 0.

    python -m benchmarks.noise
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import cos, pi

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim

import affinet
from affinet import families

STEPS, BATCH, SEEDS = 800, 64, 5
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], optim.Optimizer]] = {
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01),
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.5, momentum=0.9),
}


@dataclass(frozen=True)
class Outcome:
    """Of one training: the loss and the KKT residual over all data, exact zeros, and changes of the zero pattern."""

    loss: float
    residual: float
    zeros: int
    changes: int


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Images with pixels from 0 to 1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(labels)


def train(optimizer_name: str, seed: int, *, sandwich: bool) -> Outcome:
    """One training with affinet, or with the weights projected after each step."""
    torch.manual_seed(seed)
    first = nn.Linear(64, 32)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(32, 10))
    plan = affinet.plan(families.simplex(affinet.weights(model)[0].weight, dim=1))
    projector: affinet.Projector = plan.projector(model)
    hidden = first.weight
    hidden.data.copy_(projector.project({"0.weight": hidden.data})["0.weight"])
    optimizer = OPTIMIZERS[optimizer_name](list(model.parameters()))
    if sandwich:
        affinet.project(model, optimizer, plan)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1.0 + cos(pi * step / STEPS)))
    images, labels = digits()
    zeros, changes = hidden.detach() == 0.0, 0
    for _ in range(STEPS):
        chosen = torch.randint(len(images), (BATCH,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
        if not sandwich:
            hidden.data.copy_(projector.project({"0.weight": hidden.data})["0.weight"])
        pattern = hidden.detach() == 0.0
        changes += int((pattern != zeros).sum())
        zeros = pattern
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    assert hidden.grad is not None
    moved = projector.project({"0.weight": hidden.data - hidden.grad})["0.weight"]
    return Outcome(float(loss.detach()), float((hidden.data - moved).norm()), int(zeros.sum()), changes)


def main() -> None:
    """Print the medians over seeds, and the ratios to projecting after each step."""
    torch.set_num_threads(1)
    print(f"{'':6}{'':20}{'loss':>9}{'residual':>10}{'zeros':>8}{'changes':>9}")
    for name in OPTIMIZERS:
        medians = []
        for sandwich in (True, False):
            outcomes = [train(name, seed, sandwich=sandwich) for seed in range(SEEDS)]
            columns = zip(*((o.loss, o.residual, o.zeros, o.changes) for o in outcomes), strict=True)
            loss, residual, zeros, changes = map(statistics.median, columns)
            medians.append((residual, changes))
            side = "affinet" if sandwich else "project after a step"
            print(f"{name:6}{side:20}{loss:9.4f}{residual:10.5f}{zeros:8.0f}{changes:9.0f}", flush=True)
        (residual, changes), (residual_after, changes_after) = medians
        print(f"{name:6}{'ratio':20}{'':9}{residual / residual_after:10.2f}{'':8}{changes / changes_after:9.2f}")


if __name__ == "__main__":
    main()
