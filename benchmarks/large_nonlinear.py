"""Steps on large systems of nonlinear equations, in multiples of Adam's step, and with dense derivatives.

python -m benchmarks.large_nonlinear [--dense]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np
import torch

import affinet
from affinet.plans.plan import compiled
from affinet.system.limits import Limits
from affinet.system.system import System

DENSE = Limits(dense_curved=10**6, dense_curved_cells=10**6, dense_derivatives=2**40, most_written_products=10**9)
Problem = tuple[torch.nn.Module, Callable[[Any], list[Any]]]


def module(**weights: np.ndarray) -> torch.nn.Module:
    """A module with these weights."""
    model = torch.nn.Module()
    for name, values in weights.items():
        setattr(model, name, torch.nn.Parameter(torch.tensor(values)))
    return model


def product(rows: int, terms: int, columns: int) -> Problem:
    """Two layers whose product stays as it is."""
    random = np.random.default_rng(0)
    first, second = random.normal(size=(rows, terms)) / terms**0.5, random.normal(size=(terms, columns)) / terms**0.5
    return module(first=first, second=second), lambda w: [w.first @ w.second == first @ second]


def polynomials(count: int, entries: int) -> Problem:
    """Random equations `a x_i x_j + b x_k² + d x_l = r`, each with a number of the one before it."""
    random = np.random.default_rng(1)
    i, j, k, last = np.stack([random.choice(entries, 4, replace=False) for _ in range(count)]).T
    i[1:] = last[:-1]
    a, b, d = random.normal(size=(3, count))

    def value(w: Any) -> Any:
        return a * w[i] * w[j] + b * w[k] ** 2 + d * w[last]

    point = random.normal(size=entries)
    return module(w=point), lambda w: [value(w.w) == value(point)]


def involution(size: int) -> Problem:
    """A matrix that is its own inverse."""
    random = np.random.default_rng(2)
    basis = np.linalg.qr(random.normal(size=(size, size)))[0] + 0.1 * random.normal(size=(size, size))
    signs = np.where(np.arange(size) % 3, 1.0, -1.0)
    matrix = basis * signs @ np.linalg.inv(basis)
    return module(w=matrix), lambda w: [affinet.families.involution(w.w)]


def orthonormal_with_sum(size: int) -> Problem:
    """Orthonormal rows whose entries have a given sum."""
    matrix = np.linalg.qr(np.random.default_rng(3).normal(size=(size, size)))[0]
    return module(w=matrix), lambda w: [w.w @ w.w.T == np.eye(size), w.w.sum() == matrix.sum()]


PROBLEMS: dict[str, tuple[Callable[[], Problem], bool]] = {
    "product of layers 12 x 8 by 8 x 15": (lambda: product(12, 8, 15), True),
    "200 polynomials": (lambda: polynomials(200, 600), True),
    "involution 14 x 14": (lambda: involution(14), True),
    "orthonormal with a sum 14 x 14": (lambda: orthonormal_with_sum(14), True),
    "product of layers 50 x 40 by 40 x 60": (lambda: product(50, 40, 60), False),
    "2,000 polynomials": (lambda: polynomials(2000, 6000), False),
    "involution 64 x 64": (lambda: involution(64), False),
    "orthonormal with a sum 256 x 256": (lambda: orthonormal_with_sum(256), False),
}
"""Problems, and whether dense derivatives fit."""


def seconds_per_step(problem: Callable[[], Problem], limits: Limits | None, steps: int) -> float:
    """The least process time of a step of Adam towards random weights; without limits, of Adam alone."""
    model, rules = problem()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if limits is not None:
        affinet.project(model, optimizer, compiled(System.of(rules(affinet.weights(model)), limits=limits)))
    generator = torch.Generator().manual_seed(4)
    targets = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in model.parameters()]
    times = []
    for _ in range(steps):
        for w, target in zip(model.parameters(), targets, strict=True):
            w.grad = 2.0 * (w.detach() - target)
        start = process_time()
        optimizer.step()
        times.append(process_time() - start)
    return min(times)


def main(arguments: list[str]) -> None:
    """Print a line per problem."""
    print("| | x Adam | dense, x Adam |\n|---|---|---|")
    for name, (problem, is_small) in PROBLEMS.items():
        adam, large = seconds_per_step(problem, None, 20), seconds_per_step(problem, Limits(), 10)
        dense = f"{seconds_per_step(problem, DENSE, 3) / adam:.0f}" if "--dense" in arguments and is_small else "-"
        print(f"| {name} | {large / adam:.0f} | {dense} |")


if __name__ == "__main__":
    main(sys.argv[1:])
