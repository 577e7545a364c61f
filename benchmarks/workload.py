"""What a workload is: a training, the rules it keeps, the best code by hand for those rules, and what was promised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from torch import Tensor, nn

import affinet

Tensors = Mapping[str, Tensor]
InPlace = Callable[[Tensors], None]


class Figure(Enum):
    """A measured figure: how it is called, and its unit."""

    STEP = "step", "×"
    EAGER = "eager step", "×"
    PROJECT = "project / by hand", "×"
    GRADIENT = "gradients / by hand", "×"
    PLANNING = "planning", "s"
    PEAK = "planning peak", "B"
    KEPT = "plan keeps", "B"
    KEPT_AN_ENTRY = "plan keeps an entry", "B"
    EXTRA = "extra memory", "B"
    BLOCKS = "blocks", ""
    VIOLATION = "violation", ""
    MEASURING = "measuring / project", "×"
    COLD = "cold projection / by hand", "×"
    LANDING = "landing / by hand", "×"
    ADAM = "projection / Adam step", "×"

    @property
    def title(self) -> str:
        """The name in tables."""
        return self.value[0]

    @property
    def unit(self) -> str:
        """× for a ratio, s for seconds, B for bytes."""
        return self.value[1]


@dataclass(frozen=True)
class Target:
    """A figure is to be at most `limit`."""

    figure: Figure
    limit: float


BY_HAND = (Target(Figure.PROJECT, 1.25), Target(Figure.GRADIENT, 1.25))
"""Promised of every rule that has code by hand."""


@dataclass(frozen=True)
class ByHand:
    """The best torch code that we could write for one set of rules, with what it knows beforehand set up.

    `project_` moves weights to the nearest feasible point. `gradient_` is a gradient pass that is as right under Adam
    as affinet's: `P g`, with zeros where it is only rounding of `g`. Both in place, on tensors by name.
    """

    project_: InPlace
    gradient_: InPlace


Rules = Callable[[affinet.Weights], list[affinet.Constraint]]
HandWritten = Callable[[Tensors], ByHand]
"""Given the weights, sets up what can be known beforehand."""


@dataclass(frozen=True)
class Job:
    """One training at one size. `model()` is made on torch's default device; without `batch` it is only planned.

    The optimizer is AdamW, `fused` where it can be: torch's fastest makes the denominator of every ratio small. The
    training that steps are compared with keeps the rules `beside`; where not given it keeps none. `settling` steps are
    taken before any is timed, after which inequalities rarely change between active and slack.
    """

    model: Callable[[], nn.Module]
    rules: Rules
    by_hand: HandWritten | None = None
    batch: Callable[[], tuple[Tensor, Tensor]] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy
    fused: bool = True
    beside: Rules | None = None
    settling: int = 0


@dataclass(frozen=True)
class Workload:
    """A row of the table. `job(shrink)` is the training with every width divided by `shrink` (1: as promised).

    `longest` is how many seconds its measurement may take.
    """

    name: str
    says: str
    job: Callable[[int], Job]
    targets: tuple[Target, ...] = ()
    longest: float = 60.0
