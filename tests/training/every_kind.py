"""A strictly convex quadratic over weights under every kind of rule at once, and its least value by SLSQP."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

import affinet
from affinet import families

SHAPES = {"shares": (4, 5), "heights": (7,), "left": (4,), "right": (3,), "filters": (3, 4), "bias": (5,), "tied": (4,)}
SIZE = sum(int(np.prod(shape)) for shape in SHAPES.values())


@cache
def _numbers() -> dict[str, np.ndarray]:
    """The quadratic `½ vᵀ H v − cᵀ v`, of condition 9, and the rows of the polyhedron."""
    draw = np.random.default_rng(11)
    axes = np.linalg.qr(draw.normal(size=(SIZE, SIZE)))[0]
    return {
        "H": axes @ np.diag(np.geomspace(0.5, 4.5, SIZE)) @ axes.T,
        "c": 2.0 * draw.normal(size=SIZE),
        "sides": draw.normal(size=(6, 7)),
        "limits": np.abs(draw.normal(size=6)) * 0.3,
    }


class EveryKind(nn.Module):
    """Weights in all kinds of blocks. Calling it computes the loss, in float64."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        for name, shape in SHAPES.items():
            start = torch.full(shape, 0.2, dtype=dtype) if name == "shares" else torch.zeros(shape, dtype=dtype)
            self.register_parameter(name, nn.Parameter(start))
        self.register_buffer("curvature", torch.from_numpy(_numbers()["H"]), persistent=False)
        self.register_buffer("slope", torch.from_numpy(_numbers()["c"]), persistent=False)

    def flat(self) -> Tensor:
        return torch.cat([parameter.reshape(-1).double() for parameter in self.parameters()])

    def forward(self) -> Tensor:
        v = self.flat()
        return 0.5 * v @ self.curvature @ v - self.slope @ v


def rules_of(model: nn.Module) -> list[Any]:
    """A cone, a chain with bounds, a polyhedron with an equation, balls, a box, and ties, each with rules that bind."""
    w, numbers = affinet.weights(model), _numbers()
    return [
        families.simplex(w.shares, dim=1).named("simplex"),
        families.monotone(w.heights, dim=0, gap=0.05).named("order"),
        affinet.between(-0.5, w.heights, 0.5).named("range"),
        families.linear([w.left, w.right], numbers["sides"], numbers["limits"], sense="<=").named("sides"),
        (w.left.sum() == w.right.sum()).named("balance"),
        families.l2_ball(w.filters, radius=0.5, dim=1).named("norms"),
        affinet.between(-0.3, w.bias, 0.4).named("box"),
        (w.tied[:2] == w.tied[2:]).named("ties"),
    ]


def violation(v: np.ndarray) -> float:
    """By the definition of the rules, without affinet."""
    sizes = [int(np.prod(shape)) for shape in SHAPES.values()]
    parts = dict(zip(SHAPES, np.split(v, np.cumsum(sizes)[:-1]), strict=True))
    shares, numbers = parts["shares"].reshape(4, 5), _numbers()
    gaps = [
        -shares,
        np.abs(shares.sum(1) - 1.0),
        0.05 - np.diff(parts["heights"]),
        np.abs(parts["heights"]) - 0.5,
        numbers["sides"] @ np.concatenate([parts["left"], parts["right"]]) - numbers["limits"],
        np.abs(parts["left"].sum() - parts["right"].sum()),
        np.linalg.norm(parts["filters"].reshape(3, 4), axis=1) - 0.5,
        -0.3 - parts["bias"],
        parts["bias"] - 0.4,
        np.abs(parts["tied"][:2] - parts["tied"][2:]),
    ]
    return max(0.0, *(float(np.max(gap)) for gap in gaps))


@cache
def optimum(decay: float = 0.0) -> tuple[np.ndarray, float]:
    """Where the loss with `decay / 2 |v|²` is least, and the value: by SLSQP, with the rules written anew.

    A value is off by the square of the error of the weights.
    """
    H, c, sides, limits = (_numbers()[name] for name in ("H", "c", "sides", "limits"))
    H = H + decay * np.eye(SIZE)
    offsets = dict(zip(SHAPES, np.cumsum([0, *(int(np.prod(shape)) for shape in SHAPES.values())])[:-1], strict=True))

    def part(v: np.ndarray, name: str) -> np.ndarray:
        return v[offsets[name] : offsets[name] + int(np.prod(SHAPES[name]))]

    def both(v: np.ndarray) -> np.ndarray:
        return np.concatenate([part(v, "left"), part(v, "right")])

    equations = [
        {"type": "eq", "fun": lambda v: part(v, "shares").reshape(4, 5).sum(1) - 1.0},
        {"type": "eq", "fun": lambda v: part(v, "left").sum() - part(v, "right").sum()},
        {"type": "eq", "fun": lambda v: part(v, "tied")[:2] - part(v, "tied")[2:]},
    ]
    inequalities = [
        {"type": "ineq", "fun": lambda v: np.diff(part(v, "heights")) - 0.05},
        {"type": "ineq", "fun": lambda v: limits - sides @ both(v)},
        {"type": "ineq", "fun": lambda v: 0.25 - (part(v, "filters").reshape(3, 4) ** 2).sum(1)},
    ]
    ranges = {"shares": (0, None), "heights": (-0.5, 0.5), "bias": (-0.3, 0.4)}
    bounds = [ranges.get(name, (None, None)) for name, shape in SHAPES.items() for _ in range(int(np.prod(shape)))]
    start = np.zeros(SIZE)
    start[:20], start[20:27] = 0.2, np.linspace(-0.3, 0.3, 7)
    solved = minimize(
        lambda v: 0.5 * v @ H @ v - c @ v,
        start,
        jac=lambda v: H @ v - c,
        bounds=bounds,
        constraints=[*equations, *inequalities],
        method="SLSQP",
        options={"maxiter": 1_000, "ftol": 1e-12},
    )
    assert solved.success, solved.message
    assert violation(solved.x) <= 1e-9
    return solved.x, float(solved.fun)
