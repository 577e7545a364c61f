"""Every case of the contract table with its weights over several processes, beside the same in one process."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import affinet
from tests.contract.building import model_of, numbers, rules_of
from tests.contract.case import Case
from tests.contract.cases import CASES

LAYOUTS = ("rows", "columns", "copies", "rows and columns", "copies of rows", "rows twice")
TWO_DIMENSIONS = LAYOUTS[3:]


def placed(tensor: Tensor, mesh: DeviceMesh, layout: str) -> DTensor:
    """A tensor over the processes of a mesh, the same numbers being on each of them."""
    last = Shard(min(1, tensor.ndim - 1)) if tensor.ndim else Replicate()
    first = Shard(0) if tensor.ndim else Replicate()
    placements = {
        "rows": [first],
        "columns": [last],
        "copies": [Replicate()],
        "rows and columns": [first, last if tensor.ndim > 1 else Replicate()],
        "copies of rows": [Replicate(), first],
        "rows twice": [first, first],
    }[layout]
    return distribute_tensor(tensor, mesh, placements, src_data_rank=None)


def mesh_of(layout: str) -> DeviceMesh:
    world = dist.get_world_size()
    shape = (2, world // 2) if layout in TWO_DIMENSIONS else (world,)
    return init_device_mesh("cpu", shape)


def place_model(model: torch.nn.Module, mesh: DeviceMesh, layout: str) -> None:
    """Replace the parameters of a model by distributed ones; a parameter of two names stays one."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                if id(parameter) not in made:
                    new = torch.nn.Parameter(placed(parameter.detach(), mesh, layout), parameter.requires_grad)
                    made[id(parameter)] = new
                module._parameters[name] = made[id(parameter)]


def trained(case: Case, dtype: torch.dtype, place: Any, steps: int = 3) -> list[dict[str, Tensor]]:
    """The weights after attaching and after each step of Adam with given gradients."""
    model = model_of(case, dtype)
    if place is not None:
        place_model(model, *place)
    parameters = {name: p for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1)
    affinet.project(model, optimizer, rules_of(case))
    states = [_numbers(parameters)]
    for step in range(steps):
        for name, gradient in numbers(case, "gradients", step).items():
            tensor = torch.tensor(gradient, dtype=dtype)
            if parameters[name].requires_grad:
                parameters[name].grad = tensor if place is None else placed(tensor, *place)
        optimizer.step()
        states.append(_numbers(parameters))
    return states


def _numbers(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone() for name, p in parameters.items()
    }


def compared(layouts: tuple[str, ...], dtype: torch.dtype, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """Case and layout → the largest distance from one process after attaching and each step, or the error."""
    found: dict[str, Any] = {}
    for layout in layouts:
        mesh = mesh_of(layout)
        for case in CASES:
            if names and case.name not in names:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    alone, shared = trained(case, dtype, None), trained(case, dtype, (mesh, layout))
            except Exception as error:  # noqa: BLE001
                found[f"{case.name} / {layout}"] = f"{type(error).__name__}: {error!s:.300}"
                continue
            found[f"{case.name} / {layout}"] = [
                max((float((a[n] - b[n]).abs().max()) for n in a if a[n].numel()), default=0.0)
                for a, b in zip(alone, shared, strict=True)
            ]
    return found
