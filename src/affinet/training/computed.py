"""The list of parametrizations of one computed weight: how torch's own functions set it, and take it off."""

from __future__ import annotations

from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from affinet.errors import AttachError
from affinet.training.free_numbers import Weight


class Computed(parametrize.ParametrizationList):
    """The entry of `layer.parametrizations` for one weight: a single `Weight`.

    torch's own list keeps the tensor that a weight is computed from. There is none here, and what stood in its place
    was left behind by `remove_parametrizations` as a buffer that nothing trains. `original`, which torch asks for then,
    is the Parameter of before, with the weight as it is now.
    """

    def __init__(self, weight: Weight) -> None:
        super().__init__([weight], weight.like, unsafe=True)
        self.is_tensor = True  # `right_inverse` names no tensor; from here on `original` is one

    @property
    def weight(self) -> Weight:
        """What computes the weight."""
        return cast(Weight, self[0])

    @property
    def original(self) -> Tensor:  # type: ignore[override]
        """The Parameter that the weight was before `reparametrize`, with the present weight in it."""
        found: Tensor = self.weight.replacement.given_back(self.weight.name)
        return found

    def forward(self) -> Tensor:
        """The weight."""
        found: Tensor = self.weight()
        return found

    def right_inverse(self, value: Any) -> None:
        """`layer.weight = value`: the weights move to the nearest ones that satisfy the rules."""
        self.weight.assign(value)

    def append(self, module: torch.nn.Module) -> NoReturn:
        """What `register_parametrization` does for a weight that has one already. Raises AttachError."""
        raise AttachError(
            f"{self.weight.name} is computed from free numbers, and {type(module).__name__} would change it "
            f"afterwards: the rules would hold for a tensor that the layer does not use. Nothing was changed. Call "
            f"affinet.bake(model) first, or leave one of the two out."
        )


def refuse_pruning(kind: type[torch.nn.Module]) -> None:
    """Have a class that torch made for a parametrized module refuse `torch.nn.utils.prune` of a computed weight.

    Pruning registers `weight_orig` first; torch's own message there speaks of the type of an object.
    """
    if "register_parameter" in vars(kind):
        return
    whole = kind.register_parameter

    def register_parameter(self: torch.nn.Module, name: str, param: torch.nn.Parameter | None) -> None:
        lists = self._modules.get("parametrizations")
        computed = None if lists is None else lists._modules.get(name.removesuffix("_orig"))
        if isinstance(computed, Computed) and name.endswith("_orig"):
            raise AttachError(
                f"{computed.weight.name} is computed from free numbers by affinet.reparametrize, and pruning would "
                f"set entries of it to zero behind the rules. Nothing was changed. Say the zeros as rules, "
                f"families.fix(weight, where=~mask, value=0), or call affinet.bake(model) first."
            )
        whole(self, name, param)

    kind.register_parameter = register_parameter  # type: ignore[method-assign]
