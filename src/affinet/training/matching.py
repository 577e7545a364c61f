"""Match rules with a model: the plan, and the parameters of the model that it constrains."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from affinet.kernels.torch.projector import check
from affinet.language.constraint import Constraint
from affinet.language.modules import parameters_of
from affinet.structure.plan import Plan, plan
from affinet.training.attaching import places_of
from affinet.training.freezing import Freezing

Rules = Plan | Iterable[Constraint] | Constraint


def matched(model: torch.nn.Module, rules: Rules) -> tuple[Plan, dict[str, torch.nn.Parameter]]:
    """The plan, and name → parameter of those in the rules. Raises AttachError where the model has not got them."""
    compiled = rules if isinstance(rules, Plan) else plan(rules)
    parameters = parameters_of(model, [parameter.name for parameter in compiled.parameters])
    check(compiled, parameters)
    return compiled, {parameter.name: parameters[parameter.name] for parameter in compiled.parameters}


def followed(model: torch.nn.Module, compiled: Plan, used: dict[str, torch.nn.Parameter]) -> Freezing:
    """What follows the parameters of a plan as they are frozen and thawed."""
    return Freezing(compiled, used, places_of(model, used))
