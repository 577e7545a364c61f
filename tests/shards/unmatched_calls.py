"""Calls of a handle that one process makes alone, or at the same time as another one another call."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import affinet

CALLS: dict[str, Callable[[Any], Any]] = {
    "violation": lambda handle: handle.violation(),
    "multipliers": lambda handle: handle.multipliers(),
    "one_sided_multipliers": lambda handle: handle.one_sided_multipliers(),
    "active": lambda handle: handle.active(),
    "stationarity": lambda handle: handle.stationarity(),
    "report": lambda handle: handle.report(),
    "certificate": lambda handle: handle.certificate(lambda: handle._model()(torch.ones(1, 4)).sum()),
    "html": lambda handle: handle.html(Path(tempfile.mkdtemp()) / "page.html"),
    "watch": lambda handle: handle.watch(),
}
PATIENCE = timedelta(seconds=0.5)


def unmatched() -> dict[str, Any]:
    """Call → what the process that makes it alone is told; and what all of them get when they make it together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = _sharded(_net())
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        handle, computed = _projected(net, optimizer), _computed()
        calls = {f"handle.{name}()": (call, handle) for name, call in CALLS.items()}
        calls["of computed weights"] = CALLS["violation"], computed
        rank, found = dist.get_rank(), {}
        for number, (name, (call, on)) in enumerate(calls.items()):
            with _impatient():
                found[name] = _error_of(call, on) if number % 2 == rank else ""
        found["different"] = _error_of(CALLS["active" if rank else "violation"], handle)
        for call, on in calls.values():
            call(on)
        found["violation"] = [handle.violation(), computed.violation()]
        return found


def _projected(net: Any, optimizer: optim.Optimizer) -> Any:
    w = affinet.weights(net)
    handle = affinet.project(net, optimizer, [w[0].weight.sum(dim=0) == 1, w[1].weight >= 0])
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return handle


def _computed() -> Any:
    net = _net()
    w = affinet.weights(net)
    handle = affinet.reparametrize(net, w[0].weight.sum(dim=0) == 1)
    _sharded(net)
    return handle


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


def _sharded(net: nn.Module) -> nn.Module:
    fully_shard(net, mesh=_mesh())
    return net


def _mesh() -> Any:
    return init_device_mesh("cpu", (dist.get_world_size(),))


@contextmanager
def _impatient() -> Iterator[None]:
    """Processes wait for others as long as `PATIENCE`; all leave together."""
    store = dist.distributed_c10d._get_process_group_store(_mesh().get_group())
    patience = store.timeout
    store.set_timeout(PATIENCE)
    yield
    store.set_timeout(patience)
    dist.barrier()


def _error_of(call: Callable[[Any], Any], handle: Any) -> str:
    try:
        call(handle)
    except affinet.AffinetError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"
