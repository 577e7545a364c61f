"""How far 20 steps of Adam over processes end from the same in one process, with rules and without any."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

import affinet
from tests.shards.fsdp_training import RULES, N, model_of, numbers

STEPS = 20
FREE = "no rules"


def deviations(rules: list[str], seeds: int) -> dict[str, float]:
    """Rules, and none → the root mean square of the differences of all float32 weights after training."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {kind: _deviation(kind, mesh, seeds) for kind in (FREE, *rules)}


def _deviation(kind: str, mesh: DeviceMesh, seeds: int) -> float:
    pairs = [(_trained(kind, None, seed), _trained(kind, mesh, seed)) for seed in range(seeds)]
    differences = torch.cat([(alone - shared).ravel() for alone, shared in pairs])
    return float(differences.double().square().mean().sqrt())


def _trained(kind: str, mesh: DeviceMesh | None, seed: int) -> Tensor:
    net = model_of("alone" if mesh is None else "shards", mesh, torch.float32)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    if kind != FREE:
        affinet.project(net, optimizer, RULES[kind](affinet.weights(net)))
    draw = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(12, N, generator=draw) for _ in range(2))
    world = 1 if mesh is None else mesh.size()
    if mesh is not None:
        x, y = x.chunk(world)[mesh.get_rank()], y.chunk(world)[mesh.get_rank()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((net(x) - y).square().sum() * world / (12 * N)).backward()
        optimizer.step()
    return torch.cat([values.ravel() for values in numbers(net).values()])
