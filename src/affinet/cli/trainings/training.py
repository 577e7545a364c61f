"""Train one network, and yield one event per step and one per finished epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import assert_never

import torch
from sklearn.metrics import accuracy_score, r2_score
from torch import Tensor, nn

from affinet.cli.jobs.job import TrainTable
from affinet.cli.trainings.data import Data, Task
from affinet.cli.words import counted, one_paragraph
from affinet.errors import RunError

Measure = Callable[[], Mapping[str, float]]


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

    `measuring` is the time spent on measuring the violation, in seconds.
    """

    number: int
    loss: float
    score: float
    violation: float
    measuring: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Progress:
    """How far a training has come: its last finished epoch, the largest violation of all epochs, and their seconds.

    `measuring` is the part of these seconds spent on measuring the violation.
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


@dataclass(frozen=True)
class Rows:
    """The data as tensors, in the dtype of the network that reads them."""

    task: Task
    train_features: Tensor
    train_targets: Tensor
    test_features: Tensor
    test_targets: Tensor


def rows_for(network: nn.Module, data: Data) -> Rows:
    """The rows of `data` as `network` takes them: features, and targets of regression, in its dtype."""
    dtype = next(network.parameters()).dtype
    target_dtype = torch.int64 if data.task == "classification" else dtype
    return Rows(
        data.task,
        torch.as_tensor(data.train_features, dtype=dtype),
        torch.as_tensor(data.train_targets, dtype=target_dtype),
        torch.as_tensor(data.test_features, dtype=dtype),
        torch.as_tensor(data.test_targets, dtype=target_dtype),
    )


def train_epochs(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    train: TrainTable,
    measure: Measure,
    shuffling: torch.Generator,
    finished: int = 0,
    end: Callable[[], object] | None = None,
) -> Iterator[Step | Epoch]:
    """Train `network` in place, from epoch `finished` + 1 on; `measure` returns the violation of each rule.

    `end` is called after the last step, before the score.
    Batches are drawn from `shuffling`. Raises Diverged once the loss, a weight, a violation or an output is not finite,
    and RunError where the network itself fails.
    """
    for number in range(finished + 1, train.epochs + 1):
        loss_sum, largest, measuring = 0.0, 0.0, 0.0
        network.train()
        for batch in torch.split(torch.randperm(len(rows.train_features), generator=shuffling), train.batch_size):
            loss = take_step(network, optimizer, rows, batch)
            measuring_start = perf_counter()
            violations = measure().values()
            measuring += perf_counter() - measuring_start
            if not all(map(isfinite, (loss, *violations))):
                raise _divergence_error(number)
            violation = max(violations, default=0.0)
            loss_sum, largest = loss_sum + loss * len(batch), max(largest, violation)
            yield Step(loss, violation)
        if end is not None and number == train.epochs:
            end()
        score = score_of(network, rows)
        if not isfinite(score) or not all(bool(torch.isfinite(weight).all()) for weight in network.parameters()):
            raise _divergence_error(number)
        yield Epoch(number, loss_sum / len(rows.train_features), score, largest, measuring)


def take_step(network: nn.Module, optimizer: torch.optim.Optimizer, rows: Rows, batch: Tensor) -> float:
    """Take one step of `optimizer` on the train rows that `batch` lists; return the loss before it."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(rows.task, forward(network, rows.train_features[batch]), rows.train_targets[batch])
        loss.backward()
        return loss

    if isinstance(optimizer, torch.optim.LBFGS):
        loss = optimizer.step(closure)
    else:
        loss = closure()
        optimizer.step()
    return float(torch.as_tensor(loss).detach())


def forward(network: nn.Module, features: Tensor) -> Tensor:
    """The output of `network` for `features`. Raises RunError for any error: the network may be the user's code."""
    try:
        return network(features)  # type: ignore[no-any-return]
    except Exception as error:
        fact = f"the network failed on {counted(len(features), 'row')} with {type(error).__name__}"
        raise RunError(f"{fact}: {one_paragraph(error)}.") from error


@torch.no_grad()
def score_of(network: nn.Module, rows: Rows) -> float:
    """Accuracy or R² on the test rows; NaN where an output is not finite."""
    network.eval()
    output = forward(network, rows.test_features)
    network.train()
    if not torch.isfinite(output).all():
        return float("nan")
    truth = rows.test_targets
    match rows.task:
        case "classification":
            return float(accuracy_score(truth.numpy(), output.argmax(dim=1).numpy()))
        case "regression":
            return float(r2_score(truth.double().numpy(), output[:, 0].double().numpy()))
        case _:
            assert_never(rows.task)


def trivial_score(rows: Rows) -> float:
    """The score of an answer that ignores the features: the most frequent class of the train rows, or their mean."""
    truth = rows.test_targets
    match rows.task:
        case "classification":
            return float((truth == rows.train_targets.mode().values).double().mean())
        case "regression":
            return 0.0
        case _:
            assert_never(rows.task)


def _loss(task: Task, output: Tensor, target: Tensor) -> Tensor:
    match task:
        case "classification":
            return nn.functional.cross_entropy(output, target)
        case "regression":
            return nn.functional.mse_loss(output[:, 0], target)
        case _:
            assert_never(task)


def _divergence_error(epoch: int) -> Diverged:
    way_out = "A smaller learning_rate in [train] is the usual way out."
    return Diverged(f"the training diverged in epoch {epoch}: the loss or the weights are no longer finite. {way_out}")
