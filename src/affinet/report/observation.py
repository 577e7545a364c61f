"""An observation of one training step under rules, as plain data, and the protocol of callbacks that take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Numbers = Any
"""An array of the library that trains, with `.shape`, `abs`, `.max()` and `.sum()`: a torch.Tensor under PyTorch."""


@dataclass(frozen=True)
class StepCounts:
    """How many steps were taken under a nonlinear rule since it was attached, and how many of them not in full.

    `shortened` steps were divided by four, once or more; `refused` ones led to no point of the equations and were not
    taken; after `slow` ones the way back converged as it does where the equations' derivatives depend on each other. A
    step counts where any of the groups that the equations fall into was shortened, and so on.
    """

    steps: int
    shortened: int
    refused: int
    slow: int

    def plus(self, steps: int, shortened: int, refused: int, slow: int) -> StepCounts:
        """The counts with those of another block, which took the same steps."""
        return StepCounts(max(self.steps, steps), self.shortened + shortened, self.refused + refused, self.slow + slow)


@dataclass(frozen=True, eq=False)
class Observation:
    """One step, observed after the weights were projected.

    `step` counts the steps of this optimizer, from 0 or from the number that the watch starts with; `optimizer` is its
    position in the list that was attached. `violation` is rule name → largest absolute violation, in the units of the
    rule. `stationarity` is `‖P g‖ / ‖g‖` of the gradients of the step, None where there were no gradients.

    `step_length` is how far the optimizer moved the constrained weights and `projection_distance` how far the
    projection then moved them (Euclidean, in the weights' units). `undone` in [0, 1] is the share of the step's squared
    length that the projection undid: `d² / (d² + k²)`, d the projection distance and k the distance of the weights from
    their values before the step. On weights that satisfied the rules, d² + k² is the squared step length
    (Pythagoras).

    `multipliers` is rule name → ν of the rule's shape, of the same gradients; empty where they were not requested,
    NaN where there were no gradients or they were not finite. `active` is rule name → how many of its inequalities are
    at their bound, for the rules that are inequalities. `returns` is rule name → how many steps were shortened or
    refused so far, for the rules that are nonlinear.
    """

    step: int
    optimizer: int
    violation: Mapping[str, float]
    stationarity: float | None
    step_length: float
    projection_distance: float
    undone: float
    multipliers: Mapping[str, Numbers]
    active: Mapping[str, int] = field(default_factory=dict)
    returns: Mapping[str, StepCounts] = field(default_factory=dict)

    def numbers(self) -> dict[str, float]:
        """Name → number, as loggers expect it: `violation/RULE`, the largest |ν| of a rule as `multiplier/RULE`.

        `active/RULE` is the number of inequalities of a rule at their bound; `shortened/RULE`, `refused/RULE` and
        `slow/RULE` count the steps under a nonlinear rule so far.
        The names are the same at every step of a watch; `stationarity` is NaN where there were no gradients.
        """
        scalars = {
            "stationarity": float("nan") if self.stationarity is None else self.stationarity,
            "step_length": self.step_length,
            "projection_distance": self.projection_distance,
            "undone": self.undone,
        }
        violations = {f"violation/{rule}": size for rule, size in self.violation.items()}
        multipliers = {f"multiplier/{rule}": largest_size(values) for rule, values in self.multipliers.items()}
        active = {f"active/{rule}": float(count) for rule, count in self.active.items()}
        returns = {
            f"{kind}/{rule}": float(getattr(counts, kind))
            for rule, counts in self.returns.items()
            for kind in ("shortened", "refused", "slow")
        }
        return scalars | violations | multipliers | active | returns


class Observer(Protocol):
    """A callback of `handle.watch`: any function of one observation."""

    def __call__(self, observation: Observation, /) -> object:
        """Take one observation; what is raised here ends the training, with the weights on the rules."""


def largest_size(values: Numbers) -> float:
    """The largest absolute value; 0 for an array without numbers."""
    return 0.0 if 0 in values.shape else float(abs(values).max())
