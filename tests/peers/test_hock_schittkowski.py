"""Hock and Schittkowski's problems with linear equations alone: published optima, and multipliers in exact numbers.

Source: Hock and Schittkowski 1981, Test examples for nonlinear programming codes: problems 9, 28 and 48 to 52.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import pi

import numpy as np
import pytest
import torch
from torch import Tensor

import affinet
from affinet import families

Loss = Callable[[Tensor], Tensor]
STEEP = 1e-7
"""The tangent gradient that counts as none: LBFGS in float64 ends where a line search sees no difference in f, which
is at the square root of its spacing times its size and curvature (Nocedal and Wright, 2nd ed., 8.1): 1e-8 here."""


@dataclass(frozen=True, eq=False)
class Problem:
    """`minimise f subject to A x == b`, its start, least value, one optimum, and the multipliers `∂f*/∂b`."""

    f: Loss
    A: list[list[float]]
    b: list[float]
    start: list[float]
    least: float
    optimum: list[float]
    prices: list[float]


def _hs52() -> tuple[list[float], list[float], float]:
    """x, ν and f of problem 52, from its optimality conditions over the rational numbers: `2 Rᵀ(R x − r) = Aᵀ ν`."""
    R = [[4, -1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    r, A = [0, 2, 1, 1], [[1, 3, 0, 0, 0], [0, 0, 1, 1, -2], [0, 1, 0, 0, -1]]
    rows = [
        [2 * sum(R[k][i] * R[k][j] for k in range(4)) for j in range(5)]
        + [-A[k][i] for k in range(3)]
        + [2 * sum(R[k][i] * r[k] for k in range(4))]
        for i in range(5)
    ] + [[*A[k], 0, 0, 0, 0] for k in range(3)]
    solved = _solve([[Fraction(value) for value in row] for row in rows])
    x, nu = solved[:5], solved[5:]
    least = sum((sum(R[k][i] * x[i] for i in range(5)) - r[k]) ** 2 for k in range(4))
    assert x == [Fraction(k, 349) for k in (-33, 11, 180, -158, 11)]  # as published
    assert least == Fraction(1859, 349)
    return [float(value) for value in x], [float(value) for value in nu], float(least)


def _solve(rows: list[list[Fraction]]) -> list[Fraction]:
    """Gauss and Jordan, over the rational numbers: each row ends with its right-hand side."""
    for k in range(len(rows)):
        pivot = next(i for i in range(k, len(rows)) if rows[i][k])
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i in range(len(rows)):
            if i != k and rows[i][k]:
                rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows]


AT_52, PRICES_52, LEAST_52 = _hs52()
PROBLEMS = {
    "HS9": Problem(
        lambda x: torch.sin(pi * x[0] / 12) * torch.cos(pi * x[1] / 16),
        [[4, -3]],
        [0],
        [0, 0],
        -0.5,
        [-3, -4],
        [pi / 96],  # ∂f/∂x1 = π/12 cos²(π/4) = π/24 at (−3, −4), and that is 4 ν
    ),
    "HS28": Problem(
        lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2, [[1, 2, 3]], [1], [-4, 1, 1], 0, [0.5, -0.5, 0.5], [0]
    ),
    "HS48": Problem(
        lambda x: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2,
        [[1, 1, 1, 1, 1], [0, 0, 1, -2, -2]],
        [5, -3],
        [3, 5, -3, 2, -2],
        0,
        [1, 1, 1, 1, 1],
        [0, 0],
    ),
    "HS49": Problem(
        lambda x: (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
        [[1, 1, 1, 4, 0], [0, 0, 1, 0, 5]],
        [7, 6],
        [10, 7, 2, -3, 0.8],
        0,
        [1, 1, 1, 1, 1],
        [0, 0],
    ),
    "HS50": Problem(
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 2,
        [[1, 2, 3, 0, 0], [0, 1, 2, 3, 0], [0, 0, 1, 2, 3]],
        [6, 6, 6],
        [35, -31, 11, 5, -5],
        0,
        [1, 1, 1, 1, 1],
        [0, 0, 0],
    ),
    "HS51": Problem(
        lambda x: (x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
        [[1, 3, 0, 0, 0], [0, 0, 1, 1, -2], [0, 1, 0, 0, -1]],
        [4, 0, 0],
        [2.5, 0.5, 2, -1, 0.5],
        0,
        [1, 1, 1, 1, 1],
        [0, 0, 0],
    ),
    "HS52": Problem(
        lambda x: (4 * x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
        [[1, 3, 0, 0, 0], [0, 0, 1, 1, -2], [0, 1, 0, 0, -1]],
        [0, 0, 0],
        [2, 2, 2, 2, 2],
        LEAST_52,
        AT_52,
        PRICES_52,
    ),
}
WAYS = ("project", "orthonormal", "free", "projection")


def gradient(problem: Problem, x: np.ndarray) -> np.ndarray:
    """∇f at x, by torch."""
    at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    return np.asarray(torch.autograd.grad(problem.f(at), at)[0])


def tangent(problem: Problem) -> np.ndarray:
    """P, dense."""
    A = np.array(problem.A, np.float64)
    return np.asarray(np.eye(A.shape[1]) - np.linalg.pinv(A) @ A)


def trained(problem: Problem, way: str) -> tuple[np.ndarray, affinet.Handle | affinet.Reparametrization]:
    """Where LBFGS ends, in one of the ways to keep the rules, and the handle."""
    layer = torch.nn.Module()
    layer.x = torch.nn.Parameter(torch.tensor(problem.start, dtype=torch.float64))
    rule = families.linear([affinet.weights(layer).x], np.array(problem.A), problem.b).named("A x = b")
    handle = None if way == "project" else affinet.reparametrize(layer, rule, basis=way)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )
    handle = affinet.project(layer, optimizer, rule) if handle is None else handle

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = problem.f(layer.x)
        loss.backward()
        return loss

    for _ in range(20):
        optimizer.step(closure)
    return layer.x.detach().numpy().copy(), handle


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_published_is_optimal(name: str) -> None:
    """The table itself: the optimum satisfies the equations, f is least there, and the gradient is Aᵀν."""
    problem = PROBLEMS[name]
    A, x = np.array(problem.A, np.float64), np.array(problem.optimum, np.float64)
    rounding = 64 * 2.0**-52
    assert np.abs(A @ x - problem.b).max() <= rounding * (np.abs(A) @ np.abs(x)).max()
    assert abs(float(problem.f(torch.from_numpy(x))) - problem.least) <= rounding
    assert np.abs(gradient(problem, x) - A.T @ problem.prices).max() <= 8 * rounding


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_way_of_training_ends_at_the_optimum(name: str, way: str) -> None:
    problem = PROBLEMS[name]
    x, _ = trained(problem, way)
    A = np.array(problem.A, np.float64)
    scale = (np.abs(A) @ np.abs(x) + np.abs(problem.b)).max()
    assert np.abs(A @ x - problem.b).max() <= 8 * len(x) * 2.0**-52 * scale
    slope = float(np.linalg.norm(tangent(problem) @ gradient(problem, x)))
    assert slope <= STEEP
    gap = float(problem.f(torch.from_numpy(x))) - problem.least
    # All but HS9 are convex: f − f* ≤ gᵀ(x − x*) = (P g)ᵀ(x − x*) for feasible points. HS9's curvature along its line
    # is at least π²/144 within a quarter period of the optimum, so that there f − f* ≤ |P g|² / curvature.
    reach = float(np.linalg.norm(x - problem.optimum))
    most = slope * reach if name != "HS9" else slope**2 / (pi**2 / 144)
    assert -64 * 2.0**-52 <= gap <= most + 64 * 2.0**-52


@pytest.mark.parametrize("name", PROBLEMS)
def test_multipliers_are_what_the_right_hand_sides_are_worth(name: str) -> None:
    problem = PROBLEMS[name]
    layer = torch.nn.Module()
    layer.x = torch.nn.Parameter(torch.tensor(problem.optimum, dtype=torch.float64))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    rule = families.linear([affinet.weights(layer).x], np.array(problem.A), problem.b).named("A x = b")
    handle = affinet.project(layer, optimizer, rule)
    problem.f(layer.x).backward()
    optimizer.step()
    found = handle.multipliers()["A x = b"].numpy()
    # ν = A⁺ᵀ g, and g is known to its rounding.
    inverse = np.linalg.norm(np.linalg.pinv(np.array(problem.A, np.float64)))
    size = 1 + np.abs(gradient(problem, np.array(problem.optimum, np.float64))).max()
    assert np.abs(found - problem.prices).max() <= 64 * 2.0**-52 * inverse * size
