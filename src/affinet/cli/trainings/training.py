"""Train one network, and yield one event per step and one per finished epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import assert_never

import numpy as np
from sklearn.metrics import accuracy_score, r2_score

from affinet.cli.files.table_files import Array
from affinet.cli.jobs.job import TrainTable
from affinet.cli.trainings.data import Data, Task
from affinet.cli.trainings.framework import Training
from affinet.errors import RunError


class Diverged(RunError):
    """The loss, the weights or the outputs of the network became NaN or infinite."""


@dataclass(frozen=True)
class Step:
    """An optimizer step was taken: the loss of its batch and the largest violation of any rule after it."""

    loss: float
    violation: float


@dataclass(frozen=True)
class Epoch:
    """An epoch is finished: mean loss on the train rows, score on the test rows, largest violation after any step.

    `measuring` is the time spent on measuring, in seconds. `stationarity` is that of the mean loss of all train rows at
    the weights; None where it was not measured.
    """

    number: int
    loss: float
    score: float
    violation: float
    measuring: float = field(default=0.0, compare=False)
    stationarity: float | None = None


MeasureEpoch = Callable[[int], float | None]
"""Number of an epoch that is finished → stationarity at its weights; None where it is not measured."""


@dataclass(frozen=True)
class Progress:
    """How far a training has come: its last finished epoch, the largest violation of all epochs, and their seconds.

    `measuring` is the part of these seconds spent on measuring violation and stationarity.
    """

    last: Epoch | None = None
    violation: float = 0.0
    seconds: float = 0.0
    measuring: float = 0.0

    @property
    def epochs(self) -> int:
        """How many epochs are finished."""
        return 0 if self.last is None else self.last.number

    def after(self, epoch: Epoch, seconds: float) -> Progress:
        """The progress after `epoch`, which took this many more seconds."""
        largest = max(self.violation, epoch.violation)
        return Progress(epoch, largest, self.seconds + seconds, self.measuring + epoch.measuring)


def unmeasured(_epoch: int) -> float | None:
    """Measure no stationarity."""
    return None


def train_epochs(
    training: Training, train: TrainTable, finished: int = 0, stationarity: MeasureEpoch = unmeasured
) -> Iterator[Step | Epoch]:
    """Train from epoch `finished` + 1 on, and finish the training after the last step.

    `stationarity` is called after each epoch, and has to leave the training as it is. Raises Diverged once the loss, a
    weight, a violation or an output is not finite, and RunError where the network itself fails.
    """
    for number in range(finished + 1, train.epochs + 1):
        rows, loss_sum, largest, measuring = 0, 0.0, 0.0, 0.0
        for batch in training.batches(train.batch_size):
            loss = training.step(batch)
            measuring_start = perf_counter()
            violations = training.violation().values()
            measuring += perf_counter() - measuring_start
            if not all(map(isfinite, (loss, *violations))):
                raise _divergence_error(number)
            violation = max(violations, default=0.0)
            rows, loss_sum, largest = rows + len(batch), loss_sum + loss * len(batch), max(largest, violation)
            yield Step(loss, violation)
        if number == train.epochs:
            training.finish()
        score = training.score()
        if not isfinite(score) or not training.is_finite():
            raise _divergence_error(number)
        measuring_start = perf_counter()
        measured = stationarity(number)
        measuring += perf_counter() - measuring_start
        yield Epoch(number, loss_sum / rows, score, largest, measuring, measured)


def score_of(task: Task, truth: Array, outputs: Array) -> float:
    """Accuracy or R² of the outputs (rows, outputs); NaN where one is not finite."""
    if not np.isfinite(outputs).all():
        return float("nan")
    match task:
        case "classification":
            return float(accuracy_score(truth, outputs.argmax(axis=1)))
        case "regression":
            return float(r2_score(truth.astype(np.float64), outputs[:, 0].astype(np.float64)))
        case _:
            assert_never(task)


def trivial_score(data: Data) -> float:
    """The score of an answer that ignores the features: the most frequent class of the train rows, or their mean."""
    match data.task:
        case "classification":
            return float(np.mean(data.test_targets == np.bincount(data.train_targets).argmax()))
        case "regression":
            return 0.0
        case _:
            assert_never(data.task)


def _divergence_error(epoch: int) -> Diverged:
    way_out = "A smaller learning_rate in [train] is the usual way out."
    return Diverged(f"the training diverged in epoch {epoch}: the loss or the weights are no longer finite. {way_out}")
