"""Parameters taken out of a model and put back: the same objects, under the same names, in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from affinet.errors import AttachError
from affinet.training.computed import Computed, refuse_pruning
from affinet.training.free_numbers import Expanded, Projected, Weight
from affinet.training.one_forward import OneForward
from affinet.training.weight_gradients import WeightGradients


@dataclass(eq=False)
class Place:
    """One attribute of one module whose parameter was replaced, and how its numbers lay in memory."""

    name: str
    module: torch.nn.Module
    attribute: str
    parameter: torch.nn.Parameter
    strides: tuple[int, ...]
    computed: Computed | None = None

    @property
    def stands(self) -> bool:
        """Whether the weight is still computed: torch's `remove_parametrizations` takes one off at a time."""
        lists = self.module._modules.get("parametrizations")
        return lists is not None and lists._modules.get(self.attribute) is self.computed is not None


class Replacement:
    """The parameters of one model that are computed now. Copies of the model carry their own."""

    def __init__(self, places: Sequence[Place], forward: OneForward, gradients: WeightGradients) -> None:
        self.places = list(places)
        self.forward, self.gradients = forward, gradients
        modules = {id(place.module): place.module for place in self.places}
        self._order = [
            (module, [name for name, _ in module.named_parameters(recurse=False, remove_duplicate=False)])
            for module in modules.values()
        ]
        self.removals = 0
        """How often torch asked for a parameter, as `remove_parametrizations` does."""
        self._left = False

    @property
    def baked(self) -> bool:
        """Whether every weight is a plain parameter again."""
        return self._left or not any(place.stands for place in self.places)

    def names(self) -> dict[int, str]:
        """The names of the parameters taken out, by id."""
        return {id(place.parameter): place.name for place in self.places if place.stands}

    def weight(self, name: str) -> Tensor:
        """A weight as it is now."""
        places = [place for place in self.places if place.name == name]
        place = next((place for place in places if place.stands), places[0])
        found = getattr(place.module, place.attribute)
        assert isinstance(found, Tensor)
        return found

    def replace(self, groups: Mapping[str, Expanded | Projected]) -> None:
        """Have every weight computed by its group, and let go of the memory of the parameters."""
        for place in self.places:
            weight = Weight(place.name, groups[place.name], place.parameter.detach().new_empty(0))
            groups[place.name].first.setdefault(place.name, weight)
            delattr(place.module, place.attribute)
            place.module.register_buffer(place.attribute, weight.like)
            parametrize.register_parametrization(place.module, place.attribute, weight, unsafe=True)
            place.computed = Computed(weight)
            place.module.get_submodule("parametrizations").register_module(place.attribute, place.computed)
            refuse_pruning(type(place.module))
            weight.replacement = self
        for place in self.places:
            place.parameter.grad = None
            place.parameter.data = place.parameter.data.new_empty(0)

    def given_back(self, name: str) -> torch.nn.Parameter:
        """The parameter that a weight was, with the weight as it is now: for torch's `remove_parametrizations`."""
        place = next(place for place in self.places if place.name == name)
        with torch.no_grad():
            place.parameter.data = _laid_out(self.weight(name).detach(), place.strides)
        self.removals += 1
        return place.parameter

    def refuse_torn(self, stepped: Iterable[torch.nn.Parameter] | None = None) -> None:
        """Raise AttachError where torch took off some weights of a group, and others are still computed with them.

        `stepped` are the parameters of an optimizer: then only where it holds some of the group.
        """
        for gone, left in self._torn() if self.removals else ():
            names = {*gone, *left}
            group = {id(place.parameter) for place in self.places if place.name in names}
            group |= {id(number) for name, number in self.numbers().items() if name.rpartition(".")[0] in names}
            if stepped is None or any(id(parameter) in group for parameter in stepped):
                raise AttachError(
                    f"torch.nn.utils.parametrize.remove_parametrizations made {', '.join(gone)} plain, and "
                    f"{', '.join(left)}, which the rules couple with {'it' if len(gone) == 1 else 'them'}, "
                    f"{'is' if len(left) == 1 else 'are'} still computed from free numbers: the rules between them "
                    f"hold no longer. Call affinet.bake(model), which makes all of them plain with the weights that "
                    f"they have."
                )

    def numbers(self) -> dict[str, torch.nn.Parameter]:
        """What is trained in the stead of the parameters, by name."""
        weights = [
            weight
            for place in self.places
            if place.stands and place.computed is not None
            for weight in place.computed.weight.group.first.values()
        ]
        return _numbers(weights)

    def abandoned(self) -> dict[str, torch.nn.Parameter]:
        """Numbers from which nothing is computed any more, since torch took off all weights that followed from them."""
        if not self.removals:
            return {}
        held = {id(number) for number in self.numbers().values()}
        weights = [place.computed.weight for place in self.places if place.computed is not None]
        return {name: number for name, number in _numbers(weights).items() if id(number) not in held}

    def bake(self) -> None:
        """Put the parameters back, with the weights that were computed last. A second time does nothing."""
        if self._left:
            return
        standing = [place for place in self.places if place.stands]
        taken_off = {place.name for place in self.places if not place.stands}
        with torch.no_grad():
            weights = {place.name: self.weight(place.name).detach() for place in standing}
        for module, _ in self._order:
            _take_off(module, [place.attribute for place in standing if place.module is module])
        for place in standing:
            if place.name not in taken_off:
                taken_off.add(place.name)
                place.parameter.data = _laid_out(weights[place.name], place.strides)
            place.module.register_parameter(place.attribute, place.parameter)
        for module, names in self._order:
            _reorder(module, names)
        self.forward.leave()
        self.gradients.leave()
        self._left = True

    def _torn(self) -> list[tuple[list[str], list[str]]]:
        """Names that torch took off and names that are still computed, of each group that has both."""
        groups: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
        for place in self.places:
            if place.computed is not None:
                names = groups.setdefault(place.computed.weight.group.coupled(place.name), ([], []))
                names[place.stands].append(place.name)
        return [(gone, left) for gone, left in groups.values() if gone and left]


def _numbers(weights: Iterable[Weight]) -> dict[str, torch.nn.Parameter]:
    """What the weights are computed from, by name."""
    return {f"{w.name}.{kind}": number for w in weights for kind, number in w.named_parameters(recurse=False)}


def _take_off(module: torch.nn.Module, attributes: Sequence[str]) -> None:
    """Take parametrizations off, and the empty tensors in the parameters' places."""
    if not attributes:
        return
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
