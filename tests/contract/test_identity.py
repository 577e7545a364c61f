"""Law 4: with SGD, projecting weights, gradient or update and optimizing `w = w0 + N v` follow one trajectory.

Every case with every kind of momentum, along one of the two paths each time: momentum is the optimizer's alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import optim

import affinet
from tests.contract.building import (
    PATHS,
    conditioning_of,
    directions_of,
    model_of,
    oracle_of_training,
    plan_along,
    rules_of,
)
from tests.contract.case import Case
from tests.contract.running import quadratic
from tests.contract.tables import each_row, rows
from tests.oracle import Oracle

STEPS = 12
OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "Nesterov": {"momentum": 0.9, "nesterov": True},
}


def sandwiched(case: Case, path: str, options: dict[str, float]) -> tuple[affinet.Handle, Oracle, np.ndarray]:
    """The handle, the oracle of what is projected, and the trajectory under `affinet.project`."""
    model = model_of(case)
    optimizer = optim.SGD(model.parameters(), lr=0.1, **options)
    handle = affinet.project(model, optimizer, plan_along(path, rules_of(case)))
    truth = oracle_of_training(case, handle)
    names = [p.name for p in truth.layout.parameters]
    parameters = dict(model.named_parameters())
    h, c = (torch.tensor(x) for x in quadratic(case, truth))
    trajectory = []
    for _ in range(STEPS):
        flat = torch.cat(
            [torch.zeros(0, dtype=torch.float64), *(parameters[name].detach().reshape(-1) for name in names)]
        )
        trajectory.append(flat.numpy().copy())
        pieces = (h * (flat - c)).split([parameters[name].numel() for name in names])
        for name, piece in zip(names, pieces, strict=True):
            parameters[name].grad = torch.empty_like(parameters[name]).copy_(piece.reshape(parameters[name].shape))
        optimizer.step()
    return handle, truth, np.array(trajectory)


def stock(
    start: np.ndarray,
    gradient: Callable[[np.ndarray], np.ndarray],
    settle: Callable[[np.ndarray, np.ndarray], np.ndarray],
    options: dict[str, float],
) -> np.ndarray:
    """Stock SGD on one flat parameter; `settle(before, after)` says where each step ends."""
    w = torch.nn.Parameter(torch.tensor(start))
    optimizer = optim.SGD([w], lr=0.1, **options)
    trajectory = []
    for _ in range(STEPS):
        before = w.detach().numpy().copy()
        trajectory.append(before)
        w.grad = torch.tensor(gradient(before))
        optimizer.step()
        with torch.no_grad():
            w.copy_(torch.tensor(settle(before, w.detach().numpy())))
    return np.array(trajectory)


def tangent(truth: Oracle, g: np.ndarray) -> np.ndarray:
    return g - truth.inverse @ (truth.matrix @ g)


def nearest(truth: Oracle, w: np.ndarray) -> np.ndarray:
    return w - truth.inverse @ (truth.matrix @ w - truth.rhs)


@each_row("case, path, momentum", rows(PATHS, OPTIONS))
def test_projecting_anything_and_reparametrizing_follow_one_trajectory(case: Case, path: str, momentum: str) -> None:
    options = OPTIONS[momentum]
    _, truth, ours = sandwiched(case, path, options)
    h, c = quadratic(case, truth)
    start = ours[0]

    def slope(w: np.ndarray) -> np.ndarray:
        return h * (w - c)

    null = np.linalg.svd(truth.matrix)[2][truth.rank :].T if case.frozen else directions_of(case.name)[1]
    v = stock(np.zeros(null.shape[1]), lambda v: null.T @ slope(start + null @ v), lambda _, after: after, options)
    others = {
        "weights": stock(start, slope, lambda _, after: nearest(truth, after), options),
        "gradient": stock(start, lambda w: tangent(truth, slope(w)), lambda _, after: after, options),
        "update": stock(start, slope, lambda w, after: w + tangent(truth, after - w), options),
        "reparametrization": start + v @ null.T,
    }
    size = max(1.0, np.abs(ours).max(initial=0.0))
    for name, trajectory in others.items():
        gap = np.abs(trajectory - ours).max(initial=0.0)
        assert gap <= (1e-13 + 100 * conditioning_of(case.name)) * size, f"{name}: {gap:.3g}"
    if null.shape[1]:
        assert np.abs(ours[-1] - ours[0]).max() > 1e-3, "nothing was trained"
