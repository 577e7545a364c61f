"""Clamping after Adam's step, or moving to the nearest point, keeps the rules and misses the optimum.

Five weights that are not negative and sum to one are drawn towards targets, each with a strength of its own. The best
are (0.6, 0.4, 0, 0, 0). Every optimizer runs in three ways, with the same settings and a learning rate that decays to
zero along a cosine: weights are moved onto the sum and clamped after every step; they are moved to the nearest
feasible point after every step; and attached with `affinet.project`.

    python examples/clamp_after_adam.py --figure docs/clamp_after_adam.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import affinet
from affinet import families

STEPS = 1500
TARGETS = torch.tensor([1.0, 0.5, -0.2, 0.5, -0.4], dtype=torch.float64)
STRENGTHS = torch.tensor([1.0, 4.0, 1.0, 0.2, 1.0], dtype=torch.float64)
OPTIMUM = torch.tensor([0.6, 0.4, 0.0, 0.0, 0.0], dtype=torch.float64)
OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "SGD, momentum 0.9": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}


class Vector(nn.Module):
    """A model that is one vector of weights, `w`."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((5,), 0.2, dtype=torch.float64))


def clamp(w: Tensor) -> Tensor:
    """Move onto the sum, then clamp: the sum holds no more."""
    return (w + (1 - w.sum()) / len(w)).clamp_min(0.0)


def nearest(w: Tensor) -> Tensor:
    """The nearest point that is not negative and sums to one, by sorting (Held, Wolfe & Crowder 1974)."""
    ordered = w.sort(descending=True).values
    excess = (ordered.cumsum(0) - 1.0) / torch.arange(1, len(w) + 1)
    return (w - excess[(ordered > excess).sum() - 1]).clamp_min(0.0)


RECIPES: dict[str, Callable[[Tensor], Tensor] | None] = {
    "sum, then clamp": clamp,
    "nearest point": nearest,
    "affinet.project": None,
}


def train(
    make: Callable[[Iterable[nn.Parameter]], Optimizer], recipe: Callable[[Tensor], Tensor] | None
) -> list[Tensor]:
    """The weights after every step."""
    model = Vector()
    optimizer = make(model.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if recipe is None:
        affinet.project(model, optimizer, families.simplex(affinet.weights(model).w))
    seen = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        (STRENGTHS * (model.w - TARGETS).square()).sum().div(2).backward()
        optimizer.step()
        schedule.step()
        if recipe is not None:
            model.w.data.copy_(recipe(model.w.data))
        seen.append(model.w.detach().clone())
    return seen


def draw(paths: dict[str, list[Tensor]], path: Path) -> None:
    """Where Adam's weights end in each way, and their distance from the optimum."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, (name, colour) in enumerate(zip(paths, ("#D55E00", "#E69F00", "#0072B2"), strict=True)):
        places = [i + 0.27 * (k - 1) for i in range(5)]
        left.bar(places, paths[name][-1].tolist(), width=0.25, color=colour, label=name)
        distances = [max(float((w - OPTIMUM).norm()), 1e-17) for w in paths[name]]
        right.semilogy(distances, color=colour, label=name, linewidth=4 - 1.2 * k)
    left.hlines(
        OPTIMUM.tolist(), [i - 0.45 for i in range(5)], [i + 0.45 for i in range(5)], color="black", linewidth=1
    )
    left.set(title="weights after Adam (lines: the optimum)", xlabel="weight")
    right.set(title="distance to the optimum", xlabel="step")
    right.grid(alpha=0.3)
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)


def shown(weights: Tensor) -> str:
    """The weights to two decimals."""
    return "(" + ", ".join(f"{float(w):.2f}" for w in weights) + ")"


def main() -> None:
    """Run every optimizer in every way, print the table, draw the figure where one is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the curves (needs matplotlib)")
    arguments = parser.parse_args()

    paths = {
        (optimizer, name): train(make, recipe)
        for optimizer, make in OPTIMIZERS.items()
        for name, recipe in RECIPES.items()
    }
    # The optimality conditions: the pull is the same where weights are above zero, and smaller elsewhere.
    pull = STRENGTHS * (TARGETS - OPTIMUM)
    torch.testing.assert_close(pull[:2], torch.full_like(pull[:2], 0.4))
    assert bool((pull[2:] < 0.4).all())
    for optimizer in OPTIMIZERS:
        torch.testing.assert_close(paths[optimizer, "affinet.project"][-1], OPTIMUM, rtol=0, atol=1e-6)
        print(optimizer)
        for name in RECIPES:
            print(f"    {name:<18}{shown(paths[optimizer, name][-1])}")
    if arguments.figure:
        draw({name: paths["Adam", name] for name in RECIPES}, arguments.figure)


if __name__ == "__main__":
    main()
