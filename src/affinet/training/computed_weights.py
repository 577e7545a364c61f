"""Adapt one computed weight to torch's parametrize: reading, setting and removing it."""

from __future__ import annotations

from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from affinet.errors import AttachError
from affinet.training.free_numbers import Weight


class ComputedWeight(parametrize.ParametrizationList):
    """The entry of `layer.parametrizations` for one weight: a single `Weight`.

    torch's own list keeps the tensor that a weight is computed from. There is no such tensor here, and
    `remove_parametrizations` would leave an untrained buffer in its place. So `original`, which torch reads then, is
    the former Parameter with the present weight in it.
    """

    def __init__(self, weight: Weight) -> None:
        super().__init__([weight], weight.like, unsafe=True)
        self.is_tensor = True  # `right_inverse` returns no tensor; from here on `original` is one

    @property
    def weight(self) -> Weight:
        """The module that computes the weight."""
        return cast(Weight, self[0])

    @property
    def original(self) -> Tensor:  # type: ignore[override]
        """The Parameter that the weight was before `reparametrize`, with the present weight in it."""
        parameter: Tensor = self.weight.replacement.restored_parameter(self.weight.name)
        return parameter

    def forward(self) -> Tensor:
        """The weight."""
        weight: Tensor = self.weight()
        return weight

    def right_inverse(self, value: Any) -> None:
        """`layer.weight = value`: the weights move to the nearest ones that satisfy the rules."""
        self.weight.assign(value)

    def append(self, module: torch.nn.Module) -> NoReturn:
        """Refuse a second parametrization (`register_parametrization` calls this). Raises AttachError."""
        raise AttachError(
            f"{self.weight.name} is computed from free numbers, and {type(module).__name__} would change it "
            f"afterwards: the rules would hold for a tensor that the layer does not use. Nothing was changed. Call "
            f"affinet.bake(model) first, or leave one of the two out."
        )


def refuse_pruning(module_class: type[torch.nn.Module]) -> None:
    """Make a class that torch built for a parametrized module refuse `torch.nn.utils.prune` of a computed weight.

    Pruning registers `weight_orig` first; torch's own message is about the type of an object.
    """
    if "register_parameter" in vars(module_class):
        return
    register = module_class.register_parameter

    def register_parameter(self: torch.nn.Module, name: str, param: torch.nn.Parameter | None) -> None:
        lists = self._modules.get("parametrizations")
        computed = None if lists is None else lists._modules.get(name.removesuffix("_orig"))
        if isinstance(computed, ComputedWeight) and name.endswith("_orig"):
            raise AttachError(
                f"{computed.weight.name} is computed from free numbers by affinet.reparametrize, and pruning would "
                f"set entries of it to zero against the rules. Nothing was changed. Write the zeros as rules, "
                f"families.fix(weight, where=~mask, value=0), or call affinet.bake(model) first."
            )
        register(self, name, param)

    module_class.register_parameter = register_parameter  # type: ignore[method-assign]
