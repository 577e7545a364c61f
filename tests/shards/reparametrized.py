"""Reparametrized models under fully_shard, beside the same in one process, and what is refused there."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn, optim
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

import affinet
from affinet.language.dtensors import gathered
from tests.shards.fsdp_training import RULES, N, Net, numbers

LINEAR = ("row sums", "column sums", "transposed", "symmetric", "tie over layers")
BASES: tuple[Any, ...] = ("orthonormal", "free", "projection")
BATCH = 12


def made(rules: str, basis: Any, dtype: torch.dtype = torch.float64) -> tuple[Net, affinet.Reparametrization]:
    torch.manual_seed(1)
    net = Net().to(dtype)
    return net, affinet.reparametrize(net, RULES[rules](affinet.weights(net)), basis=basis)


def shard(net: Net, mesh: DeviceMesh, **policy: Any) -> None:
    for layer in (net.first, net.second, net.third):
        fully_shard(layer, mesh=mesh, **policy)
    fully_shard(net, mesh=mesh, **policy)


def data(shared: bool) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    x, y = (torch.randn(BATCH, N, generator=draw, dtype=torch.float64) for _ in range(2))
    if shared:
        rank, world = dist.get_rank(), dist.get_world_size()
        return x.chunk(world)[rank], y.chunk(world)[rank]
    return x, y


def weights(net: Net) -> dict[str, Tensor]:
    """The present weights of all layers, whole."""
    tensors: dict[str, Any] = {name: layer.weight.detach() for name, layer in net.named_children()}
    return {name: gathered(tensor).clone() for name, tensor in tensors.items()}


def trained(rules: str, basis: Any, mesh: DeviceMesh | None) -> dict[str, Any]:
    """Two backward calls a step, of which the first is not synchronised; gradients are clipped."""
    net, handle = made(rules, basis)
    if mesh is not None:
        shard(net, mesh)
    optimizer = optim.AdamW(net.parameters(), lr=0.01)
    x, y = data(mesh is not None)
    for _ in range(5):
        optimizer.zero_grad()
        for is_last in (False, True):
            if mesh is not None:
                net.set_requires_gradient_sync(is_last)  # type: ignore[operator]
            (net(x) - y).square().mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
    before = {"numbers": numbers(net), "weights": weights(net), "violation": handle.violation()}
    layer = net.third if rules in ("symmetric", "tie over layers") else net.second
    with torch.no_grad():
        layer.weight = layer.weight * 2  # the nearest weights that satisfy the rules
    return {**before, "assigned": weights(net)}


def compared(way: str, kinds: list[tuple[str, str]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    if way == "copies of shards":
        mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("copies", "shards"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: two gathers are slower than one
        return [(trained(*kind, None), trained(*kind, mesh)) for kind in kinds]


def baked_elsewhere() -> bool:
    """Whether weights that are trained here equal those of a model of one process that reads the state and is baked."""
    net, _ = made("transposed", "orthonormal")
    shard(net, init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    x, y = data(True)
    (net(x) - y).square().mean().backward()
    optimizer.step()
    weight = net.second.weight.detach()
    state = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    alone, handle = made("transposed", "orthonormal")
    if dist.get_rank() == 0:  # only there is the state
        alone.load_state_dict(state)
        handle.bake()
        return torch.equal(alone.second.weight, weight) and torch.equal(alone.second.weight, alone.first.weight.T)
    return True


def refused() -> dict[str, str]:
    """The messages of what cannot be done."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    x = torch.randn(4, N, dtype=torch.float64)

    def after(action: Callable[[Net, Any], Any], **policy: Any) -> str:
        net, handle = made("transposed", "orthonormal")
        earlier = optim.Adam(net.parameters())
        shard(net, mesh, **policy)
        try:
            action(net, (handle, earlier))
        except affinet.AffinetError as error:
            return str(error)
        return "nothing"

    def stepped(net: Net, made_before: Any) -> None:
        net(x).square().mean().backward()
        made_before[1].step()

    def divided(net: Net, _: Any) -> None:
        net.second.set_gradient_divide_factor(1.0)  # type: ignore[operator]
        net(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "baked": after(lambda net, _: affinet.bake(net)),
            "removed": after(lambda net, _: nn.utils.parametrize.remove_parametrizations(net.first, "weight")),
            "multipliers": after(lambda net, others: others[0].multipliers()),
            "report": after(lambda net, others: others[0].report(lambda: net(x).square().mean())),
            "optimizer": after(stepped),
            "divided": after(divided),
            "rounded": after(lambda net, _: net(x), mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16)),
        }
