"""Turn the states of an optimizer and of a handle into JSON and tensors, and back to the same bits.

Nothing that is stored is ever executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from affinet.cli.trainings.snapshot import Packed
from affinet.cli.trainings.torch.dtensor_parts import split_like
from affinet.errors import RunError
from affinet.language.dtensors import gathered, is_distributed
from affinet.system.malformed import Malformed, fields, integer, integers, items


@dataclass(frozen=True)
class _Numbering:
    """A numbering of tensors in which each tensor appears once, in whole."""

    tensors: list[Tensor] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)

    def number(self, tensor: Tensor) -> int:
        number = self.numbers.setdefault(id(tensor), len(self.tensors))
        if number == len(self.tensors):
            self.tensors.append(gathered(tensor))
        return number


def pack(optimizer: Optimizer) -> Packed:
    """The state of `optimizer` by the position of its parameters, and its settings.

    `Optimizer.state_dict` is not used, since `load_state_dict` casts numbers to the dtype of the parameter, which
    changes bits. Where a process holds only parts of the state, all processes call this. Raises RunError for a value of
    a kind that a checkpoint cannot hold.
    """
    numbering = _Numbering()
    positions = {id(parameter): position for position, parameter in enumerate(_parameters(optimizer))}
    state = {
        str(positions[id(parameter)]): {key: _packed(value, numbering) for key, value in entries.items()}
        for parameter, entries in optimizer.state.items()
    }
    settings = [
        {key: _packed(value, numbering) for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    return Packed({"state": state, "settings": settings}, numbering.tensors)


def unpack(packed: Packed, optimizer: Optimizer) -> None:
    """Give `optimizer`, made like the packed one, its state and its settings.

    Raises Malformed for anything that `pack` never writes, and for another number of parameters; nothing is changed
    then.
    """
    content = fields(packed.content, "the optimizer", ("state", "settings"))
    parameters = _parameters(optimizer)
    restored: dict[int, Tensor] = {}
    state = {}
    for position, entries in _table(content["state"], "its state").items():
        index = integer(int(position) if position.isdecimal() else position, "a parameter", 0, len(parameters) - 1)
        state[parameters[index]] = {
            key: _unpacked(value, packed.tensors, restored, parameters[index])
            for key, value in _table(entries, position).items()
        }
    settings = [
        {key: _unpacked(value, packed.tensors, restored) for key, value in _table(group, "its settings").items()}
        for group in items(content["settings"], "its settings")
    ]
    if [group.keys() | {"params"} for group in settings] != [group.keys() for group in optimizer.param_groups]:
        raise Malformed("the settings of the optimizer are not those that it has")
    optimizer.state.clear()
    optimizer.state.update(state)
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)


def pack_learned(blocks: Sequence[Mapping[str, Any] | None]) -> Packed:
    """What `handle.state_dict()["inequalities"]` holds: block by block the multipliers y and the face, or None.

    Both are tensors, or tables of tensors by weight where several processes hold the weights; all of them call this.
    """
    numbering = _Numbering()
    content = [
        None if block is None else {key: _packed_learned(value, numbering) for key, value in block.items()}
        for block in blocks
    ]
    return Packed(content, numbering.tensors)


def unpack_learned(packed: Packed) -> list[dict[str, Any] | None]:
    """What `pack_learned` was given. Raises Malformed for anything that it never writes."""
    restored: dict[int, Tensor] = {}
    blocks: list[dict[str, Any] | None] = []
    for content in items(packed.content, "what was learned"):
        block = None if content is None else fields(content, "a block", ("y", "face"), ("started",))
        blocks.append(
            None
            if block is None
            else {key: _unpacked_learned(value, packed.tensors, restored) for key, value in block.items()}
        )
    return blocks


def pack_table(table: Mapping[str, Any]) -> Packed:
    """Numbers and tensors by name."""
    numbering = _Numbering()
    return Packed({key: _packed(value, numbering) for key, value in table.items()}, numbering.tensors)


def unpack_table(packed: Packed, keys: Sequence[str]) -> dict[str, Any]:
    """What `pack_table` was given, under these keys. Raises Malformed for anything that it never writes."""
    content, restored = fields(packed.content, "what was learned", tuple(keys)), dict[int, Tensor]()
    return {key: _unpacked(value, packed.tensors, restored) for key, value in content.items()}


def _packed(value: object, numbering: _Numbering) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_packed(item, numbering) for item in value]
        case tuple():
            return {"tuple": [_packed(item, numbering) for item in value]}
        case Tensor():
            order = _order(value)
            axis_order = {} if order == sorted(order) else {"order": order}
            device = {} if value.device.type == "cpu" else {"device": str(value.device)}
            split = {"split": True} if is_distributed(value) else {}
            return {"tensor": numbering.number(value), **axis_order, **device, **split}
    raise RunError(
        f"the optimizer keeps a {type(value).__name__}, which a checkpoint cannot hold. Leave out the option of "
        f"[train] that causes it, or name another optimizer."
    )


def _packed_learned(value: object, numbering: _Numbering) -> Any:
    match value:
        case Mapping():
            return {"weights": {name: _packed_learned(item, numbering) for name, item in value.items()}}
        case list() | tuple():
            return [_packed_learned(item, numbering) for item in value]
    return _packed(gathered(value), numbering)


def _unpacked_learned(value: Any, tensors: Sequence[Tensor], restored: dict[int, Tensor]) -> Any:
    if isinstance(value, dict) and value.keys() == {"weights"}:
        table = _table(value["weights"], "what was learned")
        return {name: _unpacked_learned(item, tensors, restored) for name, item in table.items()}
    if isinstance(value, list):
        return [_unpacked_learned(item, tensors, restored) for item in value]
    return _unpacked(value, tensors, restored)


def _unpacked(
    value: Any, tensors: Sequence[Tensor], restored: dict[int, Tensor], parameter: Tensor | None = None
) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, tensors, restored, parameter) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"tuple"}:
        return tuple(_unpacked(item, tensors, restored, parameter) for item in items(value["tuple"], "a tuple"))
    description = fields(value, "a tensor", ("tensor",), ("order", "device", "split"))
    number = integer(description["tensor"], "a tensor", 0, len(tensors) - 1)
    if number not in restored:
        restored[number] = _laid_out(tensors[number], description, parameter)
    return restored[number]


def _laid_out(tensor: Tensor, description: Mapping[str, Any], parameter: Tensor | None) -> Tensor:
    """A tensor with its axes in their former order in memory: in another order, vector loops may round otherwise.

    A tensor that was split over processes is split again, as the parameter is that it belongs to. A tensor on a device
    comes to that of its parameter: another process of the run may have written it.
    """
    order = integers(description["order"], "an order") if "order" in description else tuple(range(tensor.dim()))
    if sorted(order) != list(range(tensor.dim())):
        raise Malformed(f"a tensor of {tensor.dim()} axes has the order {order}")
    restored = tensor.permute(order).contiguous().permute([order.index(axis) for axis in range(tensor.dim())])
    if "split" in description:
        if parameter is None or not is_distributed(parameter) or parameter.shape != tensor.shape:
            raise Malformed(f"a tensor of shape {tuple(tensor.shape)} was split over processes, as no parameter is")
        return split_like(restored, parameter)
    try:
        if "device" in description and parameter is not None and parameter.device.type != "cpu":
            return restored.to(parameter.device)
        return restored.to(torch.device(str(description.get("device", "cpu"))))
    except (RuntimeError, AssertionError) as error:
        raise Malformed(f"a tensor was on the device {description['device']!r:.60}, which is not there") from error


def _order(tensor: Tensor) -> list[int]:
    """The axes from the outermost in memory inwards; in their own order where they overlap or leave gaps."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return order if tensor.permute(order).is_contiguous() else list(range(tensor.dim()))


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _table(value: object, subject: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{subject} is not a table")
    return value
