"""Describe what optimizers minimize as a function of all weights that they train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import optim

from affinet.plans.plan import Plan
from affinet.training.decay import signed_rates
from affinet.training.directions import Directions


@dataclass(frozen=True, eq=False)
class Objective:
    """What optimizers minimize: `sign · loss + ½ Σ rates · w²` over trained weights, by name; constrained ones first.

    `sign` is −1 where all of them are maximized, and None where some are and others are not. `decoupled` tells that
    some weights are decayed separately from the gradient.
    """

    weights: Mapping[str, torch.nn.Parameter]
    rates: Mapping[str, float]
    sign: float | None
    decoupled: bool


def objective_of(
    plan: Plan,
    constrained: Mapping[str, torch.nn.Parameter],
    model: torch.nn.Module | None,
    optimizers: Sequence[optim.Optimizer],
    coupled: Sequence[bool],
    directions: Directions,
) -> Objective:
    """The objective of optimizers, of which those marked in `coupled` add their decay to the gradient."""
    weights = {parameter.name: constrained[parameter.name] for parameter in plan.system.layout.parameters}
    known = {id(parameter) for parameter in weights.values()}
    names = {} if model is None else {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    for parameter in (p for group in groups for p in group["params"] if p.requires_grad):
        if id(parameter) not in known:
            known.add(id(parameter))
            weights[names.get(id(parameter), f"weight {len(weights)} of the optimizer")] = parameter
    by_id = {id(parameter): name for name, parameter in weights.items()}
    maximized = directions.maximized(optimizers, by_id)
    rates: dict[str, float] = {}
    decoupled = False
    for optimizer, adds_decay in zip(optimizers, coupled, strict=True):
        added = signed_rates(optimizer, by_id, ()) if adds_decay else {}
        rates.update(added)
        decays = any(group.get("weight_decay") for group in optimizer.param_groups)
        decoupled |= decays and not added
    return Objective(weights, rates, {0: 1.0, len(weights): -1.0}.get(len(maximized)), decoupled)
