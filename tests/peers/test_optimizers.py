"""The configurations that torch tests its optimizers with take the steps of a dense sandwich around a stock one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

import affinet
from affinet import families
from tests.peers.optimizers import Configuration, configurations

STEPS = 8
SHAPES = {"a": (6, 8), "b": (8, 5)}
ENTRIES = 88
DRAW = np.random.default_rng(0)
DENSE, RIGHT = DRAW.normal(size=(3, ENTRIES)), DRAW.normal(size=3)
START = DRAW.normal(size=ENTRIES)


class Weights(torch.nn.Module):
    """Two layers and a smooth loss over both."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.from_numpy(START[:48].reshape(6, 8).copy()))
        self.b = torch.nn.Parameter(torch.from_numpy(START[48:].reshape(8, 5).copy()))

    def loss(self) -> Tensor:
        steps = torch.linspace(-1, 1, 48, dtype=torch.float64).reshape(6, 8)
        heavy = torch.linspace(0.1, 3, 48, dtype=torch.float64).reshape(6, 8)
        passed = torch.tanh(self.a @ self.b)
        return ((self.a - steps) ** 2 * heavy).sum() + (passed - 0.3).pow(2).sum() + 0.1 * (self.b - 0.5).pow(2).sum()


def rules(model: Weights) -> list[affinet.Constraint]:
    w = affinet.weights(model)
    return [
        families.linear([w.a, w.b], DENSE, RIGHT),
        w.a.sum(dim=1) == 1,
        w.b[0, :3] == w.a[0, :3],
        w.b[7] == -w.b[6],
    ]


@cache
def plan() -> affinet.Plan:
    """The rules, planned once."""
    return affinet.plan(rules(Weights()))


def system() -> tuple[np.ndarray, np.ndarray]:
    """The same as `A w = b`, written out by hand."""
    rows, rhs = [*DENSE], [*RIGHT]
    for i in range(6):
        rows.append(np.repeat(np.eye(11)[i], 8))
        rhs.append(1.0)
    one = np.eye(ENTRIES)
    rows += [one[48 + j] - one[j] for j in range(3)]
    rows += [one[83 + j] + one[78 + j] for j in range(5)]
    return np.array(rows), np.array(rhs + [0.0] * 8)


A, B = system()
NORMS = np.linalg.norm(A, axis=1)
INVERSE = np.linalg.pinv(A / NORMS[:, None])
TANGENT, NEAREST_TO_ZERO = np.eye(ENTRIES) - INVERSE @ (A / NORMS[:, None]), INVERSE @ (B / NORMS)
ROUNDING = ENTRIES * 2.0**-52
"""A product of 88 terms is off by at most so much of its size (Higham, 2nd ed., 3.1), in ours and in the reference."""


def flat(tensors: list[Tensor]) -> np.ndarray:
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors])


def put(tensors: list[Tensor], values: np.ndarray) -> None:
    with torch.no_grad():
        for tensor, part in zip(tensors, np.split(values, [48]), strict=True):
            tensor.copy_(torch.from_numpy(part.reshape(tensor.shape)))


def closure_of(model: Weights, optimizer: torch.optim.Optimizer, after: Callable[[], None]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model.loss()
        loss.backward()
        after()
        return loss

    return closure


def step(one: Configuration, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
    if one.name == "LBFGS":
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def by_hand(one: Configuration, seed: int | None) -> np.ndarray:
    """Weights after each step of the dense sandwich (STEPS, 88); with a seed each projection is off by rounding."""
    draw = np.random.default_rng(seed)

    def rounded(values: np.ndarray) -> np.ndarray:
        if seed is None:
            return values
        noise: np.ndarray = values + ROUNDING * np.abs(values).max() * draw.uniform(-1, 1, ENTRIES)
        return noise

    model = Weights()
    weights = list(model.parameters())
    put(weights, TANGENT @ START + NEAREST_TO_ZERO)
    optimizer = one.made(weights)
    decay = one.options.get("weight_decay", 0.0) if one.couples else 0.0
    shift = -decay if one.options.get("maximize") else decay

    def project_gradients() -> None:
        w, gradients = flat(weights), [weight.grad for weight in weights if weight.grad is not None]
        put(gradients, rounded(TANGENT @ (flat(gradients) + shift * w)) - shift * w)

    closure, path = closure_of(model, optimizer, project_gradients), []
    for _ in range(STEPS):
        step(one, optimizer, closure)
        put(weights, rounded(TANGENT @ flat(weights) + NEAREST_TO_ZERO))
        path.append(flat(weights))
    return np.array(path)


def attached(one: Configuration) -> np.ndarray:
    """Weights after each step under `affinet.project` (STEPS, 88)."""
    model = Weights()
    weights = list(model.parameters())
    optimizer = one.made(weights)
    affinet.project(model, optimizer, plan())
    closure, path = closure_of(model, optimizer, lambda: None), []
    for _ in range(STEPS):
        step(one, optimizer, closure)
        path.append(flat(weights))
    return np.array(path)


@pytest.mark.parametrize("one", list(configurations()), ids=str)
def test_eight_steps_are_those_of_a_dense_sandwich(one: Configuration) -> None:
    """As near as two dense sandwiches with other roundings are: what an optimizer makes of rounding is measured."""
    expected = by_hand(one, None)
    spread = np.max([np.abs(by_hand(one, seed) - expected).max(axis=1) for seed in range(3)], axis=0)
    size = np.abs(expected).max(axis=1)
    # Both sides are off by at most ROUNDING; three draws find the worst direction to a factor of two or so.
    bound = 4 * spread + ROUNDING * size
    assert (bound <= 1e-6 * size).all(), "the optimizer makes too much of rounding for this to say anything"
    found = attached(one)
    assert (np.abs(found - expected).max(axis=1) <= bound).all()
    assert np.abs(found @ A.T - B).max() <= 2 * ROUNDING * (np.abs(found) @ np.abs(A).T + np.abs(B)).max()
    assert np.abs(expected[-1] - expected[0]).max() > 0, "nothing was trained"
