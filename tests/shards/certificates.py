"""Certificates of weights that several processes hold, beside that of the same weights in one process."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import affinet
from affinet import families
from affinet.report.certificate import Certificate
from tests.shards.contract_on_shards import whole

N, ROWS, STEPS = 4, 12, 2000
RULES: dict[str, Callable[[Any], list[Any]]] = {
    "equations": lambda w: [w.first.weight.sum(dim=0) == 1, w.second.weight == w.first.weight.T],
    "inequalities": lambda w: [w.first.weight >= 0, w.second.weight.sum() <= 0.5],
    "nonlinear": lambda w: [families.unit_norm(w.first.weight, dim=0)],
}


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.function = nn.Linear(N, N), nn.Linear(N, N), function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.function(self.first(x)))
        return y


def certified() -> dict[str, tuple[Certificate, Certificate, bool]]:
    """For each way of holding weights: the certificate of one process, that of all, and whether training goes on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {}
        for rules in RULES:
            net, certificate = _trained(rules)
            for way, every_row in (("shards", False), ("shards, unsharded", True), ("tensor parallel", True)):
                found[f"{rules}, {way}"] = (certificate, *_shared(net, rules, way, every_row=every_row))
        return found


def _trained(rules: str) -> tuple[Net, Certificate]:
    torch.manual_seed(0)
    net = Net(torch.tanh).double()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    handle = affinet.project(net, optimizer, RULES[rules](affinet.weights(net)))
    x, y = _rows()
    for _ in range(STEPS):
        optimizer.zero_grad()
        _loss(net, x, y).backward()
        optimizer.step()
    certificate = handle.certificate(lambda: _loss(net, x, y))
    handle.remove()
    return net, certificate


def _rows() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    x, y = (torch.randn(ROWS, N, generator=draw, dtype=torch.float64) for _ in range(2))
    return x, y


def _shared(net: Net, rules: str, way: str, *, every_row: bool) -> tuple[Certificate, bool]:
    """`every_row`: each process computes the loss of all rows; else that of its share of them."""
    x, y = _rows()
    shared = _sharded(deepcopy(net), way)
    part, target = (x, y) if every_row else (z.tensor_split(dist.get_world_size())[dist.get_rank()] for z in (x, y))
    optimizer = optim.SGD(shared.parameters(), lr=0.1, weight_decay=0.1)
    handle = affinet.project(shared, optimizer, RULES[rules](affinet.weights(shared)))
    if way == "shards, unsharded":
        with torch.no_grad():
            shared(part)
    before = whole(shared)
    certificate = handle.certificate(lambda: _loss(shared, part, target))
    optimizer.zero_grad()
    _loss(shared, part, target + 1).backward()  # the hooks and parameters are there again
    optimizer.step()
    after = whole(shared)
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    return certificate, 0.0 < moved < 1.0


def _loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (net(x) - y).square().mean()


def _sharded(net: Any, way: str) -> Any:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    if way == "tensor parallel":
        return parallelize_module(net, mesh, {"first": ColwiseParallel(), "second": RowwiseParallel()})
    for layer in (net.first, net.second):
        fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net
