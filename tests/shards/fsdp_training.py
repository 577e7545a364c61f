"""Trainings with fully_shard beside the same in one process: equal batches, the mean of gradients over processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import affinet
from affinet import families

N = 6


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(N, N), nn.Linear(N, N), nn.Linear(N, N)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(torch.tanh(self.second(torch.tanh(self.first(x)))))


RULES: dict[str, Callable[[Any], list[Any]]] = {
    "row sums": lambda w: [w.second.weight.sum(dim=1) == 1],
    "column sums": lambda w: [w.second.weight.sum(dim=0) == 1],
    "transposed": lambda w: [w.second.weight == w.first.weight.T],
    "symmetric": lambda w: [w.third.weight == w.third.weight.T],
    "tie over layers": lambda w: [w.first.weight[0, 1] == -w.third.weight[N - 1, 2]],
    "not negative": lambda w: [w.first.weight >= 0],
    "simplices": lambda w: [w.second.weight.sum(dim=1) == 1, w.second.weight >= 0],
    "chains": lambda w: [w.first.weight[:, 1:] >= w.first.weight[:, :-1]],
    "polyhedron": lambda w: [w.first.weight.sum() + w.third.bias.sum() <= 0.5, w.first.weight[0] >= -0.1],
    "ball": lambda w: [families.l2_ball(w.first.weight, 1.0)],
    "unit rows": lambda w: [families.unit_norm(w.second.weight, dim=1)],
    "orthogonal": lambda w: [families.orthogonal(w.third.weight)],
    "product": lambda w: [(w.second.weight @ w.first.weight)[0, 0] == 0.3],
    "products in rows": lambda w: [w.third.weight[:, 0] * w.third.weight[:, 1] == 0.3],
    "curved inequality": lambda w: [(w.first.weight * w.first.weight).sum() <= 2.0],
}


def numbers(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
        for name, p in model.named_parameters()
    }


def model_of(way: str, mesh: DeviceMesh | None, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    net = Net().to(dtype)
    if way == "alone":
        return net
    assert mesh is not None
    if way == "tensor parallel":
        parallelize_module(net, mesh["tp"], {"first": ColwiseParallel(), "second": RowwiseParallel()})
    inner = mesh if mesh.ndim == 1 or way == "copies of shards" else mesh["dp"]
    for layer in (net.first, net.second, net.third) if way != "tensor parallel" else ():
        fully_shard(layer, mesh=inner)
    fully_shard(net, mesh=inner)
    return net


def trained(way: str, mesh: DeviceMesh | None, rules: str, make: Any, steps: int) -> dict[str, Any]:
    """What a training ends with. Every process sees its part of the batch, along the first axis of a mesh of two."""
    net = model_of(way, mesh)
    optimizer = make(net.parameters())
    handle = affinet.project(net, optimizer, RULES[rules](affinet.weights(net)))
    draw = torch.Generator().manual_seed(2)
    x, y = (torch.randn(8, N, generator=draw, dtype=torch.float64) for _ in range(2))
    if mesh is not None:
        rank, world = dist.get_rank(), dist.get_world_size()
        if way == "tensor parallel":
            rank, world = mesh["dp"].get_local_rank(), mesh["dp"].size()
        x, y = x.tensor_split(world)[rank], y.tensor_split(world)[rank]
    for _ in range(steps):
        optimizer.zero_grad()
        ((net(x) - y).square().sum() * (1 if mesh is None else world) / (8 * N)).backward()
        optimizer.step()
    return {
        "weights": numbers(net),
        "moved": handle.moved,
        "violation": handle.violation(),
        "multipliers": handle.multipliers(),
        "stationarity": handle.stationarity(),
        "active": {name: bounds.count for name, bounds in handle.active().items()},
        "report": str(handle.report()),
    }


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}
STEPS = 6


def compared(way: str, kinds: list[tuple[str, str]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """For each pair of rules and optimizer, the training in this process beside the one in all processes."""
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    if way in ("tensor parallel", "copies of shards"):
        mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("dp", "tp"))
    with warnings.catch_warnings():
        # torch says that two gathers are slower than one, and that a view of an output must not be written to.
        warnings.simplefilter("ignore")
        return [
            (
                trained("alone", None, rules, OPTIMIZERS[optimizer], STEPS),
                trained(way, mesh, rules, OPTIMIZERS[optimizer], STEPS),
            )
            for rules, optimizer in kinds
        ]
