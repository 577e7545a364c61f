"""Problems with nonlinear equations whose optimum the literature gives.

HS: W. Hock, K. Schittkowski, Test Examples for Nonlinear Programming Codes, Springer 1981.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.training.published_problems import Problem

SYMMETRIC = np.random.default_rng(1).standard_normal((8, 8))
SYMMETRIC = SYMMETRIC + SYMMETRIC.T
LINEAR = np.random.default_rng(2).standard_normal((8, 3))
ORTHONORMAL = np.linalg.qr(np.random.default_rng(3).standard_normal((8, 3)))[0]


def _brockett(w: Tensor) -> Tensor:
    """`tr(Wᵀ A W D)` of orthonormal columns, whose least value pairs eigenvalues with the numbers of D."""
    a, d = torch.from_numpy(SYMMETRIC).to(w.dtype), torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=w.dtype))
    return torch.trace(w.T @ a @ w @ d)


def _eigenvalue_sum() -> float:
    values = np.linalg.eigvalsh(SYMMETRIC)
    return float(values[:3] @ [3.0, 2.0, 1.0])


def _quadratic_form(w: Tensor) -> Tensor:
    return w @ torch.from_numpy(SYMMETRIC).to(w.dtype) @ w


def _prod(w: Tensor) -> Tensor:
    return w[0] * w[1] * w[2] * w[3] * w[4]


def _near(target: Any) -> Callable[[Tensor], Tensor]:
    return lambda w: (w - torch.tensor(target, dtype=w.dtype)).square().sum()


PROBLEMS: dict[str, Problem] = {
    "HS6": Problem(
        np.array([-1.2, 1.0]), lambda w: (1 - w[0]) ** 2, lambda w: [10 * (w[1] - w[0] ** 2) == 0], 0.0, rate=3.0
    ),
    "HS7": Problem(
        np.array([2.0, 2.0]),
        lambda w: torch.log(1 + w[0] ** 2) - w[1],
        lambda w: [(1 + w[0] ** 2) ** 2 + w[1] ** 2 == 4],
        -(3.0**0.5),
        rate=3.0,
    ),
    "HS39": Problem(
        np.array([2.0, 2.0, 2.0, 2.0]),
        lambda w: -w[0],
        lambda w: [w[1] - w[0] ** 3 - w[2] ** 2 == 0, w[0] ** 2 - w[1] - w[3] ** 2 == 0],
        -1.0,
    ),
    "HS42": Problem(
        np.array([1.0, 1.0, 1.0, 1.0]),
        _near([1.0, 2.0, 3.0, 4.0]),
        lambda w: [w[0] == 2, w[2] ** 2 + w[3] ** 2 == 2],
        28 - 10 * 2**0.5,
    ),
    "HS60": Problem(
        np.array([2.0, 2.0, 2.0]),
        lambda w: (w[0] - 1) ** 2 + (w[0] - w[1]) ** 2 + (w[1] - w[2]) ** 4,
        lambda w: [w[0] * (1 + w[1] ** 2) + w[2] ** 4 == 4 + 3 * 2**0.5],
        0.0325682002513,
    ),
    "HS78": Problem(
        np.array([-2.0, 1.5, 2.0, -1.0, -1.0]),
        _prod,
        lambda w: [w @ w == 10, w[1] * w[2] - 5 * w[3] * w[4] == 0, w[0] ** 3 + w[1] ** 3 == -1],
        -2.91970040999,
    ),
    "least eigenvalue": Problem(
        np.ones(8), _quadratic_form, lambda w: [w.norm() == 1], float(np.linalg.eigvalsh(SYMMETRIC)[0])
    ),
    "sum of eigenvalues": Problem(ORTHONORMAL, _brockett, lambda w: [w.T @ w == np.eye(3)], _eigenvalue_sum()),
    "orthonormal rows": Problem(
        np.ascontiguousarray(ORTHONORMAL.T),
        lambda w: _brockett(w.T),
        lambda w: [w @ w.T == np.eye(3)],
        _eigenvalue_sum(),
    ),
    "nearest determinant": Problem(
        np.array([[1.5, 2.0], [1.0, 2.0]]),
        _near([[1.0, 2.0], [3.0, 4.0]]),
        lambda w: [w.det() == 1],
        0.30101010101010,
    ),
}
