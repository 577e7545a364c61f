"""Take parameters out of a model and put them back: the same objects, under the same names, in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from affinet.errors import AttachError
from affinet.language.dtensors import is_distributed, loaded_class
from affinet.training.computed_weights import ComputedWeight, refuse_pruning
from affinet.training.forward_cache import ForwardCache
from affinet.training.free_numbers import Expanded, Projected, Weight
from affinet.training.sharded_numbers import refuse_divided_gradients, refuse_sharded
from affinet.training.weight_gradients import WeightGradients

PLAIN = (
    "Load its state_dict, gathered with get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)), "
    "into a reparametrized model of one process, and bake that."
)


@dataclass(eq=False)
class Place:
    """One attribute of one module whose parameter was replaced, with the strides that the parameter had."""

    name: str
    module: torch.nn.Module
    attribute: str
    parameter: torch.nn.Parameter
    strides: tuple[int, ...]
    computed: ComputedWeight | None = None

    @property
    def is_computed(self) -> bool:
        """Whether the weight is still computed: torch's `remove_parametrizations` removes them one at a time."""
        lists = self.module._modules.get("parametrizations")
        return lists is not None and lists._modules.get(self.attribute) is self.computed is not None


class Replacement:
    """The parameters of one model that are computed now. Copies of the model carry separate ones."""

    def __init__(self, places: Sequence[Place], forward: ForwardCache, gradients: WeightGradients) -> None:
        self.places = list(places)
        self.forward, self.gradients = forward, gradients
        modules = {id(place.module): place.module for place in self.places}
        self._order = [
            (module, [name for name, _ in module.named_parameters(recurse=False, remove_duplicate=False)])
            for module in modules.values()
        ]
        self.removals = 0
        """How many times torch read a former parameter, as `remove_parametrizations` does."""
        self._baked = False

    @property
    def baked(self) -> bool:
        """Whether every weight is a plain parameter again."""
        return self._baked or not any(place.is_computed for place in self.places)

    @property
    def is_sharded(self) -> bool:
        """Whether several processes hold the numbers together; asked before every step and forward."""
        distributed = loaded_class("torch.distributed.tensor", "DTensor")
        return bool(distributed) and any(map(is_distributed, self.numbers().values()))

    def names(self) -> dict[int, str]:
        """The names of the parameters taken out, by id."""
        return {id(place.parameter): place.name for place in self.places if place.is_computed}

    def weight(self, name: str) -> Tensor:
        """A weight at its present value."""
        places = [place for place in self.places if place.name == name]
        place = next((place for place in places if place.is_computed), places[0])
        weight = getattr(place.module, place.attribute)
        assert isinstance(weight, Tensor)
        return weight

    def replace(self, groups: Mapping[str, Expanded | Projected]) -> None:
        """Let its group compute every weight, and free the memory of the parameters."""
        for place in self.places:
            weight = Weight(place.name, groups[place.name], place.parameter.detach().new_empty(0))
            groups[place.name].first.setdefault(place.name, weight)
            delattr(place.module, place.attribute)
            place.module.register_buffer(place.attribute, weight.like)
            parametrize.register_parametrization(place.module, place.attribute, weight, unsafe=True)
            place.computed = ComputedWeight(weight)
            place.module.get_submodule("parametrizations").register_module(place.attribute, place.computed)
            refuse_pruning(type(place.module))
            weight.replacement = self
        for place in self.places:
            place.parameter.grad = None
            place.parameter.data = place.parameter.data.new_empty(0)

    def restored_parameter(self, name: str) -> torch.nn.Parameter:
        """The former parameter of a weight, set to its present value, for torch's `remove_parametrizations`."""
        refuse_sharded(self.numbers().values(), "remove_parametrizations", PLAIN)
        place = next(place for place in self.places if place.name == name)
        with torch.no_grad():
            place.parameter.data = _with_strides(self.weight(name).detach(), place.strides)
        self.removals += 1
        return place.parameter

    def check_before_forward(self, model: torch.nn.Module) -> None:
        """Raise AttachError where the forward of the model would compute with weights that leave the rules."""
        self.refuse_partly_plain()
        if not self.is_sharded:
            return
        groups = [place.computed.weight.group for place in self.places if place.computed is not None]
        if any(len(group.names) > 1 for group in groups):
            refuse_divided_gradients(model)

    def refuse_partly_plain(self, stepped: Iterable[torch.nn.Parameter] | None = None) -> None:
        """Raise AttachError where torch made some weights of a group plain while others are still computed.

        `stepped` are the parameters of an optimizer: the error is raised only if it holds one of the group.
        """
        for plain, computed in self._partly_plain_groups() if self.removals else ():
            names = {*plain, *computed}
            group = {id(place.parameter) for place in self.places if place.name in names}
            group |= {id(number) for name, number in self.numbers().items() if name.rpartition(".")[0] in names}
            if stepped is None or any(id(parameter) in group for parameter in stepped):
                raise AttachError(
                    f"torch.nn.utils.parametrize.remove_parametrizations made {', '.join(plain)} plain, and "
                    f"{', '.join(computed)}, which the rules couple with {'it' if len(plain) == 1 else 'them'}, "
                    f"{'is' if len(computed) == 1 else 'are'} still computed from free numbers: the rules between "
                    f"them do not hold any more. Call affinet.bake(model), which makes all of them plain with the "
                    f"weights that they have."
                )

    def numbers(self) -> dict[str, torch.nn.Parameter]:
        """The numbers that are trained in place of the parameters, by name."""
        weights = [
            weight
            for place in self.places
            if place.is_computed and place.computed is not None
            for weight in place.computed.weight.group.first.values()
        ]
        return _numbers(weights)

    def abandoned(self) -> dict[str, torch.nn.Parameter]:
        """Numbers that no weight is computed from any more, since torch removed all parametrizations that use them."""
        if not self.removals:
            return {}
        used_ids = {id(number) for number in self.numbers().values()}
        weights = [place.computed.weight for place in self.places if place.computed is not None]
        return {name: number for name, number in _numbers(weights).items() if id(number) not in used_ids}

    def bake(self) -> None:
        """Put the parameters back, with the weights that were computed last. Baking twice does nothing more."""
        if self._baked:
            return
        refuse_sharded(self.numbers().values(), "bake", PLAIN)
        computed_places = [place for place in self.places if place.is_computed]
        restored = {place.name for place in self.places if not place.is_computed}
        with torch.no_grad():
            weights = {place.name: self.weight(place.name).detach() for place in computed_places}
        for module, _ in self._order:
            _remove_parametrizations(module, [place.attribute for place in computed_places if place.module is module])
        for place in computed_places:
            if place.name not in restored:
                restored.add(place.name)
                place.parameter.data = _with_strides(weights[place.name], place.strides)
            place.module.register_parameter(place.attribute, place.parameter)
        for module, names in self._order:
            _reorder(module, names)
        self.forward.close()
        self.gradients.close()
        self._baked = True

    def _partly_plain_groups(self) -> list[tuple[list[str], list[str]]]:
        """Names of plain and of computed weights, for each group that has both."""
        groups: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
        for place in self.places:
            if place.computed is not None:
                names = groups.setdefault(place.computed.weight.group.coupled(place.name), ([], []))
                names[place.is_computed].append(place.name)
        return [(plain, computed) for plain, computed in groups.values() if plain and computed]


def _numbers(weights: Iterable[Weight]) -> dict[str, torch.nn.Parameter]:
    """The numbers that the weights are computed from, by name."""
    return {f"{w.name}.{kind}": number for w in weights for kind, number in w.named_parameters(recurse=False)}


def _remove_parametrizations(module: torch.nn.Module, attributes: Sequence[str]) -> None:
    """Remove parametrizations, and the empty tensors in place of the parameters."""
    if not attributes:
        return
    lists = module.get_submodule("parametrizations")
    if {name for name, _ in lists.named_children()} <= set(attributes):
        # torch's own removal would take properties off the class, which a copy of the model shares.
        original_class = parametrize.type_before_parametrizations(module)
        delattr(module, "parametrizations")
        module.__class__ = original_class
        return
    for attribute in attributes:
        parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
        delattr(module, attribute)


def _reorder(module: torch.nn.Module, names: Sequence[str]) -> None:
    """Register the parameters of a module again in this order, and other parameters after them."""
    parameters = dict(module.named_parameters(recurse=False, remove_duplicate=False))
    for name in parameters:
        delattr(module, name)
    for name in [*(name for name in names if name in parameters), *(name for name in parameters if name not in names)]:
        module.register_parameter(name, parameters[name])


def _with_strides(weight: Tensor, strides: tuple[int, ...]) -> Tensor:
    result = torch.empty_strided(weight.shape, strides, dtype=weight.dtype, device=weight.device)
    return result.copy_(weight)
