"""What a step under rules sends: the bytes of all messages of one process, beside a step without rules."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.utils._python_dispatch import TorchDispatchMode

import affinet
from affinet import families
from tests.shards.contract_on_shards import mesh_of, place_model, placed

N, LARGE = 24, 200
"""Matrices of the second size are exchanged as boxes, and those of the first entry by entry."""
ORDER = np.random.default_rng(4).permutation(LARGE)
DENSE = np.random.default_rng(3).standard_normal((5, 2 * N * N))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(N, N), nn.Linear(N, N)
        self.third, self.fourth = nn.Linear(LARGE, LARGE), nn.Linear(LARGE, LARGE)


RULES: dict[str, Callable[[Any], Any]] = {
    "row sums": lambda w: w.second.weight.sum(dim=1) == 1,
    "column sums": lambda w: w.second.weight.sum(dim=0) == 1,
    "zeros": lambda w: w.first.weight[:, : N // 2] == 0,
    "a tie over processes": lambda w: w.first.weight[0, 1] == w.second.weight[N - 1, N - 1],
    "rows that are equal": lambda w: w.first.weight[1:] == w.first.weight[:-1],
    "dense equations": lambda w: families.linear([w.first.weight, w.second.weight], DENSE, np.zeros(5)),
    "transposed layers": lambda w: w.second.weight == w.first.weight.T,
    "a symmetric matrix": lambda w: w.first.weight == w.first.weight.T,
    "a skew matrix": lambda w: w.first.weight == -w.first.weight.T,
    "large transposed layers": lambda w: w.fourth.weight == 2 * w.third.weight.T + 1,
    "transposed layers and a row of zeros": lambda w: [
        w.fourth.weight == w.third.weight.T,
        w.fourth.weight[0] == 0,
    ],
    "a large skew matrix": lambda w: w.third.weight == -w.third.weight.T,
    "a large symmetric matrix": lambda w: w.third.weight == w.third.weight.T,
    "rows in mirrored order": lambda w: w.third.weight == w.third.weight.flip(0),
    "columns in mirrored order": lambda w: w.third.weight == w.third.weight.flip(1),
    "permuted rows": lambda w: w.fourth.weight[ORDER] == w.third.weight,
    "not negative": lambda w: w.first.weight >= 0,
    "bounds without a corner": lambda w: w.first.weight.flatten()[1:] <= 1,
    "simplices of rows": lambda w: [w.first.weight.sum(dim=1) == 1, w.first.weight >= 0],
    "simplices of columns": lambda w: [w.first.weight.sum(dim=0) == 1, w.first.weight >= 0],
    "ascending rows": lambda w: families.monotone(w.first.weight, dim=1),
    "balls of rows": lambda w: families.l2_ball(w.first.weight, 1, dim=1),
    "two sums of rows": lambda w: [w.first.weight.sum(dim=1) == 1, w.first.weight[:, 1:].sum(dim=1) <= 1],
    "unit rows": lambda w: families.unit_norm(w.first.weight, dim=1),
    "products in rows": lambda w: w.first.weight[:, 0] * w.first.weight[:, 1] == 1,
    "one ball": lambda w: families.l2_ball(w.first.weight, 1),
    "several kinds": lambda w: [
        w.second.weight.sum(dim=0) == 1,
        w.third.weight.sum(dim=0) == 1,
        w.fourth.weight == -w.fourth.weight.T,
        w.first.weight[1:] == w.first.weight[:-1],
        families.l2_ball(w.third.bias, 1),
    ],
}
IN_DOUBLES = ("rows that are equal", "several kinds")
LOCAL_BY_ROWS = (
    "row sums",
    "zeros",
    "columns in mirrored order",
    "not negative",
    "bounds without a corner",
    "simplices of rows",
    "ascending rows",
    "balls of rows",
    "two sums of rows",
    "unit rows",
    "products in rows",
)
"""Rules of which each cell lies on one process where weights are split by rows."""


class Sent(TorchDispatchMode):
    """Counts the bytes of the tensors that collective operations get."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.messages = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(function).startswith(("c10d.", "_c10d_functional.")) and "wait" not in str(function):
            self.messages += 1
            # The second argument of an all-to-all is what is sent.
            self.bytes += _size(args["alltoall" in str(function)])
        return function(*args, **(kwargs or {}))


def _size(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 0


def counted(layout: str) -> dict[str, tuple[int, int]]:
    """Rules → bytes and messages of a step of float32 weights, and of float64 ones of rules in IN_DOUBLES."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name: _sent(layout, rule, torch.float32) for name, rule in RULES.items()}
        doubles = {f"{name}, float64": _sent(layout, RULES[name], torch.float64) for name in IN_DOUBLES}
        return found | doubles


def _sent(layout: str, rule: Callable[[Any], Any], dtype: torch.dtype) -> tuple[int, int]:
    torch.manual_seed(0)
    mesh, net = mesh_of(layout), Net().to(dtype)
    place_model(net, mesh, layout)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    affinet.project(net, optimizer, rule(affinet.weights(net)))
    for _ in range(2):
        for parameter in net.parameters():
            parameter.grad = placed(torch.randn(parameter.shape, dtype=dtype), mesh, layout)
        with Sent() as sent:
            optimizer.step()
    return sent.bytes, sent.messages
