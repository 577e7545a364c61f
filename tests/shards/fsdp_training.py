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
    "unit rows": lambda w: [families.unit_norm(w.second.weight)],
    "orthogonal": lambda w: [families.orthogonal(w.third.weight)],
    "product": lambda w: [(w.second.weight @ w.first.weight)[0, 0] == 0.3],
    "curved inequality": lambda w: [(w.first.weight * w.first.weight).sum() <= 2.0],
}


def numbers(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
        for name, p in model.named_parameters()
    }


def model_of(way: str, mesh: DeviceMesh | None) -> nn.Module:
    torch.manual_seed(1)
    net = Net().double()
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
    net = model_of(way, mesh)
    optimizer = make(net.parameters())
    handle = affinet.project(net, optimizer, RULES[rules](affinet.weights(net)))
    draw = torch.Generator().manual_seed(2)
    x, y = (torch.randn(8, N, generator=draw, dtype=torch.float64) for _ in range(2))
    if mesh is not None and way != "tensor parallel":
        rank, world = dist.get_rank(), dist.get_world_size()
        x, y = x.chunk(world)[rank], y.chunk(world)[rank]
    elif mesh is not None:
        rank, world = mesh["dp"].get_local_rank(), mesh["dp"].size()
        x, y = x.chunk(world)[rank], y.chunk(world)[rank]
    moved = handle.moved
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()
    return {
        "weights": numbers(net),
        "moved": moved,
        "violation": handle.violation(),
        "multipliers": handle.multipliers(),
        "stationarity": handle.stationarity(),
        "active": {name: bounds.count for name, bounds in handle.active().items()},
        "report": str(handle.report()),
        "state": handle.state_dict(),
    }


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}


def compared(way: str, kinds: tuple[str, ...] = tuple(RULES), steps: int = 6) -> dict[str, Any]:
    """Rules and optimizer → results of this process beside those of one process."""
    world = dist.get_world_size()
    two = way in ("tensor parallel", "copies of shards")
    mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("dp", "tp")) if two else init_device_mesh("cpu", (world,))
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rules in kinds:
            for name, make in OPTIMIZERS.items():
                try:
                    found[f"{rules} / {name}"] = (
                        trained("alone", None, rules, make, steps),
                        trained(way, mesh, rules, make, steps),
                    )
                except Exception:  # noqa: BLE001
                    import traceback

                    found[f"{rules} / {name}"] = traceback.format_exc()[-900:]
    return found
