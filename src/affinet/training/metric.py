"""The metric of an optimizer's own steps: how much each entry of its weights resists being moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, optim

from affinet.blocks.law import is_curved
from affinet.errors import AttachError
from affinet.plans.plan import Plan

Group = Mapping[str, Any]
State = Mapping[str, Any]

FLOOR = 1e-6
"""The least resistance of an entry, as a share of the average resistance of its parameter."""
LARGEST_BORDER = 64
"""Most equations of a border: its Schur complement in a metric costs one projection per equation at every step."""


def check_metric(metric: str, optimizers: Iterable[optim.Optimizer], plan: Plan) -> None:
    """Raise AttachError for an unknown metric, an optimizer without one, or a plan that cannot be projected in it."""
    if metric != "optimizer":
        raise AttachError(f"metric is {metric!r}; it is 'euclidean' or 'optimizer'.")
    for optimizer in optimizers:
        if type(optimizer) not in RESISTANCE:
            known_classes = ", ".join(kind.__name__ for kind in RESISTANCE)
            raise AttachError(
                f"{type(optimizer).__name__} has no diagonal metric. metric='optimizer' is for {known_classes} "
                f"(RMSprop not centered); leave it out for any other."
            )
        if any(group.get("centered") for group in optimizer.param_groups):
            raise AttachError(
                "a centered RMSprop has no metric of second moments; use centered=False or leave metric out."
            )
    curved = [number for block in plan.blocks if is_curved(block.law()) for number in block.rules]
    if curved or plan.system.curved:
        names = ", ".join(plan.system.rule(number).name for number in (curved or plan.system.curved_rules)[:3])
        raise AttachError(
            f"the rules {names} are nonlinear. Returning to them in the optimizer's metric ends away from "
            f"the optimum; leave metric='optimizer' out."
        )
    solves = {block: block.solves_in_metric() for block in plan.blocks}
    unsupported = next((block for block, count in solves.items() if count is None), None)
    if unsupported is not None:
        names = ", ".join(parameter.name for parameter in unsupported.sizes())
        raise AttachError(
            f"rules along several axes of {names} are projected as a product, which does not "
            f"commute in the optimizer's metric. Leave metric='optimizer' out for these rules."
        )
    border_size = max((count for count in solves.values() if count is not None), default=0)
    if border_size > LARGEST_BORDER:
        raise AttachError(
            f"{border_size:,} equations on top of regular ones would be projected one by one at every step in the "
            f"optimizer's metric, which is for up to {LARGEST_BORDER}. Leave metric='optimizer' out for these rules."
        )


def metric_of(optimizers: Iterable[optim.Optimizer], parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """`D_i / lr_i` of every entry, by name: the second moment of the last step, with a lower bound.

    All entries of a parameter without a step have resistance 1; a parameter whose learning rate is 0 (a warm-up, a
    frozen group) resists a million times as much as the one with the largest rate.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    resistances: dict[str, Tensor] = {}
    rates: dict[str, float] = {}
    for optimizer in optimizers:
        resistance = RESISTANCE[type(optimizer)]
        for group in optimizer.param_groups:
            for p in group["params"]:
                if id(p) in names and optimizer.state.get(p):
                    resistances[names[id(p)]] = resistance(group, optimizer.state[p])
                    rates[names[id(p)]] = float(group["lr"])
    largest = max(rates.values(), default=0.0) or 1.0
    return {
        name: _with_floor(resistances[name] / max(rates[name] / largest, FLOOR))
        if name in resistances
        else torch.ones_like(parameter)
        for name, parameter in parameters.items()
    }


def _with_floor(resistance: Tensor) -> Tensor:
    floored = resistance.clamp_min(FLOOR * resistance.mean())
    return torch.where(floored > 0.0, floored, 1.0)


def _adam(group: Group, state: State) -> Tensor:
    moment = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    corrected = moment / (1.0 - group["betas"][1] ** float(state["step"]))
    resistance: Tensor = corrected.sqrt() + group["eps"]
    return resistance


def _adamax(group: Group, state: State) -> Tensor:
    resistance: Tensor = state["exp_inf"].clone()
    return resistance


def _rmsprop(group: Group, state: State) -> Tensor:
    resistance: Tensor = state["square_avg"].sqrt() + group["eps"]
    return resistance


def _adagrad(group: Group, state: State) -> Tensor:
    resistance: Tensor = state["sum"].sqrt() + group["eps"]
    return resistance


RESISTANCE: Mapping[type[optim.Optimizer], Callable[[Group, State], Tensor]] = {
    optim.Adam: _adam,
    optim.AdamW: _adam,
    optim.NAdam: _adam,
    optim.Adamax: _adamax,
    optim.RMSprop: _rmsprop,
    optim.Adagrad: _adagrad,
}

ENTRYWISE = (*RESISTANCE, optim.SGD)
"""Optimizers, by exact type, that move each weight by its own gradients alone, and against a gradient that stays. A
weight that is clamped to a box after their steps comes to rest at the optimum."""


def has_entrywise_steps(optimizer: optim.Optimizer) -> bool:
    """Whether each weight moves by its own gradients alone."""
    return type(optimizer) in ENTRYWISE
