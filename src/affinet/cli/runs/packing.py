"""What an optimizer remembers as JSON and tensors, and back to the same bits; nothing in it is ever run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from affinet.errors import RunError
from affinet.system.malformed import Malformed, fields, integer, integers, items


@dataclass(frozen=True)
class Packed:
    """A JSON value, and the tensors that it speaks of by their number."""

    said: Any
    tensors: Sequence[Tensor]


@dataclass(frozen=True)
class _Tensors:
    """Each tensor once, however often it is met."""

    found: list[Tensor] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)

    def number(self, tensor: Tensor) -> int:
        number = self.numbers.setdefault(id(tensor), len(self.found))
        if number == len(self.found):
            self.found.append(tensor)
        return number


def pack(optimizer: Optimizer) -> Packed:
    """The state of `optimizer` by the position of its parameters, and its settings.

    `Optimizer.state_dict` is not used, since `load_state_dict` casts numbers to the dtype of the parameter, which
    changes bits. Raises RunError for a value of a kind that no optimizer of torch keeps.
    """
    tensors = _Tensors()
    places = {id(parameter): place for place, parameter in enumerate(_parameters(optimizer))}
    state = {
        str(places[id(parameter)]): {key: _packed(value, tensors) for key, value in entries.items()}
        for parameter, entries in optimizer.state.items()
    }
    settings = [
        {key: _packed(value, tensors) for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    return Packed({"state": state, "settings": settings}, tensors.found)


def unpack(packed: Packed, optimizer: Optimizer) -> None:
    """Give `optimizer`, made as the packed one was, its state and its settings.

    Raises Malformed for anything that `pack` never says, and for another number of parameters; nothing is changed then.
    """
    said = fields(packed.said, "the optimizer", ("state", "settings"))
    parameters = _parameters(optimizer)
    made: dict[int, Tensor] = {}
    state = {}
    for place, entries in _table(said["state"], "its state").items():
        index = integer(int(place) if place.isdecimal() else place, "a parameter", 0, len(parameters) - 1)
        state[parameters[index]] = {
            key: _unpacked(value, packed.tensors, made) for key, value in _table(entries, place).items()
        }
    settings = [
        {key: _unpacked(value, packed.tensors, made) for key, value in _table(group, "its settings").items()}
        for group in items(said["settings"], "its settings")
    ]
    if [group.keys() | {"params"} for group in settings] != [group.keys() for group in optimizer.param_groups]:
        raise Malformed("the settings of the optimizer are not those that it has")
    optimizer.state.clear()
    optimizer.state.update(state)
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)


def _packed(value: object, tensors: _Tensors) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_packed(each, tensors) for each in value]
        case tuple():
            return {"tuple": [_packed(each, tensors) for each in value]}
        case Tensor():
            order = _order(value)
            laid = {} if order == sorted(order) else {"order": order}
            where = {} if value.device.type == "cpu" else {"device": str(value.device)}
            return {"tensor": tensors.number(value), **laid, **where}
    raise RunError(
        f"the optimizer keeps a {type(value).__name__}, which no checkpoint can hold. Leave out the option of "
        f"[train] that says it, or name another optimizer."
    )


def _unpacked(value: Any, tensors: Sequence[Tensor], made: dict[int, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpacked(each, tensors, made) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"tuple"}:
        return tuple(_unpacked(each, tensors, made) for each in items(value["tuple"], "a tuple"))
    said = fields(value, "a tensor", ("tensor",), ("order", "device"))
    number = integer(said["tensor"], "a tensor", 0, len(tensors) - 1)
    if number not in made:
        made[number] = _laid_out(tensors[number], said)
    return made[number]


def _laid_out(tensor: Tensor, said: Mapping[str, Any]) -> Tensor:
    """A tensor with its axes in memory in the order that they had: vector loops round their tails otherwise."""
    order = integers(said["order"], "an order") if "order" in said else tuple(range(tensor.dim()))
    if sorted(order) != list(range(tensor.dim())):
        raise Malformed(f"a tensor of {tensor.dim()} axes has the order {order}")
    laid = tensor.permute(order).contiguous().permute([order.index(axis) for axis in range(tensor.dim())])
    try:
        return laid.to(torch.device(str(said.get("device", "cpu"))))
    except (RuntimeError, AssertionError) as error:
        raise Malformed(f"a tensor was on the device {said['device']!r:.60}, which is not there") from error


def _order(tensor: Tensor) -> list[int]:
    """The axes from the one that is outermost in memory; as they come where they overlap or leave gaps."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return order if tensor.permute(order).is_contiguous() else list(range(tensor.dim()))


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{where} is no table")
    return value
