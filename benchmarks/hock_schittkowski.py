"""Hock and Schittkowski's 18 problems with nonlinear equations, 12 starts each, and a dense test of a point.

Source: W. Hock, K. Schittkowski, Test Examples for Nonlinear Programming Codes, Lecture Notes in Economics and
Mathematical Systems 187, Springer 1981. These are the problems whose only constraints are equations, at least one of
them nonlinear, without number 8 (its objective is constant); numbers 60, 63, 80 and 81 are taken without their bounds,
which hold strictly at the published optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import asin, prod, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affinet import Constraint, Expression

Entries = Callable[..., Any]
"""A function of the entries of the weight, which are tensors of one number or affinet's expressions."""

STARTS, SPREADS = 12, (0.5, 2.0)
"""The published start, and eleven others: normal deviates around it, of these spreads in turn."""
STATIONARY, FEASIBLE, OPTIMAL = 1e-6, 1e-8, 1e-5
"""`|P g| / max(1, |g|)` and the largest `|c|` at which a point is a KKT point, and the error of a value that counts as
the published one, relative to `max(1, |f*|)`."""
DEPENDENT = 3e-7
"""A singular value of the equilibrated derivatives, relative to the largest, below which they count as dependent."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Minimise `objective` subject to `equations == 0`, both functions of the entries of one weight."""

    name: str
    start: tuple[float, ...]
    objective: Entries
    equations: Entries
    optimum: float

    def loss(self, w: Tensor) -> Tensor:
        """The objective at weights of shape (..., n)."""
        value: Tensor = self.objective(*w.unbind(-1))
        return value

    def residuals(self, w: Tensor) -> Tensor:
        """The left sides of the equations, of shape (..., m)."""
        return torch.stack(self.equations(*w.unbind(-1)), dim=-1)

    def rules(self, w: Expression) -> list[Constraint]:
        """The equations as rules about a weight of shape (..., n): `w`, or `affinet.weights(model).w`."""
        entries = [w[..., k] for k in range(len(self.start))]
        return [(side == 0).named(f"c{k + 1}") for k, side in enumerate(self.equations(*entries))]

    def starts(self) -> Tensor:
        """All starts, of shape (12, n), the published one first; the others are the same at every call."""
        published = np.array(self.start)
        draws = np.random.default_rng(int(self.name[2:])).standard_normal((STARTS - 1, len(published)))
        spreads = np.resize(SPREADS, STARTS - 1)[:, None]
        return torch.from_numpy(np.vstack([published, published + spreads * draws]))

    def check(self, w: Tensor) -> Point:
        """How near a vector of weights is to a KKT point, from derivatives by autograd and a dense SVD in float64."""
        w = w.detach().double()
        g = torch.func.grad(self.loss)(w)
        violation = float(self.residuals(w).abs().max())
        derivatives = torch.func.jacrev(self.residuals)(w)
        if not bool(torch.isfinite(derivatives).all() and torch.isfinite(g).all()):
            return Point(float("inf"), float("inf"), float("nan"))
        lengths = derivatives.norm(dim=1, keepdim=True)
        _, sizes, directions = torch.linalg.svd(
            derivatives / torch.where(lengths > 0, lengths, 1.0), full_matrices=False
        )
        normal = directions[sizes > DEPENDENT * sizes[0].clamp_min(1e-300)]
        tangent = g - normal.T @ (normal @ g)
        return Point(float(tangent.norm() / g.norm().clamp_min(1.0)), violation, float(self.loss(w)) - self.optimum)


@dataclass(frozen=True)
class Point:
    """`stationarity` is `|P g| / max(1, |g|)`, `violation` the largest `|c|`, `gap` how far f is above the optimum."""

    stationarity: float
    violation: float
    gap: float

    @property
    def is_kkt(self) -> bool:
        """Whether the point is feasible and stationary."""
        return self.stationarity < STATIONARY and self.violation < FEASIBLE

    def is_optimal(self, problem: Problem) -> bool:
        """Whether the point is feasible and has the published value."""
        return self.violation < FEASIBLE and abs(self.gap) <= OPTIMAL * max(1.0, abs(problem.optimum))


def _sphere_product_cubes(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any) -> list[Any]:
    """The equations of problems 78, 80 and 81."""
    return [x1**2 + x2**2 + x3**2 + x4**2 + x5**2 - 10, x2 * x3 - 5 * x4 * x5, x1**3 + x2**3 + 1]


def _hs46(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any) -> Any:
    return (x1 - x2) ** 2 + (x3 - 1) ** 2 + (x4 - 1) ** 4 + (x5 - 1) ** 6


def _hs47(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any) -> Any:
    return (x1 - x2) ** 2 + (x2 - x3) ** 3 + (x3 - x4) ** 4 + (x4 - x5) ** 4


def _hs56(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any, x7: Any) -> list[Any]:
    encoded = [x - 4.2 * angle.sin() ** 2 for x, angle in ((x1, x4), (x2, x5), (x3, x6))]
    return [*encoded, x1 + 2 * x2 + 2 * x3 - 7.2 * x7.sin() ** 2]


def _hs61(x1: Any, x2: Any, x3: Any) -> Any:
    return 4 * x1**2 + 2 * x2**2 + 2 * x3**2 - 33 * x1 + 16 * x2 - 24 * x3


def _hs63(x1: Any, x2: Any, x3: Any) -> Any:
    return 1000 - x1**2 - 2 * x2**2 - x3**2 - x1 * x2 - x1 * x3


def _hs77(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any) -> Any:
    return (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x3 - 1) ** 2 + (x4 - 1) ** 4 + (x5 - 1) ** 6


def _hs79(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any) -> Any:
    return (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x2 - x3) ** 2 + (x3 - x4) ** 4 + (x4 - x5) ** 4


PROBLEMS: Sequence[Problem] = (
    Problem("HS6", (-1.2, 1.0), lambda x1, x2: (1 - x1) ** 2, lambda x1, x2: [10 * (x2 - x1**2)], 0.0),
    Problem(
        "HS7",
        (2.0, 2.0),
        lambda x1, x2: torch.log(1 + x1**2) - x2,
        lambda x1, x2: [(1 + x1**2) ** 2 + x2**2 - 4],
        -sqrt(3),
    ),
    Problem(
        "HS26",
        (-2.6, 2.0, 2.0),
        lambda x1, x2, x3: (x1 - x2) ** 2 + (x2 - x3) ** 4,
        lambda x1, x2, x3: [(1 + x2**2) * x1 + x3**4 - 3],
        0.0,
    ),
    Problem(
        "HS27",
        (2.0, 2.0, 2.0),
        lambda x1, x2, x3: 0.01 * (x1 - 1) ** 2 + (x2 - x1**2) ** 2,
        lambda x1, x2, x3: [x1 + x3**2 + 1],
        0.04,
    ),
    Problem(
        "HS39",
        (2.0, 2.0, 2.0, 2.0),
        lambda x1, x2, x3, x4: -x1,
        lambda x1, x2, x3, x4: [x2 - x1**3 - x3**2, x1**2 - x2 - x4**2],
        -1.0,
    ),
    Problem(
        "HS40",
        (0.8, 0.8, 0.8, 0.8),
        lambda x1, x2, x3, x4: -x1 * x2 * x3 * x4,
        lambda x1, x2, x3, x4: [x1**3 + x2**2 - 1, x1**2 * x4 - x3, x4**2 - x2],
        -0.25,
    ),
    Problem(
        "HS42",
        (1.0, 1.0, 1.0, 1.0),
        lambda x1, x2, x3, x4: (x1 - 1) ** 2 + (x2 - 2) ** 2 + (x3 - 3) ** 2 + (x4 - 4) ** 2,
        lambda x1, x2, x3, x4: [x1 - 2, x3**2 + x4**2 - 2],
        28 - 10 * sqrt(2),
    ),
    Problem(
        "HS46",
        (sqrt(2) / 2, 1.75, 0.5, 2.0, 2.0),
        _hs46,
        lambda x1, x2, x3, x4, x5: [x1**2 * x4 + (x4 - x5).sin() - 1, x2 + x3**4 * x4**2 - 2],
        0.0,
    ),
    Problem(
        "HS47",
        (2.0, sqrt(2), -1.0, 2 - sqrt(2), 0.5),
        _hs47,
        lambda x1, x2, x3, x4, x5: [x1 + x2**2 + x3**3 - 3, x2 - x3**2 + x4 - 1, x1 * x5 - 1],
        0.0,
    ),
    Problem(
        "HS56",
        (1.0, 1.0, 1.0, *(asin(sqrt(1 / 4.2)),) * 3, asin(sqrt(5 / 7.2))),
        lambda x1, x2, x3, *_: -x1 * x2 * x3,
        _hs56,
        -3.456,
    ),
    Problem(
        "HS60",
        (2.0, 2.0, 2.0),
        lambda x1, x2, x3: (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x2 - x3) ** 4,
        lambda x1, x2, x3: [x1 * (1 + x2**2) + x3**4 - 4 - 3 * sqrt(2)],
        0.03256820025,
    ),
    Problem(
        "HS61",
        (0.0, 0.0, 0.0),
        _hs61,
        lambda x1, x2, x3: [3 * x1 - 2 * x2**2 - 7, 4 * x1 - x3**2 - 11],
        -143.6461422,
    ),
    Problem(
        "HS63",
        (2.0, 2.0, 2.0),
        _hs63,
        lambda x1, x2, x3: [8 * x1 + 14 * x2 + 7 * x3 - 56, x1**2 + x2**2 + x3**2 - 25],
        961.7151721,
    ),
    Problem(
        "HS77",
        (2.0, 2.0, 2.0, 2.0, 2.0),
        _hs77,
        lambda x1, x2, x3, x4, x5: [
            x1**2 * x4 + (x4 - x5).sin() - 2 * sqrt(2),
            x2 + x3**4 * x4**2 - 8 - sqrt(2),
        ],
        0.24150513,
    ),
    Problem("HS78", (-2.0, 1.5, 2.0, -1.0, -1.0), lambda *x: prod(x), _sphere_product_cubes, -2.91970041),
    Problem(
        "HS79",
        (2.0, 2.0, 2.0, 2.0, 2.0),
        _hs79,
        lambda x1, x2, x3, x4, x5: [
            x1 + x2**2 + x3**3 - 2 - 3 * sqrt(2),
            x2 - x3**2 + x4 + 2 - 2 * sqrt(2),
            x1 * x5 - 2,
        ],
        0.0787768209,
    ),
    Problem("HS80", (-2.0, 2.0, 2.0, -1.0, -1.0), lambda *x: torch.exp(prod(x)), _sphere_product_cubes, 0.0539498478),
    Problem(
        "HS81",
        (-2.0, 2.0, 2.0, -1.0, -1.0),
        lambda *x: torch.exp(prod(x)) - 0.5 * (x[0] ** 3 + x[1] ** 3 + 1) ** 2,
        _sphere_product_cubes,
        0.0539498478,
    ),
)
