"""Parameters taken out of a model and put back: the same objects, under the same names, in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from affinet.training.free_numbers import Expanded, Projected, Weight
from affinet.training.one_forward import OneForward


@dataclass(eq=False)
class Place:
    """One attribute of one module whose parameter was replaced, and how its numbers lay in memory."""

    name: str
    module: torch.nn.Module
    attribute: str
    parameter: torch.nn.Parameter
    strides: tuple[int, ...]


class Replacement:
    """The parameters of one model that are computed now. Copies of the model carry their own."""

    def __init__(self, places: Sequence[Place], forward: OneForward) -> None:
        self.places = list(places)
        self.forward = forward
        modules = {id(place.module): place.module for place in self.places}
        self._order = [
            (module, [name for name, _ in module.named_parameters(recurse=False, remove_duplicate=False)])
            for module in modules.values()
        ]
        self.baked = False

    def names(self) -> dict[int, str]:
        """The names of the parameters taken out, by id."""
        return {} if self.baked else {id(place.parameter): place.name for place in self.places}

    def weight(self, name: str) -> Tensor:
        """A weight as it is now."""
        place = next(place for place in self.places if place.name == name)
        found = getattr(place.module, place.attribute)
        assert isinstance(found, Tensor)
        return found

    def replace(self, groups: Mapping[str, Expanded | Projected]) -> None:
        """Have every weight computed by its group, and let go of the memory of the parameters."""
        for place in self.places:
            weight = Weight(place.name, groups[place.name])
            groups[place.name].first.setdefault(place.name, weight)
            delattr(place.module, place.attribute)
            place.module.register_buffer(place.attribute, place.parameter.detach().new_empty(0))
            parametrize.register_parametrization(place.module, place.attribute, weight, unsafe=True)
            weight.replacement = self
        for place in self.places:
            place.parameter.grad = None
            place.parameter.data = place.parameter.data.new_empty(0)

    def numbers(self) -> dict[str, torch.nn.Parameter]:
        """What is trained in the stead of the parameters, by name."""
        if self.baked:
            return {}
        return {
            f"{place.name}.{kind}": parameter
            for place in self.places
            for module in place.module.get_submodule("parametrizations").get_submodule(place.attribute).children()
            if isinstance(module, Weight)
            for kind, parameter in module.named_parameters(recurse=False)
        }

    def bake(self) -> None:
        """Put the parameters back, with the weights that were computed last. A second time does nothing."""
        if self.baked:
            return
        with torch.no_grad():
            weights = {place.name: self.weight(place.name).detach() for place in self.places}
        for module, _ in self._order:
            _take_off(module, [place.attribute for place in self.places if place.module is module])
        for place in self.places:
            if not place.parameter.numel() and weights[place.name].numel():
                place.parameter.data = _laid_out(weights[place.name], place.strides)
            place.module.register_parameter(place.attribute, place.parameter)
        for module, names in self._order:
            _reorder(module, names)
        self.forward.leave()
        self.baked = True


def _take_off(module: torch.nn.Module, attributes: Sequence[str]) -> None:
    """Take parametrizations off, and the empty tensors in the parameters' places."""
    lists = module.get_submodule("parametrizations")
    if {name for name, _ in lists.named_children()} <= set(attributes):
        # torch's own removal would take properties off the class, which a copy of the model shares.
        kind = parametrize.type_before_parametrizations(module)
        delattr(module, "parametrizations")
        module.__class__ = kind
        return
    for attribute in attributes:
        parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
        delattr(module, attribute)


def _reorder(module: torch.nn.Module, names: Sequence[str]) -> None:
    """Register the parameters of a module anew, in this order, others behind them."""
    held = dict(module.named_parameters(recurse=False, remove_duplicate=False))
    for name in held:
        delattr(module, name)
    for name in [*(name for name in names if name in held), *(name for name in held if name not in names)]:
        module.register_parameter(name, held[name])


def _laid_out(weight: Tensor, strides: tuple[int, ...]) -> Tensor:
    laid = torch.empty_strided(weight.shape, strides, dtype=weight.dtype, device=weight.device)
    return laid.copy_(weight)
