"""Cases of the contract table with their weights over several processes; what a process runs."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import affinet
from tests.contract.building import PRECISIONS, model_of, numbers, plan_along, rules_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.running import OPTIMIZERS, STEPS

ONE_DIMENSION = ("rows", "columns", "copies")
TWO_DIMENSIONS = ("rows and columns", "copies of rows", "rows twice")
LAYOUTS = {2: ONE_DIMENSION, 3: ONE_DIMENSION, 4: TWO_DIMENSIONS}
"""Number of processes → how weights are held by them."""

States = list[dict[str, Tensor]]
"""The numbers of each parameter after attaching, and after each step."""
Row = tuple[str, str, str, str, str]
"""The names of a case, a layout, a precision, an optimizer, and a path along which rules are read."""


def mesh_of(layout: str) -> DeviceMesh:
    """All processes in a row, or as a table of two columns."""
    world = dist.get_world_size()
    return init_device_mesh("cpu", (2, world // 2) if layout in TWO_DIMENSIONS else (world,))


def placed(tensor: Tensor, mesh: DeviceMesh, layout: str) -> DTensor:
    """A tensor held by the processes of a mesh, where each of them has all of its numbers."""
    rows = Shard(0) if tensor.ndim else Replicate()
    columns = Shard(1) if tensor.ndim > 1 else rows
    placements = {
        "rows": [rows],
        "columns": [columns],
        "copies": [Replicate()],
        "rows and columns": [rows, columns if tensor.ndim > 1 else Replicate()],
        "copies of rows": [Replicate(), rows],
        "rows twice": [rows, rows],
    }[layout]
    return distribute_tensor(tensor, mesh, placements, src_data_rank=None)


def place_model(model: torch.nn.Module, mesh: DeviceMesh, layout: str) -> None:
    """Replace the parameters of a model by distributed ones; a parameter of two names stays one."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                if id(parameter) not in made:
                    whole = parameter.detach()
                    made[id(parameter)] = torch.nn.Parameter(placed(whole, mesh, layout), parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]


def whole(model: torch.nn.Module) -> dict[str, Tensor]:
    """All numbers of each parameter, as tensors of their own."""
    return {
        name: (p.detach().full_tensor() if isinstance(p, DTensor) else p.detach()).clone()
        for name, p in model.named_parameters()
    }


def trained(case: Case, layout: str, dtype: torch.dtype, optimizer: str, path: str) -> list[States]:
    """The weights after attaching and after each step with the gradients of `tests.contract.running`.

    Under the rules of the case, and without: a fused optimizer may round an entry in another way where another entry
    comes first in memory, so that untouched entries have the bits of the same optimizer on the same parts.
    """
    return [_stepped(case, layout, dtype, optimizer, under) for under in (path, None)]


def _stepped(case: Case, layout: str, dtype: torch.dtype, optimizer: str, path: str | None) -> States:
    model, mesh = model_of(case, dtype), mesh_of(layout)
    place_model(model, mesh, layout)
    made = OPTIMIZERS[optimizer](model.parameters())
    if path is not None:
        affinet.project(model, made, plan_along(path, rules_of(case)))
    states = [whole(model)]
    for step in range(STEPS):
        gradients = numbers(case, "gradients", step)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.grad = placed(torch.tensor(gradients[name], dtype=dtype), mesh, layout)
        made.step()
        states.append(whole(model))
    return states


def on_this_rank(rows: list[Row]) -> list[list[States]]:
    """The states of each row, with rules and without. Each process has its part of all of them."""
    cases = {case.name: case for case in CASES}
    dtypes = {str(precision): precision.dtype for precision in PRECISIONS}
    with warnings.catch_warnings():
        # Adam's default is one call for all tensors; torch says that DTensors of two meshes are not in one call.
        warnings.simplefilter("ignore")
        return [trained(cases[name], layout, dtypes[dtype], *others) for name, layout, dtype, *others in rows]
