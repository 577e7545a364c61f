"""Plan the rules of a job that needs no trial: torch is not imported where its answer is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import affinet
from affinet.cli.jobs.job import TrainTable
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.data import read_lesson
from affinet.cli.trainings.perceptron import perceptron_of
from affinet.cli.trainings.rules import read_rules
from affinet.system.magnitudes import all_between

if TYPE_CHECKING:
    from affinet import Plan

LARGE = 1e6
"""Settings up to this size, and rules whose numbers lie between its inverse and it, stay far inside float32."""


@dataclass(frozen=True)
class Planned:
    """The plan of a job's rules, and how many numbers its network holds."""

    plan: Plan
    numbers: int


def planned_untried(job: JobFile) -> Planned | None:
    """Read the data of `job` and plan its rules for the built-in network; None where only a trial can tell the rest.

    That is so for a factory, for free numbers instead of weights, and for settings and rules at the edge of what
    optimizers and float32 take. Raises what `preparing.prepare` raises.
    """
    if job.job.model.factory is not None:
        return None
    lesson = read_lesson(job.job.data, job.folder)
    network = perceptron_of(job, lesson.inputs, lesson.outputs)
    plan = affinet.plan(read_rules(job, network.shapes))
    return Planned(plan, network.numbers) if takes_settings(job.job.train) and _surely_attached(plan) else None


def takes_settings(train: TrainTable) -> bool:
    """Whether every version of torch takes these settings of [train], on a perceptron; where not, nobody knows."""
    options = SURELY_TAKEN.get(train.optimizer)
    return (
        options is not None
        and train.method == "project"
        and train.learning_rate <= LARGE
        and all(name in options and options[name](value) for name, value in train.options.items())
    )


def _surely_attached(plan: Plan) -> bool:
    """Whether float32 holds the weights nearest to any usual ones, and no iteration is needed to find them."""
    return all_between(1 / LARGE, LARGE, (rule.expression for rule in plan.system.rules)) and not any(
        block.resolution().iterative for block in plan.blocks
    )


def _amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGE


def _share(value: object) -> bool:
    return isinstance(value, float) and 0 <= value < 1


def _two_shares(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_share, value))


def _truth(value: object) -> bool:
    return isinstance(value, bool)


_MOMENTS: dict[str, Callable[[Any], bool]] = {"betas": _two_shares, "eps": _amount, "weight_decay": _amount}
SURELY_TAKEN: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "Adam": _MOMENTS | {"amsgrad": _truth},
    "AdamW": _MOMENTS | {"amsgrad": _truth},
    "Adamax": _MOMENTS,
    "NAdam": _MOMENTS,
    "RAdam": _MOMENTS,
    "SGD": {"momentum": _amount, "weight_decay": _amount},
    "RMSprop": {"alpha": _share, "eps": _amount, "weight_decay": _amount, "momentum": _amount, "centered": _truth},
    "Adagrad": {"lr_decay": _amount, "weight_decay": _amount, "eps": _amount},
    "Adadelta": {"rho": _share, "weight_decay": _amount, "eps": _amount},
}
"""Optimizer → option → whether it surely takes a value. What is not here is tried: that is slower, and never wrong."""
