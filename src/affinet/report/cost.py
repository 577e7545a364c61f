"""What each rule costs: multipliers in the user's words, the dearest rule first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from affinet.errors import visible
from affinet.kernels.torch.projector import Projector

LOOSER = 0.01
"""The change of right-hand sides that the report speaks of."""


@dataclass(frozen=True)
class RuleCost:
    """One rule: its largest |ν|, the change of the loss when its equations are loosened by 0.01, what it shares.

    `change` is to first order: each equation may be off by 0.01 in the direction that helps. `shared_with` names the
    rules that say something of this one again; then only changes of all of them together are meaningful.
    """

    name: str
    largest: float
    change: float
    shared_with: tuple[str, ...]


@dataclass(frozen=True)
class CostReport:
    """Rules in order of what they cost, and how near the weights are to the optimum that the figures are for."""

    rules: tuple[RuleCost, ...]
    stationarity: float

    def __str__(self) -> str:
        width = max([4, *(len(rule.name) for rule in self.rules)])
        lines = [f"{'rule':{width}}  largest multiplier  loosened by {LOOSER:g}, the loss would change by about"]
        lines += [
            f"{rule.name:{width}}  {rule.largest:18.3g}  {rule.change:.3g}{_sharing(rule)}" for rule in self.rules
        ]
        if self.rules:
            dear = self.rules[0]
            lines += [
                "",
                f"loosening {dear.name!r} by {LOOSER:g} would change the loss by about {dear.change:.3g}"
                + (", together with the rules that it is redundant with" if dear.shared_with else ""),
            ]
        lines += ["", f"stationarity ‖Pg‖/‖g‖ = {self.stationarity:.2g}{_nearness(self.stationarity)}"]
        return visible("\n".join(lines))


def cost_report(projector: Projector, gradients: Mapping[str, Tensor], *, maximized: bool = False) -> CostReport:
    """The report for gradients of the loss (with coupled decay where there is any), by name.

    Rules that are redundant together stand together, at the place of the dearest of them.
    """
    found, sharing = projector.multipliers(gradients), projector.shared_multipliers()
    rules = []
    for name, values in found.items():
        size = float(values.abs().amax()) if values.numel() else 0.0
        better = LOOSER if maximized else -LOOSER
        rules.append(RuleCost(name, size, better * float(values.abs().sum()), sharing.get(name, ())))
    cost = {rule.name: abs(rule.change) for rule in rules}
    place = {rule.name: max(cost[name] for name in (rule.name, *rule.shared_with)) for rule in rules}
    together = {rule.name: min((rule.name, *rule.shared_with)) for rule in rules}
    ordered = sorted(rules, key=lambda rule: (-place[rule.name], together[rule.name], -cost[rule.name]))
    return CostReport(tuple(ordered), projector.stationarity(gradients))


def _sharing(rule: RuleCost) -> str:
    names = ", ".join(rule.shared_with)
    return f"   (redundant with {names}: only changes of all together count)" if names else ""


def _nearness(stationarity: float) -> str:
    return "" if stationarity < 0.1 else ": far from an optimum, so the figures say little yet"
