"""Match rules with a model: plan them, and find the parameters of the model that they constrain."""

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
from affinet.training.process_agreement import check_agreement

Rules = Plan | Iterable[Constraint] | Constraint


class Match(NamedTuple):
    """A plan, and name → parameter of the model for those in its rules."""

    plan: Plan
    parameters: dict[str, torch.nn.Parameter]


def match_rules(model: torch.nn.Module, rules: Rules, *, earlier: Plan | None = None) -> Match:
    """The plan of the rules, and the parameters in them. Raises AttachError where the model does not have them.

    Blocks that `earlier` contains are not planned again.
    """
    if not isinstance(rules, Plan):
        rules = plan(rules) if earlier is None else updated(earlier, rules)
    parameters = parameters_of(model, [parameter.name for parameter in rules.parameters])
    check(rules, parameters)
    constrained = {parameter.name: parameters[parameter.name] for parameter in rules.parameters}
    check_agreement(model, rules.system, constrained)
    return Match(rules, constrained)


def follow_freezing(model: torch.nn.Module, match: Match, *, earlier: Projector | None = None) -> Freezing:
    """Follow the parameters of a plan as they are frozen and thawed; kernels of `earlier` are reused."""
    return Freezing(match.plan, match.parameters, places_of(model, match.parameters), earlier)
