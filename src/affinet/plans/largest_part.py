"""Plan the largest of a few parts of rules that a plan can hold, where it cannot hold all of them."""

from __future__ import annotations

from collections.abc import Sequence

from affinet.errors import RuleError, TooLargeError
from affinet.language.constraint import Constraint
from affinet.language.nodes import is_curved
from affinet.plans.plan import Plan, plan


def plan_of_largest_part(rules: Sequence[Constraint]) -> tuple[Plan | None, str]:
    """The plan of the first part that has one, None without any, and why all rules together have none.

    The parts are all rules, those without nonlinear inequalities, without any inequalities, and the linear ones. Raises
    InfeasibleError where the rules of a part contradict each other.
    """
    reason = ""
    for keep in (_any, _no_nonlinear_inequality, _no_inequality, _linear):
        part = [rule for rule in rules if keep(rule)]
        if not part or (reason and len(part) == len(rules)):
            continue
        try:
            return plan(part), reason
        except (RuleError, TooLargeError) as error:
            reason = reason or str(error).split(". ")[0]
    return None, reason


def _any(rule: Constraint) -> bool:
    return True


def _no_nonlinear_inequality(rule: Constraint) -> bool:
    return rule.sense == "==" or not is_curved(rule.expression.affine)


def _no_inequality(rule: Constraint) -> bool:
    return rule.sense == "=="


def _linear(rule: Constraint) -> bool:
    return not is_curved(rule.expression.affine)
