"""Plan the rules of a job without a trial step, and without torch, where the outcome of the trial is certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from affinet.blocks.law import is_curved
from affinet.cli.jobs.job import TrainTable
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.data import Task, read_lesson
from affinet.cli.trainings.optimizer_options import LARGE, OF_FRAMEWORKS, SURELY_TAKEN, settings_of
from affinet.cli.trainings.perceptron import perceptron_of
from affinet.cli.trainings.planned_rules import PlannedRules, plan_rules
from affinet.system.magnitudes import all_between

if TYPE_CHECKING:
    from affinet import Plan


@dataclass(frozen=True)
class Planned:
    """The rules of a job with their plan, how many numbers its network holds, the task, and what to say of its data."""

    rules: PlannedRules
    numbers: int
    task: Task
    has_text: bool
    notices: tuple[str, ...]


def planned_untried(job: JobFile) -> Planned | None:
    """Read the data of `job` and plan its rules for the built-in network; None where a trial step is needed.

    A trial is needed for a factory, for free numbers instead of weights, for nonlinear equations, and for settings and
    rules near the limits of optimizers and float32. Raises what `preparing.prepare` raises.
    """
    if job.job.model.factory is not None or job.job.train.method == "lagrange":
        return None
    lesson = read_lesson(job.job.data, job.folder, job.job.train.seed)
    network = perceptron_of(job, lesson.inputs, lesson.outputs)
    rules = plan_rules(job, network.shapes, lesson.encoding.names)
    if not _takes_settings(job) or not _surely_attached(rules.plan):
        return None
    return Planned(rules, network.numbers, lesson.task, bool(lesson.encoding.categories), lesson.notices)


def _takes_settings(job: JobFile) -> bool:
    """Whether the framework of a job certainly takes its optimizer and options. Raises JobError as `settings_of`."""
    available = OF_FRAMEWORKS.get(job.job.model.framework)
    if available is None:
        return takes_settings(job.job.train)
    settings_of(job, available)
    return job.job.train.method == "project" and job.job.train.learning_rate <= LARGE


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
