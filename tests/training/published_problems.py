"""Problems with inequalities whose optimum independent solvers and the literature give.

HS: W. Hock, K. Schittkowski, Test Examples for Nonlinear Programming Codes, Springer 1981, with the published optima.
The others are least squares, whose optima Clarabel found at a tolerance of 1e-13, polished on the active set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

import affinet
from affinet import families

Rules = Callable[[Any], list[Any]]


@dataclass(frozen=True, eq=False)
class Problem:
    """Minimise `loss` over one weight `w` of `start`'s shape under `rules`.

    `rate` scales learning rates; `rates` replaces it for some optimizers.
    """

    start: np.ndarray
    loss: Callable[[Tensor], Tensor]
    rules: Rules
    optimum: float
    rate: float = 1.0
    rates: Mapping[str, float] = field(default_factory=dict)
    steps: int = 600

    def model(self, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
        """A module with the weight `w` at the start."""
        model = torch.nn.Module()
        model.w = torch.nn.Parameter(torch.tensor(self.start, dtype=dtype))
        return model


def _least_squares(x: np.ndarray, y: np.ndarray) -> Callable[[Tensor], Tensor]:
    """`½ |X wᵀ − Y|² / m` for a vector w, or for a matrix with one row per output."""
    inputs, outputs = torch.from_numpy(x), torch.from_numpy(y)

    def loss(w: Tensor) -> Tensor:
        w = w.double()
        return 0.5 * (inputs @ (w.T if w.ndim > 1 else w) - outputs).square().sum() / len(inputs)

    return loss


@cache
def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return x / x.std(0), (y - y.mean()) / y.std()


def _nnls() -> Problem:
    x, y = _diabetes()
    return Problem(np.full(10, 0.1), _least_squares(x, y), lambda w: [w >= 0], 0.259210653594)


def _nnls_badly_scaled() -> Problem:
    x, y = _diabetes()
    scale = 10.0 ** np.linspace(-1.5, 1.5, 10)
    return Problem(
        np.full(10, 0.1) / scale,
        _least_squares(x * scale, y),
        lambda w: [w >= 0],
        0.259210653594,
        rates={"SGD with momentum": 0.0094},
    )


def _nnls_with_sum() -> Problem:
    x, y = _diabetes()
    loss = _least_squares(x * 10.0 ** np.linspace(-0.5, 0.5, 10), y)
    return Problem(np.full(10, 0.1), loss, lambda w: families.simplex(w, dim=0), 0.25974307093)


def _rows(*, equal: bool) -> Problem:
    draw = np.random.default_rng(1)  # in the order in which the solver's problem was drawn
    outputs, inputs = 6, 8
    x = draw.normal(size=(200, inputs))
    x = x * 10.0 ** draw.uniform(-0.5, 0.5, inputs)
    x = x @ (np.eye(inputs) + 0.3 * draw.normal(size=(inputs, inputs)))
    truth = draw.normal(size=(inputs, outputs)) * 0.5 + 0.2
    y = x @ truth + 0.5 * draw.normal(size=(200, outputs))

    def rules(w: Any) -> list[Any]:
        return [w >= 0, w.sum(dim=1) == 1 if equal else w.sum(dim=1) <= 1]

    return Problem(np.full((outputs, inputs), 0.1), _least_squares(x, y), rules, 9.04809666965)


def _dense() -> Problem:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(60, 20)) * 10.0 ** draw.uniform(-0.5, 0.5, 20)
    truth = draw.normal(size=20)
    sides, limits = draw.normal(size=(40, 20)), np.abs(draw.normal(size=40)) * 0.5
    y = x @ truth + 0.5 * draw.normal(size=60)
    return Problem(np.zeros(20), _least_squares(x, y), lambda w: [sides @ w <= limits], 9.38420396518)


def _budget() -> Problem:
    draw = np.random.default_rng(5)
    x = draw.normal(size=(100, 20)) * 10.0 ** draw.uniform(-1, 1, 20)
    truth = draw.normal(size=20)
    costs = np.abs(draw.normal(size=(3, 20))) * 10.0 ** draw.uniform(-1, 1, 20)
    y = x @ truth + 0.5 * draw.normal(size=100)

    def rules(w: Any) -> list[Any]:
        return [costs @ w <= 0.5, affinet.between(-1, w, 1)]

    return Problem(np.zeros(20), _least_squares(x, y), rules, 1.17025330356, rates={"SGD with momentum": 0.11})


def _hs86(x: Tensor) -> Tensor:
    linear = torch.tensor([-15.0, -27, -36, -18, -12], dtype=torch.float64)
    square = torch.tensor(
        [
            [30.0, -20, -10, 32, -10],
            [-20, 39, -6, -31, 32],
            [-10, -6, 10, -6, -10],
            [32, -31, -6, 39, -20],
            [-10, 32, -10, -20, 30],
        ],
        dtype=torch.float64,
    )
    cubic = torch.tensor([4.0, 8, 10, 6, 2], dtype=torch.float64)
    return linear @ x + x @ square @ x + (cubic * x**3).sum()


HS86_ROWS = [
    [-16, 2, 0, 1, 0], [0, -2, 0, 4, 2], [-3.5, 0, 2, 0, 0], [0, -2, 0, -4, -1], [0, -9, -2, 1, -2.8],
    [2, 0, -4, 0, 0], [-1, -1, -1, -1, -1], [-1, -2, -3, -2, -1], [1, 2, 3, 4, 5], [1, 1, 1, 1, 1],
]  # fmt: skip
HS86_LEAST = [-40, -2, -0.25, -4, -4, -1, -40, -60, 5, 1]
ROOT = 3**0.5

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "nnls": _nnls,
    "nnls_bad": _nnls_badly_scaled,
    "nnls_sum": _nnls_with_sum,
    "rows=": lambda: _rows(equal=True),
    "rows<=": lambda: _rows(equal=False),
    "dense20": _dense,
    "budget": _budget,
    "HS21": lambda: Problem(
        np.array([5.0, -1.0]),
        lambda x: 0.01 * x[0] ** 2 + x[1] ** 2 - 100,
        lambda w: [10 * w[0] - w[1] >= 10, affinet.between([2, -50], w, 50)],
        -99.96,
    ),
    "HS24": lambda: Problem(
        np.array([1.0, 0.5]),
        lambda x: ((x[0] - 3) ** 2 - 9) * x[1] ** 3 / (27 * ROOT),
        lambda w: [w[0] / ROOT - w[1] >= 0, w[0] + ROOT * w[1] >= 0, w[0] + ROOT * w[1] <= 6, w >= 0],
        -1.0,
    ),
    "HS35": lambda: Problem(
        np.full(3, 0.5),
        lambda x: (
            9 - 8 * x[0] - 6 * x[1] - 4 * x[2] + 2 * x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2 + 2 * x[0] * x[1]
            + 2 * x[0] * x[2]
        ),
        lambda w: [w[0] + w[1] + 2 * w[2] <= 3, w >= 0],
        1 / 9,
    ),
    "HS36": lambda: Problem(
        np.full(3, 10.0),
        lambda x: -x[0] * x[1] * x[2],
        lambda w: [w[0] + 2 * w[1] + 2 * w[2] <= 72, affinet.between(0, w, [20, 11, 42])],
        -3300.0,
        rate=10.0,
    ),
    "HS44": lambda: Problem(
        np.array([0.1, 1.0, 0.1, 1.0]),
        lambda x: x[0] - x[1] - x[2] - x[0] * x[2] + x[0] * x[3] + x[1] * x[2] - x[1] * x[3],
        lambda w: [
            np.array([[1, 2, 0, 0], [4, 1, 0, 0], [3, 4, 0, 0], [0, 0, 2, 1], [0, 0, 1, 2], [0, 0, 1, 1]]) @ w
            <= [8, 12, 12, 8, 8, 5],
            w >= 0,
        ],
        -15.0,
    ),
    "HS45": lambda: Problem(
        np.full(5, 0.5),
        lambda x: 2 - x.prod() / 120,
        lambda w: affinet.between(0, w, [1, 2, 3, 4, 5]),
        1.0,
        rates={"SGD with momentum": 100.0},
    ),
    "HS76": lambda: Problem(
        np.full(4, 0.5),
        lambda x: (
            x[0] ** 2 + 0.5 * x[1] ** 2 + x[2] ** 2 + 0.5 * x[3] ** 2 - x[0] * x[2] + x[2] * x[3] - x[0] - 3 * x[1]
            + x[2] - x[3]
        ),
        lambda w: [np.array([[1, 2, 1, 1], [3, 1, 2, -1], [0, -1, -4, 0]]) @ w <= [5, 4, -1.5], w >= 0],
        -4.681818181818182,
    ),
    "HS86": lambda: Problem(
        np.array([0.0, 0, 0, 0, 1]), _hs86, lambda w: [np.array(HS86_ROWS) @ w >= HS86_LEAST, w >= 0], -32.348678966
    ),
    "HS110": lambda: Problem(
        np.full(10, 9.0),
        lambda x: (torch.log(x - 2) ** 2 + torch.log(10 - x) ** 2).sum() - x.prod() ** 0.2,
        lambda w: affinet.between(2.001, w, 9.999),
        -45.77846971,
        rates={"RMSprop": 0.1},
    ),
}  # fmt: skip
"""Name → the problem, made when it is called."""
