"""Tell which weights optimizers move up the gradients that they get, instead of down."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar
from weakref import WeakSet

from torch import Tensor, optim

from affinet.analysis.one_sided import OneSided
from affinet.language.nodes import weights_of
from affinet.plans.plan import Plan
from affinet.training.nesting import Nest
from affinet.training.probing import ProbeError, ascends

Signed = TypeVar("Signed", float, Tensor, OneSided)


class Directions:
    """The directions of the optimizers of one training.

    Groups tell by `maximize`, as in torch.optim; they are read anew, since a loop may edit them. An optimizer whose
    groups do not tell is tried out once, on a copy.
    """

    def __init__(self, nests: Iterable[Nest], parameters: Mapping[str, Tensor]) -> None:
        self._ascending: WeakSet[optim.Optimizer] = WeakSet()
        ids = {id(parameter) for parameter in parameters.values()}
        for nested in nests:
            groups = nested.core.param_groups
            likes = [(group, p) for group in groups for p in group["params"] if id(p) in ids]
            if likes and maximizes(nested.core, *likes[0]) and "maximize" not in likes[0][0]:
                self._ascending.add(nested.stepper)

    def maximized(self, optimizers: Iterable[optim.Optimizer], names: Mapping[int, str]) -> frozenset[str]:
        """The names of the weights that move up; `names` is id(parameter) → name."""
        return frozenset(
            names[id(p)]
            for optimizer in optimizers
            for group in optimizer.param_groups
            if group.get("maximize", optimizer in self._ascending)
            for p in group["params"]
            if id(p) in names
        )


def maximizes(optimizer: optim.Optimizer, group: Mapping[str, Any], parameter: Tensor) -> bool:
    """Whether a group, which holds this parameter, is moved up the gradient.

    Where neither the group tells nor a copy of the optimizer steps, its attribute `maximize` decides.
    """
    if "maximize" in group:
        return bool(group["maximize"])
    if type(optimizer).__module__.startswith("torch.optim"):
        return False
    try:
        return ascends(optimizer, parameter)
    except ProbeError:
        return getattr(optimizer, "maximize", False) is True


def negated(vectors: Mapping[str, Signed], names: Collection[str]) -> dict[str, Signed]:
    """The numbers or tensors, with the opposite sign for these names."""
    return {name: -vector if name in names else vector for name, vector in vectors.items()}


def maximized_rules(plan: Plan, maximized: Collection[str]) -> frozenset[str]:
    """The names of the rules that are about maximized weights alone: their prices are those of what is maximized."""
    if not maximized:
        return frozenset()
    names = {
        rule.name: {parameter.name for parameter in weights_of([rule.expression.affine])} for rule in plan.system.every
    }
    return frozenset(rule for rule, parameters in names.items() if parameters and parameters.issubset(maximized))
