"""Steps to a fixed KKT residual with metric="optimizer" and without, on quadratics of growing spread of scales.

Minimise `w·SQSw/2 − c·Sw` subject to `A w = b`: Q is well conditioned (1 to about 5), and S spreads the scales of the
20 weights over some decades (the curvature over twice as many). The rules are three random equations ("mixed"), the
same equations on `S w`, in the units of the curvature ("scaled"), or ten ties ("ties").

The residual is the Newton decrement, √(gᵀN (NᵀHN)⁻¹ Nᵀg): unlike ‖P g‖ it does not depend on the units of the weights,
and half its square is the loss gap (Boyd and Vandenberghe, Convex Optimization, 10.2.2). A cell is the median over
seeds of the first step from which it stays below 1e-3 of its first value, at the constant learning rate of a grid that
is best for this cell, in brackets; "–" where fewer than half of the seeds come there.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import affinet

WEIGHTS, STEPS, SEEDS, RESIDUAL = 20, 1000, 5, 1e-3
SPREADS = (0, 1, 2, 3)
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SETTLED = 100
"""A run ends when all residuals have been small for so many steps."""
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "Adam": torch.optim.Adam,
    "RMSprop": torch.optim.RMSprop,
    "Adagrad": torch.optim.Adagrad,
}
Metric = Literal["euclidean", "optimizer"]


@dataclass(frozen=True)
class Problems:
    """`SEEDS` quadratics side by side, one a row of weights: the optimizers work entry by entry and do not mix them."""

    H: Tensor
    c: Tensor
    A: Tensor
    b: Tensor

    def loss(self, w: Tensor) -> Tensor:
        """The sum over the problems."""
        return torch.einsum("ki,kij,kj->", w, self.H, w) / 2 - (self.c * w).sum()


def problems(kind: str, spread: int) -> Problems:
    """Draw them."""
    generator = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    factor = normal(SEEDS, WEIGHTS, WEIGHTS)
    Q = torch.eye(WEIGHTS, dtype=torch.float64) + factor @ factor.mT / WEIGHTS
    scales = 10 ** (spread * (torch.rand(SEEDS, WEIGHTS, generator=generator, dtype=torch.float64) - 0.5))
    if kind == "ties":
        pairs = torch.eye(10, WEIGHTS, dtype=torch.float64) - torch.eye(10, WEIGHTS, dtype=torch.float64).roll(10, 1)
        A, b = pairs.expand(SEEDS, -1, -1), torch.zeros(SEEDS, 10, dtype=torch.float64)
    else:
        A, b = normal(SEEDS, 3, WEIGHTS), normal(SEEDS, 3)
        A = A * scales[:, None] if kind == "scaled" else A
    return Problems(scales[:, :, None] * Q * scales[:, None], scales * normal(SEEDS, WEIGHTS), A, b)


def steps(drawn: Problems, make: Callable[[Iterable[nn.Parameter]], Optimizer], metric: Metric) -> list[int | None]:
    """For each problem, the step from which the residual stays small; None if there is none."""
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(SEEDS, WEIGHTS, dtype=torch.float64))
    optimizer, w = make(model.parameters()), affinet.weights(model).w
    rules = [A.numpy() @ w[k] == b.numpy() for k, (A, b) in enumerate(zip(drawn.A, drawn.b, strict=True))]
    affinet.project(model, optimizer, rules, metric=metric)
    basis = torch.linalg.svd(drawn.A)[2][:, drawn.A.shape[1] :].mT
    curvature = torch.linalg.cholesky(basis.mT @ drawn.H @ basis)
    last, first = [0] * SEEDS, torch.zeros(())
    for step in range(STEPS):
        optimizer.zero_grad()
        drawn.loss(model.w).backward()
        assert model.w.grad is not None
        along = basis.mT @ model.w.grad[:, :, None]
        decrement = torch.linalg.solve_triangular(curvature, along, upper=False).norm(dim=(1, 2))
        first = decrement if step == 0 else first
        last = [step + 1 if big else old for big, old in zip(decrement > RESIDUAL * first, last, strict=True)]
        if max(last) <= step - SETTLED:
            break
        optimizer.step()
    return [at if at <= STEPS - SETTLED else None for at in last]


def best(drawn: Problems, kind: Callable[..., Optimizer], metric: Metric) -> str:
    """The smallest median over the grid of learning rates, with its rate."""
    found: list[tuple[float, float]] = []
    for rate in RATES:
        counts = steps(drawn, partial(kind, lr=rate), metric)
        median = statistics.median(STEPS if count is None else count for count in counts)
        if median < STEPS:
            found.append((median, rate))
    return f"{min(found)[0]:.0f} ({min(found)[1]:g})" if found else "–"


def main() -> None:
    """Print a line for each kind of rules and spread of scales."""
    torch.set_num_threads(1)
    print(
        f"median steps to a KKT residual of {RESIDUAL:g} (rate), at most {STEPS - SETTLED}; torch {torch.__version__}"
    )
    heads = [f"{name}, {metric}" for name in OPTIMIZERS for metric in ("euclidean", "optimizer")]
    print(f"{'rules':8}{'decades':>8}" + "".join(f"{head:>20}" for head in heads))
    metrics: tuple[Metric, ...] = ("euclidean", "optimizer")
    for rules in ("mixed", "scaled", "ties"):
        for spread in SPREADS:
            drawn = problems(rules, spread)
            cells = [best(drawn, kind, metric) for kind in OPTIMIZERS.values() for metric in metrics]
            print(f"{rules:8}{spread:8}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
