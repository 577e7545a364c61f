"""Check everything about a job that can be checked before its folder is made and a step is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.data import Data, load_data
from affinet.cli.trainings.keeping import Learner, under_rules
from affinet.cli.trainings.network import build_network
from affinet.cli.trainings.planned_rules import PlannedRules, plan_rules
from affinet.cli.trainings.training import forward, rows_for, take_step
from affinet.cli.words import one_paragraph
from affinet.errors import AffinetError, JobError, RunError

if TYPE_CHECKING:
    from affinet import Plan


@dataclass(frozen=True)
class Prepared:
    """A job whose data is read, whose rules are planned, and whose network and optimizer have taken a trial step."""

    job: JobFile
    data: Data
    rules: PlannedRules

    @property
    def plan(self) -> Plan:
        """The plan of the rules that a plan can hold."""
        return self.rules.plan


def prepare(job: JobFile) -> Prepared:
    """Read the data of `job`, try its network and optimizer on throw-away copies, and plan its rules.

    Raises DataError, JobError with the line, and InfeasibleError where the rules contradict each other.
    """
    train = job.job.train
    data = load_data(job.job.data, job.folder, train.seed)
    with seeded(train.seed):
        network = make_network(job, data)
        rules = plan_rules(job, network)
        _take_trial_steps(job, data, under_rules(job, network, rules).learner)
    return Prepared(job, data, rules)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers with `seed` inside the block; afterwards their earlier state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def make_network(job: JobFile, data: Data) -> nn.Module:
    """A new network for `data`; within `seeded`, each call at the same point makes the same network."""
    network = build_network(job, data.inputs, data.outputs)
    _check_outputs(job, data, network)
    return network


def _check_outputs(job: JobFile, data: Data, network: nn.Module) -> None:
    """Run the network once, which also gives lazy layers their shapes, and check its output and its state."""
    model_key = ("model",) if job.job.model.factory is None else ("model", "factory")
    sample = rows_for(network, data).test_features[:2]
    network.eval()
    with torch.no_grad():
        try:
            output = forward(network, sample)
        except RunError as error:
            raise job.mistake(model_key, f"{error} It receives {data.inputs} features per row.") from error
    network.train()
    expected = (len(sample), data.outputs)
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != expected:
        actual = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
        raise job.mistake(
            model_key, f"the network returns {actual} for {len(sample)} rows; it must return shape {expected}."
        )
    not_tensors = [name for name, value in network.state_dict().items() if not isinstance(value, torch.Tensor)]
    if not_tensors:
        raise job.mistake(
            model_key, f"the state of the network holds {not_tensors[0]!r}, which is not a tensor and cannot be saved."
        )


def _take_trial_steps(job: JobFile, data: Data, learner: Learner) -> None:
    """Take a step on a full batch and on the shortest batch: some options and networks fail only then."""
    rows = rows_for(learner.network, data)
    count, size = len(rows.train_features), job.job.train.batch_size
    for length in {min(size, count), count % size or min(size, count)}:
        try:
            take_step(learner.network, learner.optimizer, rows, torch.arange(length))
        except RunError as error:
            raise job.mistake(("model",), f"{error} (Batches hold {size} rows, the last {count % size}.)") from error
        except AffinetError:
            raise
        except Exception as error:
            raise _failed_step(job, error) from error


def _failed_step(job: JobFile, error: Exception) -> JobError:
    train = job.job.train
    key = ("train", "options") if train.options else ("train", "optimizer")
    return job.mistake(key, f"a step of {train.optimizer} fails: {one_paragraph(error)}.")
