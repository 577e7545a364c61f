"""What each rule costs: multipliers in the user's words, the dearest rule first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

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
        lines += ["", f"stationarity ‖Pg‖/‖g‖ = {self.stationarity:.2g}{_nearness(self.stationarity)}"]
        return "\n".join(lines)


def cost_report(projector: Projector, gradients: Mapping[str, Tensor]) -> CostReport:
    """The report for gradients of the loss (with coupled decay where there is any), by name."""
    found, sharing = projector.multipliers(gradients), projector.shared_multipliers()
    rules = []
    for name, values in found.items():
        size = float(values.abs().amax()) if values.numel() else 0.0
        rules.append(RuleCost(name, size, -LOOSER * float(values.abs().sum()), sharing.get(name, ())))
    ordered = sorted(rules, key=lambda rule: rule.change)
    return CostReport(tuple(ordered), projector.stationarity(gradients))


def _sharing(rule: RuleCost) -> str:
    names = ", ".join(rule.shared_with)
    return f"   (redundant with {names}: only changes of all together count)" if names else ""


def _nearness(stationarity: float) -> str:
    return "" if stationarity < 0.1 else ": far from an optimum, so the figures say little yet"
