"""Find the rules that a plan can hold, and move weights onto them: where training starts, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from affinet.errors import InfeasibleError
from affinet.language.constraint import Constraint
from affinet.plans.largest_part import plan_of_largest_part
from affinet.plans.plan import Plan
from affinet.training.first_move import settle
from affinet.training.freezing import Freezing, Trained
from affinet.training.matching import follow_freezing, match_rules


class Feasible:
    """The largest of a few parts of the rules that a plan can hold exactly; `plan` is None where it can hold no part.

    The parts are those of `plan_of_largest_part`; `reason` is why all rules have no plan. `found` is False where
    `start` found no way to the plan.
    """

    def __init__(self, model: torch.nn.Module, rules: Sequence[Constraint] | Plan) -> None:
        self.plan, self.reason = (rules, "") if isinstance(rules, Plan) else plan_of_largest_part(rules)
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


__all__ = ["Feasible"]
