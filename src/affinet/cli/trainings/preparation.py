"""Check everything about a job that can be checked before its folder is made and a step is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.data import Data, load_data
from affinet.cli.trainings.framework import Framework, Training
from affinet.cli.trainings.frameworks import framework_of
from affinet.cli.trainings.planned_rules import PlannedRules, plan_rules
from affinet.cli.trainings.processes import SINGLE, Processes
from affinet.cli.words import one_paragraph
from affinet.errors import AffinetError, JobError, RunError

if TYPE_CHECKING:
    from affinet import Plan


@dataclass(frozen=True)
class Prepared:
    """A job whose data is read, whose rules are planned, and whose network and optimizer have taken a trial step.

    `numbers` is how many numbers of its network training may move.
    """

    job: JobFile
    framework: Framework
    data: Data
    rules: PlannedRules
    numbers: int
    processes: Processes = SINGLE

    @property
    def plan(self) -> Plan:
        """The plan of the rules that a plan can hold."""
        return self.rules.plan


def prepare(job: JobFile, processes: Processes = SINGLE) -> Prepared:
    """Read the data of `job`, try its network and optimizer on throw-away copies, and plan its rules.

    Raises DataError, JobError with the line, and InfeasibleError where the rules contradict each other.
    """
    train, framework = job.job.train, framework_of(job, processes)
    data = load_data(job.job.data, job.folder, train.seed)
    with framework.seeded(train.seed):
        network = framework.network(job, data)
        numbers = framework.numbers(network)
        rules = plan_rules(job, framework.weights(network), data.scaling.features)
        _take_trial_steps(job, data, framework.under_rules(job, data, network, rules))
    return Prepared(job, framework, data, rules, numbers, processes)


def _take_trial_steps(job: JobFile, data: Data, training: Training) -> None:
    """Take a step on a full batch and on the shortest batch: some options and networks fail only then."""
    count, size = len(data.train_features), job.job.train.batch_size
    for length in {min(size, count), count % size or min(size, count)}:
        try:
            training.step(np.arange(length))
        except RunError as error:
            raise job.mistake(("model",), f"{error} (Batches hold {size} rows, the last {count % size}.)") from error
        except AffinetError:
            raise
        except Exception as error:
            raise _failed_step(job, error) from error


def _failed_step(job: JobFile, error: Exception) -> JobError:
    train = job.job.train
    key = ("train", "options") if train.options else ("train", "optimizer")
    way_out = ' With parallel = "ddp" each process has whole weights.' if train.parallel == "fsdp" else ""
    return job.mistake(key, f"a step of {train.optimizer} fails: {one_paragraph(error)}.{way_out}")
