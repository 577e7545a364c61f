"""Train the built-in network in a framework whose numbers NumPy can read, as runs ask for it.

A framework brings `Steps`. Rows, their order, violations, scores and checkpoints are the same for all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import Protocol

import numpy as np

from affinet.blocks.interval import Interval
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.data import Data, Task
from affinet.cli.trainings.first_network import (
    FirstNetwork,
    packed_random,
    permutation,
    random_numbers,
    restore_random,
)
from affinet.cli.trainings.perceptron import Perceptron
from affinet.cli.trainings.perceptron_gradient import mean_gradient
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.cli.trainings.rules import free_numbers
from affinet.cli.trainings.snapshot import Packed, Snapshot
from affinet.cli.trainings.training import score_of
from affinet.kernels.arrays.array_gaps import ArrayGaps
from affinet.kernels.arrays.array_projector import ArrayProjector
from affinet.plans.plan import Plan
from affinet.report.cost import CostReport, Trainable, cost_report
from affinet.system.malformed import Malformed
from affinet.system.system import System

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Rows:
    """The data of a job in the dtype of its network; classes stay whole numbers."""

    task: Task
    train_features: np.ndarray
    train_targets: np.ndarray
    test_features: np.ndarray
    test_targets: np.ndarray


class Steps(Protocol):
    """A network and an optimizer of a framework, which each step changes."""

    @property
    def trained(self) -> int:
        """How many numbers the optimizer moves."""

    @property
    def decay(self) -> float:
        """What is added to each gradient, as a share of the weights: the coupled decay of the optimizer."""

    def step(self, rows: np.ndarray) -> float:
        """Take one step on the train rows of these numbers; return the loss before it."""

    def answers(self) -> np.ndarray:
        """What the network answers for the test rows: (rows, outputs)."""

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by the names and in the shapes of the job."""

    def optimizer_state(self) -> list[np.ndarray]:
        """All numbers that the next step depends on in addition to the weights, in a fixed order."""

    def restore(self, weights: Arrays, optimizer_state: list[np.ndarray]) -> None:
        """Replace the weights and the numbers of `optimizer_state`, which have their shapes and dtypes."""

    def finish(self) -> None:
        """What is done once after the last step."""


@dataclass(frozen=True)
class ArrayTraining:
    """A training with rules, or without: then nothing was moved, and all numbers are free."""

    steps: Steps
    rows: Rows
    random: np.random.RandomState
    gaps: ArrayGaps
    numbers: int
    free: int | Interval
    moved: Mapping[str, float]
    perceptron: Perceptron
    plan: Plan | None = None
    approaches: bool = False
    starts_on_rules: bool = True

    @property
    def trained(self) -> Trainable:
        """How many numbers the optimizer moves."""
        return Trainable(self.steps.trained, self.numbers)

    def settings(self, batch_size: int) -> AbstractContextManager[None]:
        """No settings depend on the size of batches."""
        del batch_size
        return nullcontext()

    def batches(self, size: int) -> Iterable[np.ndarray]:
        """The numbers of train rows, batch by batch, in the order that torch gives them."""
        order = permutation(self.random, len(self.rows.train_features))
        return [order[start : start + size] for start in range(0, len(order), size)]

    def step(self, batch: np.ndarray) -> float:
        """As `Training.step`."""
        return self.steps.step(batch)

    def violation(self) -> Mapping[str, float]:
        """As `Training.violation`, computed in float64."""
        return self.gaps({name: x.reshape(-1) for name, x in self.steps.weights().items()})

    def violated(self, rules: Collection[str]) -> Mapping[str, float]:
        """No rule: they hold after every step."""
        del rules
        return {}

    def finish(self) -> None:
        """As `Training.finish`."""
        self.steps.finish()

    def score(self) -> float:
        """As `Training.score`."""
        return score_of(self.rows.task, self.rows.test_targets, self.steps.answers())

    def is_finite(self) -> bool:
        """As `Training.is_finite`."""
        return all(bool(np.isfinite(x).all()) for x in self.steps.weights().values())

    def weights(self) -> Mapping[str, np.ndarray]:
        """As `Training.weights`."""
        return self.steps.weights()

    def prices(self, batch_size: int) -> CostReport | None:
        """As `RuledTraining.prices`, with the gradient in float64."""
        del batch_size
        gradients, at = self._gradients_in_rules()
        return cost_report(self._projector, gradients, at=at)

    def stationarity(self, batch_size: int) -> float | None:
        """As `RuledTraining.stationarity`, with the gradient in float64; the framework takes no part in it."""
        del batch_size
        if self.plan is None or not self.plan.parameters:
            return None
        gradients, at = self._gradients_in_rules()
        value = self._projector.stationarity(gradients, at)
        return value if isfinite(value) else None

    def state(self) -> dict[str, np.ndarray]:
        """The weights by name."""
        return self.steps.weights()

    def snapshot(self) -> Snapshot:
        """As `RuledTraining.snapshot`; the optimizer holds what is known of inequalities."""
        optimizer = self.steps.optimizer_state()
        return Snapshot(self.state(), Packed({"arrays": len(optimizer)}, optimizer), packed_random(self.random))

    def restore(self, snapshot: Snapshot) -> None:
        """As `RuledTraining.restore`."""
        weights, optimizer = dict(snapshot.network), list(snapshot.optimizer.tensors)
        forms = {name: _form(x) for name, x in weights.items()}, [_form(x) for x in optimizer]
        current = self.steps.weights(), self.steps.optimizer_state()
        if forms != ({name: _form(x) for name, x in current[0].items()}, [_form(x) for x in current[1]]):
            raise Malformed("its weights, or the numbers of its optimizer, are of other shapes or dtypes")
        restore_random(snapshot.random, self.random)
        self.steps.restore(weights, optimizer)

    @cached_property
    def _projector(self) -> ArrayProjector:
        assert self.plan is not None, "a training without rules has no projector"
        return ArrayProjector(self.plan, self._in_rules(self.steps.weights()))

    def _gradients_in_rules(self) -> tuple[Arrays, Arrays]:
        """The gradients of the mean loss of all train rows, with decay, and the present weights, of those in rules."""
        weights, rows = self.steps.weights(), self.rows
        gradients = mean_gradient(self.perceptron, rows.task, weights, rows.train_features, rows.train_targets)
        at = self._in_rules(weights)
        return {name: gradients[name] + self.steps.decay * weight for name, weight in at.items()}, at

    def _in_rules(self, weights: Arrays) -> Arrays:
        """Those of the weights that rules are about."""
        assert self.plan is not None, "a training without rules has no weights in rules"
        return {parameter.name: weights[parameter.name] for parameter in self.plan.parameters}


def ruled_training(job: JobFile, data: Data, network: FirstNetwork, rules: PlannedRules, steps: Steps) -> ArrayTraining:
    """A training whose `steps` were moved onto the rules."""
    moved = {
        name: float(np.linalg.norm(np.subtract(x, network.weights[name], dtype=np.float64)))
        for name, x in steps.weights().items()
    }
    numbers = network.perceptron.numbers
    free = free_numbers(numbers, rules.plan.rank) if steps.trained == numbers else steps.trained
    training = _training(job, data, network, rules.system, steps, free, moved)
    return replace(training, plan=rules.plan)


def plain_training(job: JobFile, data: Data, network: FirstNetwork, rules: System, steps: Steps) -> ArrayTraining:
    """A training without rules, which measures how far it is from them."""
    numbers = network.perceptron.numbers
    return _training(job, data, network, rules, steps, numbers, {})


def rows_of(job: JobFile, data: Data) -> Rows:
    """The rows of a job in the dtype of its network."""
    dtype = np.dtype(job.job.model.dtype)
    target_dtype = np.dtype(np.int64) if data.task == "classification" else dtype
    return Rows(
        data.task,
        data.train_features.astype(dtype),
        data.train_targets.astype(target_dtype),
        data.test_features.astype(dtype),
        data.test_targets.astype(target_dtype),
    )


def _training(
    job: JobFile,
    data: Data,
    network: FirstNetwork,
    rules: System,
    steps: Steps,
    free: int | Interval,
    moved: Mapping[str, float],
) -> ArrayTraining:
    random = random_numbers(job.job.train.seed)
    numbers, rows = network.perceptron.numbers, rows_of(job, data)
    return ArrayTraining(steps, rows, random, ArrayGaps(rules), numbers, free, moved, network.perceptron)


def _form(x: np.ndarray) -> tuple[tuple[int, ...], str]:
    return x.shape, x.dtype.name
