"""Find the rules that a plan can hold, and move weights onto them: where training starts, and where it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from affinet.errors import InfeasibleError, RuleError, TooLargeError
from affinet.language.constraint import Constraint
from affinet.language.nodes import is_curved
from affinet.plans.plan import Plan, plan
from affinet.training.first_move import settle
from affinet.training.freezing import Freezing, Trained
from affinet.training.matching import follow_freezing, match_rules

Keep = Callable[[Constraint], bool]


class Feasible:
    """The largest of a few parts of the rules that a plan can hold exactly; `plan` is None where it can hold no part.

    The parts are all rules, those without nonlinear inequalities, without any inequalities on nonlinear rules, and the
    linear ones. `reason` is why the first could not be planned. `found` is False where `start` found no
    way to the plan.
    """

    def __init__(self, model: torch.nn.Module, rules: Sequence[Constraint] | Plan) -> None:
        self.plan, self.reason = _planned(rules)
        self.found = True
        self._freezing: Freezing | None = None
        if self.plan is not None:
            self._freezing = follow_freezing(model, match_rules(model, self.plan))

    def left_out(self, names: Sequence[str]) -> list[str]:
        """Those of the named rules that the plan does not have."""
        planned = set() if self.plan is None else {rule.name for rule in self.plan.system.every}
        return [name for name in names if name not in planned]

    def settle(self) -> dict[str, float]:
        """Move the weights to the nearest point of the plan; return the distance by weight.

        Raises InfeasibleError, with the weights unchanged, where no way to nonlinear equations was found.
        """
        trained = self._trained()
        return {} if trained is None else settle(trained.projector, trained.parameters)

    def start(self) -> dict[str, float]:
        """As `settle`, but weights stay where they are if no way to nonlinear equations was found from there.

        Raises InfeasibleError where frozen weights contradict the rules.
        """
        trained = self._trained()
        if trained is None:
            return {}
        try:
            return settle(trained.projector, trained.parameters)
        except InfeasibleError as error:
            self.reason, self.found = str(error), False
            return {}

    def forget(self) -> None:
        """Drop what solvers keep from earlier moves."""
        trained = self._trained()
        if trained is not None:
            trained.projector.forget()

    def _trained(self) -> Trained | None:
        """The rules of the plan, with weights that are frozen now as constants."""
        return None if self._freezing is None else self._freezing.trained((), lambda *_: None)


def _planned(rules: Sequence[Constraint] | Plan) -> tuple[Plan | None, str]:
    """The plan of the largest part that has one, and why all rules have none. Raises InfeasibleError."""
    if isinstance(rules, Plan):
        return rules, ""
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


__all__ = ["Feasible"]
