"""Match rules with a model: the plan, and the parameters of the model that it constrains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from affinet.kernels.torch.projector import Projector, check
from affinet.language.constraint import Constraint
from affinet.language.modules import parameters_of
from affinet.plans.plan import Plan, plan
from affinet.plans.updating import updated
from affinet.training.attaching import places_of
from affinet.training.freezing import Freezing

Rules = Plan | Iterable[Constraint] | Constraint


class Matched(NamedTuple):
    """A plan, and name → parameter of the model for those in its rules."""

    plan: Plan
    parameters: dict[str, torch.nn.Parameter]


def matched(model: torch.nn.Module, rules: Rules, *, earlier: Plan | None = None) -> Matched:
    """The plan of the rules, and the parameters in them. Raises AttachError where the model has not got them.

    What `earlier` holds already is not planned anew.
    """
    if not isinstance(rules, Plan):
        rules = plan(rules) if earlier is None else updated(earlier, rules)
    parameters = parameters_of(model, [parameter.name for parameter in rules.parameters])
    check(rules, parameters)
    return Matched(rules, {parameter.name: parameters[parameter.name] for parameter in rules.parameters})


def followed(model: torch.nn.Module, found: Matched, *, earlier: Projector | None = None) -> Freezing:
    """What follows the parameters of a plan as they are frozen and thawed; kernels of `earlier` serve on."""
    return Freezing(found.plan, found.parameters, places_of(model, found.parameters), earlier)
