"""Projecting the weights after each step finds the constrained optimum with SGD, and misses it with Adam.

A random strictly convex quadratic of 20 weights under 3 random equations, in float64. Its constrained optimum is one
linear solve away, so the distance to it can be measured exactly. Every optimizer runs twice, with the same settings
and a learning rate that decays to zero along a cosine: once with its weights projected after every step, the usual
recipe, and once attached with `affinet.project`.

    python examples/project_after_adam.py --figure docs/project_after_adam.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import affinet
from affinet import families

WEIGHTS, EQUATIONS, STEPS = 20, 3, 4000
OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "SGD, momentum 0.9": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.05),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.5),
}


@dataclass(frozen=True)
class Problem:
    """Minimise `w·Hw/2 − c·w` subject to `A w = b`."""

    H: Tensor
    c: Tensor
    A: Tensor
    b: Tensor

    @classmethod
    def random(cls, seed: int) -> Problem:
        """Standard normal `A`, `b`, `c`; `H` is the identity plus a Wishart matrix of mean identity."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        factor = normal(WEIGHTS, WEIGHTS)
        H = torch.eye(WEIGHTS, dtype=torch.float64) + factor @ factor.T / WEIGHTS
        return cls(H, normal(WEIGHTS), normal(EQUATIONS, WEIGHTS), normal(EQUATIONS))

    def loss(self, w: Tensor) -> Tensor:
        """The number to be made small."""
        return w @ self.H @ w / 2 - self.c @ w

    def optimum(self) -> Tensor:
        """The constrained optimum, from its optimality conditions `H w − c = Aᵀν`, `A w = b`."""
        corner = torch.zeros(EQUATIONS, EQUATIONS, dtype=torch.float64)
        conditions = torch.cat([torch.cat([self.H, self.A.T], dim=1), torch.cat([self.A, corner], dim=1)])
        solution: Tensor = torch.linalg.solve(conditions, torch.cat([self.c, self.b]))
        return solution[:WEIGHTS]


class Vector(nn.Module):
    """A model that is one vector of weights, `w`."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(WEIGHTS, dtype=torch.float64))


def distances(problem: Problem, make: Callable[[Iterable[nn.Parameter]], Optimizer], *, sandwich: bool) -> list[float]:
    """Distance to the constrained optimum after every step."""
    model, optimum = Vector(), problem.optimum()
    optimizer = make(model.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    project_by_hand = by_hand(problem)
    if sandwich:
        affinet.project(model, optimizer, families.linear([affinet.weights(model).w], problem.A, problem.b))
    else:
        project_by_hand(model.w.data)
    seen = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        problem.loss(model.w).backward()
        optimizer.step()
        schedule.step()
        if not sandwich:
            project_by_hand(model.w.data)
        seen.append(float((model.w.detach() - optimum).norm()))
    return seen


def by_hand(problem: Problem) -> Callable[[Tensor], Tensor]:
    """The usual recipe: move to the nearest point that satisfies the equations."""
    pseudo_inverse = torch.linalg.pinv(problem.A)
    return lambda w: w.sub_(pseudo_inverse @ (problem.A @ w - problem.b))


def draw(curves: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    """Both recipes side by side, distance against step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("step, then project the weights", "affinet.project: gradient, step, weights")
    for panel, title, which in zip(panels, titles, (0, 1), strict=True):
        for name, pair in curves.items():
            panel.semilogy(pair[which], label=name, linewidth=1.5)
        panel.set(title=title, xlabel="step")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("distance to the constrained optimum")
    panels[1].legend(frameon=False)
    figure.savefig(path, dpi=120)


def shown(distance: float) -> str:
    """One decimal, which is the same on every machine; below 1e-12 there is only rounding."""
    return "under 1e-12" if distance < 1e-12 else f"{distance:.1f}"


def main() -> None:
    """Run every optimizer both ways, print the table, draw the figure where one is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the curves (needs matplotlib)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    problem = Problem.random(arguments.seed)
    curves = {
        name: (distances(problem, make, sandwich=False), distances(problem, make, sandwich=True))
        for name, make in OPTIMIZERS.items()
    }
    print(
        f"distance to the constrained optimum after {STEPS} steps (the optimum's norm: {problem.optimum().norm():.2f})"
    )
    print(f"{'':20}{'project after':>15}{'affinet.project':>18}")
    for name, (after, sandwich) in curves.items():
        print(f"{name:20}{shown(after[-1]):>15}{shown(sandwich[-1]):>18}")
    if arguments.figure:
        draw(curves, arguments.figure)


if __name__ == "__main__":
    main()
