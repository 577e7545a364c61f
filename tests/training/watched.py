"""A small training that is watched at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import optim

import affinet
from tests.training.test_traps import Net, backward, rules_for

Optimizer = optim.Optimizer


def watched(
    make: Callable[..., Optimizer] = optim.Adam, dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[Net, Optimizer, affinet.Handle, affinet.Watch]:
    net = Net(dtype)
    optimizer = make(net.parameters(), **{"lr": 0.02} | options)
    handle = affinet.project(net, optimizer, rules_for(net))
    return net, optimizer, handle, handle.watch(every=1, multipliers=True)


def step(net: Net, optimizer: Optimizer) -> None:
    backward(net)
    optimizer.step()
