"""Read a torch module: its parameters, their names, and the parameters that cannot be constrained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided

from affinet.language.computed import Refusal, computed_weights
from affinet.language.dtensors import is_distributed, local_part, reason_against
from affinet.language.wrappers import parts

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, slots=True)
class ModuleWeights:
    """The parameters of a module by name.

    `parameters` maps the first name of every parameter to the object itself, in the module's order. `aliases` maps
    every further name of a tied parameter to its first name. `refused` holds all names that cannot be constrained,
    those of computed weights included; these are neither in `parameters` nor in `aliases`.
    """

    parameters: Mapping[str, torch.nn.Parameter]
    aliases: Mapping[str, str]
    refused: Mapping[str, Refusal]


def is_of_keras(value: object) -> bool:
    """Whether this is a model, layer or optimizer of Keras; on its torch backend models are torch modules, too."""
    return any(kind.__module__.partition(".")[0] == "keras" for kind in type(value).__mro__)


def read_module(module: torch.nn.Module) -> ModuleWeights:
    """The parameters of `module`, with names that skip `torch.compile` and other wrappers.

    Errors: `AttachError` for weights that are flat pieces on several processes.
    """
    first_names: dict[int, str] = {}
    parameters: dict[str, torch.nn.Parameter] = {}
    aliases: dict[str, str] = {}
    refused: dict[str, Refusal] = {}
    for path, part in parts(module):
        for key, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{path}.{key}" if path else key
            canonical = first_names.setdefault(id(parameter), name)
            if canonical == name:
                parameters.setdefault(name, parameter)
            else:
                aliases[name] = canonical
        refused.update(computed_weights(path, part))
    refused.update({name: refusal for name, p in parameters.items() if (refusal := _refusal_of(name, p)) is not None})
    constrainable = {name: p for name, p in parameters.items() if name not in refused}
    refused.update(_overlapping(constrainable))
    return ModuleWeights(
        {name: p for name, p in parameters.items() if name not in refused},
        {name: canonical for name, canonical in aliases.items() if canonical not in refused and name not in refused},
        refused | {name: refused[canonical] for name, canonical in aliases.items() if canonical in refused},
    )


def parameters_of(module: torch.nn.Module, names: Iterable[str]) -> Mapping[str, torch.nn.Parameter]:
    """The parameters of `module` by their first name.

    Errors: as `read_module`, and `UnsupportedWeightError` where one of `names` cannot be constrained.
    """
    module_weights = read_module(module)
    for name in names:
        if name in module_weights.refused:
            raise module_weights.refused[name].error()
    return module_weights.parameters


def present_weights(module: torch.nn.Module, names: Iterable[str]) -> Mapping[str, torch.Tensor]:
    """The current weights of `module`, by any of their names; those in `names` may be parametrized.

    Errors: as `parameters_of`, except that weights with a parametrization are computed and not refused.
    """
    from torch.nn.utils import parametrize

    computed: dict[str, torch.Tensor] = {}
    wanted_names = set(names)
    for path, part in parts(module):
        if parametrize.is_parametrized(part):
            prefix = f"{path}." if path else ""
            keys = [key for key, _ in part.get_submodule("parametrizations").named_children()]
            computed |= {prefix + key: getattr(part, key).detach() for key in keys if prefix + key in wanted_names}
    module_weights = read_module(module)
    for name in wanted_names - computed.keys():
        if name in module_weights.refused:
            raise module_weights.refused[name].error()
    tied_parameters = {name: module_weights.parameters[first] for name, first in module_weights.aliases.items()}
    return {name: p.detach() for name, p in {**module_weights.parameters, **tied_parameters}.items()} | computed


def _refusal_of(name: str, parameter: torch.nn.Parameter) -> Refusal | None:
    import torch
    from torch.nn.parameter import is_lazy

    if is_lazy(parameter):
        return Refusal(
            name, "it is lazy: its shape is not known yet", "Run the model once on an input, then ask again."
        )
    if parameter.is_complex():
        return Refusal(name, "it is complex", "Keep real and imaginary parts as two real parameters.")
    if not parameter.is_floating_point():
        return Refusal(name, f"its numbers are {parameter.dtype}", "Rules hold for floating-point weights.")
    if parameter.layout is not torch.strided:
        return Refusal(name, f"it is sparse ({parameter.layout})", "Make it dense, and write its zeros as rules.")
    if is_distributed(parameter) and (reason := reason_against(parameter)) is not None:
        return Refusal(name, reason, "Give it the placements Shard or Replicate (DTensor.redistribute).")
    if _repeats_itself(parameter):
        return Refusal(
            name, "several of its entries are one number in memory (it was expanded)", "Call .contiguous() on it first."
        )
    return None


def _repeats_itself(parameter: torch.nn.Parameter) -> bool:
    """Whether two entries may share memory: some stride does not exceed the reach of all smaller strides."""
    if not parameter.numel():
        return False
    reach = 0
    for step, size in sorted(zip(parameter.stride(), parameter.shape, strict=True)):
        if size > 1:
            if step <= reach:
                return True
            reach += step * (size - 1)
    return False


def _overlapping(parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, Refusal]:
    """Refusals of parameters that are different objects in the same memory."""
    spans: dict[int, list[tuple[int, int, str]]] = {}
    for name, parameter in ((name, local_part(parameter)) for name, parameter in parameters.items()):
        if parameter.numel() and not parameter.is_meta and parameter.untyped_storage().data_ptr():
            first = parameter.storage_offset() * parameter.element_size()
            reach = sum(step * (n - 1) for step, n in zip(parameter.stride(), parameter.shape, strict=True))
            span = (int(first), int(first + (reach + 1) * parameter.element_size()), name)
            spans.setdefault(parameter.untyped_storage().data_ptr(), []).append(span)
    refused = {}
    for shared in spans.values():
        for (_, end, name), (start, _, other) in _overlapping_pairs(sorted(shared)):
            if start < end and _share_memory(local_part(parameters[name]), local_part(parameters[other])):
                refused[name], refused[other] = _overlap(name, other), _overlap(other, name)
    return refused


def _overlapping_pairs(
    spans: list[tuple[int, int, str]],
) -> Iterator[tuple[tuple[int, int, str], tuple[int, int, str]]]:
    """All pairs of spans that overlap; `spans` is sorted by start."""
    for place, span in enumerate(spans):
        for other in spans[place + 1 :]:
            if other[0] >= span[1]:
                break
            yield span, other


def _overlap(name: str, other: str) -> Refusal:
    return Refusal(
        name,
        f"it shares memory with {other}, and the two are different Parameter objects",
        "Tie them by assigning the same Parameter object to both names, or give one of them its own memory.",
    )


def _share_memory(first: torch.nn.Parameter, second: torch.nn.Parameter) -> bool:
    """Whether two parameters share memory, exact also for interleaved views of one storage.

    The arrays only stand in for the storage and are never read.
    """
    byte_count = first.untyped_storage().nbytes()
    storage = as_strided(np.empty(1, np.uint8), (byte_count,), (1,))
    views = []
    for parameter in (first, second):
        size = parameter.element_size()
        strides = tuple(step * size for step in parameter.stride())
        start = storage[parameter.storage_offset() * size :]
        views.append(as_strided(start, (*parameter.shape, size), (*strides, 1)))
    try:
        return bool(np.shares_memory(views[0], views[1], max_work=1_000_000))  # type: ignore[arg-type]  # the stub is narrow
    except np.exceptions.TooHardError:
        return True
