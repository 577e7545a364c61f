"""Take steps of torch on the rows of a job, and score what a network answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
from torch import Tensor, nn

from affinet.cli.trainings.data import Data, Task
from affinet.cli.trainings.processes import SINGLE, Processes
from affinet.cli.trainings.training import score_of
from affinet.cli.words import counted, one_paragraph
from affinet.errors import RunError

ROWS_AT_ONCE = 256
"""Rows of a batch for which memory is taken to suffice, whatever the job trains with."""


@dataclass(frozen=True)
class Rows:
    """The data as tensors, in the dtype of the network that reads them."""

    task: Task
    train_features: Tensor
    train_targets: Tensor
    test_features: Tensor
    test_targets: Tensor


def rows_for(network: nn.Module, data: Data) -> Rows:
    """The rows of `data` as `network` takes them: on its device; features, and targets of regression, in its dtype."""
    first = next(network.parameters())
    dtype, device = first.dtype, first.device
    target_dtype = torch.int64 if data.task == "classification" else dtype
    return Rows(
        data.task,
        torch.as_tensor(data.train_features, dtype=dtype, device=device),
        torch.as_tensor(data.train_targets, dtype=target_dtype, device=device),
        torch.as_tensor(data.test_features, dtype=dtype, device=device),
        torch.as_tensor(data.test_targets, dtype=target_dtype, device=device),
    )


def take_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    batch: Tensor,
    processes: Processes = SINGLE,
) -> float:
    """Take one step on the train rows that `batch` lists, divided between processes; return the loss before it.

    `network` is synchronized: its backward pass leaves the mean of the processes' gradients.
    """
    part = processes.rows(batch)

    def closure() -> Tensor:
        optimizer.zero_grad()
        output = forward(network, rows.train_features[part])
        loss = processes.weighted(_loss(rows.task, output, rows.train_targets[part]), batch)
        loss.backward()
        mean: Tensor = processes.mean(loss)
        return mean

    if isinstance(optimizer, torch.optim.LBFGS):
        loss = optimizer.step(closure)
    else:
        loss = closure()
        optimizer.step()
    return float(torch.as_tensor(loss).detach())


def add_mean_gradient(network: nn.Module, rows: Rows, batch_size: int, processes: Processes = SINGLE) -> None:
    """Add the gradient of the mean loss of all train rows to the parameters, batch by batch.

    Batches are divided between processes, whose network is synchronized. Raises RunError where the network fails, also
    where it has no gradient.
    """
    count = len(rows.train_features)
    for batch in torch.arange(count).split(max(batch_size, ROWS_AT_ONCE)):
        part, share = processes.rows(batch), len(batch) / count
        loss = _loss(rows.task, forward(network, rows.train_features[part]), rows.train_targets[part])
        weighted = processes.weighted(loss, batch) * share
        try:
            weighted.backward()
        except RuntimeError as error:
            fact = f"the gradient of the network for {counted(len(part), 'row')} fails in its mode for evaluation"
            way_out = "Training needs no such gradient with stationarity_every = 0 in [train]."
            raise RunError(f"{fact}: {one_paragraph(error)}. {way_out}") from error


def forward(network: nn.Module, features: Tensor) -> Tensor:
    """The output of `network` for `features`. Raises RunError for any error: the network may be the user's code."""
    try:
        return network(features)  # type: ignore[no-any-return]
    except Exception as error:
        fact = f"the network failed on {counted(len(features), 'row')} with {type(error).__name__}"
        raise RunError(f"{fact}: {one_paragraph(error)}.") from error


@torch.no_grad()
def score(network: nn.Module, rows: Rows) -> float:
    """Accuracy or R² on the test rows; NaN where an output is not finite."""
    network.eval()
    output = forward(network, rows.test_features)
    network.train()
    return score_of(rows.task, _numbers(rows.test_targets), _numbers(output))


def _numbers(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor; NumPy has no bfloat16."""
    tensor = tensor.cpu()
    return tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy()


def _loss(task: Task, output: Tensor, target: Tensor) -> Tensor:
    match task:
        case "classification":
            return nn.functional.cross_entropy(output, target)
        case "regression":
            return nn.functional.mse_loss(output[:, 0], target)
        case _:
            assert_never(task)
