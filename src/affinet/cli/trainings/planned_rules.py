"""Plan the rules of a job, and tell which of them an augmented Lagrangian approaches without a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import affinet
from affinet.analysis.summary import without_hints_in_python
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.rules import read_rules, weights_of
from affinet.cli.words import counted
from affinet.errors import RuleError
from affinet.plans.largest_part import plan_of_largest_part
from affinet.system.system import System

if TYPE_CHECKING:
    from affinet import Constraint, Plan, Weights


@dataclass(frozen=True)
class PlannedRules:
    """All rules of a job, their `system`, and the plan of those that a plan can hold.

    `weights` are those of the network. `left_out` are the names of the other rules, which only an augmented Lagrangian
    has, and `reason` is why there are any.
    """

    rules: tuple[Constraint, ...]
    system: System
    plan: Plan
    weights: Weights
    left_out: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        plan = without_hints_in_python(str(self.plan))
        if not self.left_out:
            return plan
        texts = {rule.name: rule.text for rule in self.system.every}
        lines = [f'  "{name}"' + (f"  {texts[name]}" if texts[name] != name else "") for name in self.left_out]
        held = f"{plan}\n\n" if self.plan.system.every else ""
        return f"{held}{counted(len(lines), 'rule')} without a plan ({self.reason}):\n" + "\n".join(lines)


def plan_rules(job: JobFile, network: object, features: Sequence[str] = ()) -> PlannedRules:
    """The rules of `job` for the weights of `network`, planned; with `method = "lagrange"`, those that a plan can hold.

    `features` are the names of the columns that the network is trained on, and rules may use them. Raises JobError as
    `read_rules`, and for rules that no plan can hold; InfeasibleError where rules contradict each other.
    """
    weights = weights_of(job, network, features)
    rules = read_rules(job, weights)
    if job.job.train.method != "lagrange":
        plan = _planned(job, rules)
        return PlannedRules(tuple(rules), plan.system, plan, weights)
    largest, reason = plan_of_largest_part(rules)
    if largest is not None and not reason:
        return PlannedRules(tuple(rules), largest.system, largest, weights)
    system = System.of(rules)
    plan = affinet.plan([]) if largest is None else largest
    held = {rule.name for rule in plan.system.every}
    left_out = tuple(rule.name for rule in system.every if rule.name not in held)
    return PlannedRules(tuple(rules), system, plan, weights, left_out, reason)


def _planned(job: JobFile, rules: Sequence[Constraint]) -> Plan:
    try:
        return affinet.plan(rules)
    except RuleError as error:
        way_out = 'method = "lagrange"' + ("" if job.job.model.framework == "torch" else ' with framework = "torch"')
        raise job.mistake(("train", "method"), f"{error} In a job file: {way_out}.") from error
