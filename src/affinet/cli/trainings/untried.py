"""Plan the rules of a job without a trial step, and without torch, where the outcome of the trial is certain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from affinet.blocks.law import is_curved
from affinet.cli.jobs.job import TrainTable
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.data import read_lesson
from affinet.cli.trainings.perceptron import perceptron_of
from affinet.cli.trainings.planned_rules import PlannedRules, plan_rules
from affinet.system.magnitudes import all_between

if TYPE_CHECKING:
    from affinet import Plan

LARGE = 1e6
"""Settings up to this size, and rules with numbers between its inverse and itself, stay far inside float32."""


@dataclass(frozen=True)
class Planned:
    """The rules of a job with their plan, and how many numbers its network holds."""

    rules: PlannedRules
    numbers: int


def planned_untried(job: JobFile) -> Planned | None:
    """Read the data of `job` and plan its rules for the built-in network; None where a trial step is needed.

    A trial is needed for a factory, for free numbers instead of weights, for nonlinear equations, and for settings and
    rules near the limits of optimizers and float32. Raises what `preparing.prepare` raises.
    """
    if job.job.model.factory is not None or job.job.train.method == "lagrange":
        return None
    lesson = read_lesson(job.job.data, job.folder)
    network = perceptron_of(job, lesson.inputs, lesson.outputs)
    rules = plan_rules(job, network.shapes)
    return Planned(rules, network.numbers) if takes_settings(job.job.train) and _surely_attached(rules.plan) else None


def takes_settings(train: TrainTable) -> bool:
    """Whether every version of torch takes these settings of [train], on a perceptron; False where that is unsure."""
    options = SURELY_TAKEN.get(train.optimizer)
    return (
        options is not None
        and train.method == "project"
        and train.learning_rate <= LARGE
        and all(name in options and options[name](value) for name, value in train.options.items())
    )


def _surely_attached(plan: Plan) -> bool:
    """Whether the weights nearest to usual weights are inside float32, and found without iteration.

    Whether weights satisfy nonlinear equations shows only where they are looked for.
    """
    return (
        not plan.system.curved
        and not any(is_curved(block.law()) for block in plan.blocks)
        and all_between(1 / LARGE, LARGE, (rule.expression for rule in plan.system.rules))
        and not any(block.resolution().iterative for block in plan.blocks)
    )


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGE


def _is_share(value: object) -> bool:
    return isinstance(value, float) and 0 <= value < 1


def _are_two_shares(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_share, value))


def _is_truth_value(value: object) -> bool:
    return isinstance(value, bool)


_MOMENTS: dict[str, Callable[[Any], bool]] = {"betas": _are_two_shares, "eps": _is_amount, "weight_decay": _is_amount}
SURELY_TAKEN: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "Adam": _MOMENTS | {"amsgrad": _is_truth_value},
    "AdamW": _MOMENTS | {"amsgrad": _is_truth_value},
    "Adamax": _MOMENTS,
    "NAdam": _MOMENTS,
    "RAdam": _MOMENTS,
    "SGD": {"momentum": _is_amount, "weight_decay": _is_amount},
    "RMSprop": {
        "alpha": _is_share,
        "eps": _is_amount,
        "weight_decay": _is_amount,
        "momentum": _is_amount,
        "centered": _is_truth_value,
    },
    "Adagrad": {"lr_decay": _is_amount, "weight_decay": _is_amount, "eps": _is_amount},
    "Adadelta": {"rho": _is_share, "weight_decay": _is_amount, "eps": _is_amount},
}
"""Optimizer → option → whether it certainly takes a value. Everything else is tried in a step, which is slower."""
