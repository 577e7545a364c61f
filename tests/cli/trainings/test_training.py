from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from affinet.cli.jobs.job import TrainTable
from affinet.cli.trainings.data import Data
from affinet.cli.trainings.encoding import Encoding
from affinet.cli.trainings.row_scaling import Scaling
from affinet.cli.trainings.torch.keeping import Learner
from affinet.cli.trainings.torch.stepping import Rows, rows_for, take_step
from affinet.cli.trainings.torch.threads import suited_threads
from affinet.cli.trainings.torch.torch_framework import Torch
from affinet.cli.trainings.torch.torch_training import Measure, TorchTraining
from affinet.cli.trainings.training import Diverged, Epoch, Progress, Step, train_epochs, trivial_score
from affinet.errors import RunError


def data(task: str) -> Data:
    random = np.random.default_rng(0)
    features = random.normal(size=(24, 3))
    targets = (features[:, 0] > 0).astype(np.int64) if task == "classification" else features @ [1.0, -2.0, 0.5]
    outputs = 2 if task == "classification" else 1
    unscaled = Scaling(Encoding(("a", "b", "c"), {}, {}, {}), np.zeros(3), np.ones(3), "y")
    parts = features[:16], targets[:16], features[16:], targets[16:]
    return Data(task, "", outputs, *parts, unscaled)  # type: ignore[arg-type]


def shuffling() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def training(network: torch.nn.Module, optimizer: torch.optim.Optimizer, rows: Data, measure: Measure = dict) -> Any:
    return TorchTraining(Learner(network, optimizer, 0), rows_for(network, rows), measure, shuffling())


def trained(
    task: str, kind: Callable[..., torch.optim.Optimizer], epochs: int = 30, **keys: float
) -> list[Step | Epoch]:
    rows = data(task)
    with Torch().seeded(0):
        network = torch.nn.Linear(3, rows.outputs)
    train = TrainTable(epochs=epochs, batch_size=5)
    steps = iter(range(10**6))
    optimizer = kind(network.parameters(), **keys)
    return list(train_epochs(training(network, optimizer, rows, lambda: {"a": next(steps), "b": 0.5}), train))


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(("kind", "rate"), [(torch.optim.Adam, 0.05), (torch.optim.LBFGS, 0.5)])
def test_the_task_is_learnt(task: str, kind: Callable[..., torch.optim.Optimizer], rate: float) -> None:
    first, *_, last = [event for event in trained(task, kind, lr=rate) if isinstance(event, Epoch)]
    assert last.number == 30
    assert last.loss < first.loss / 2
    assert last.score > 0.7


def test_an_epoch_tells_the_largest_violation_after_any_of_its_steps() -> None:
    events = trained("classification", torch.optim.SGD, epochs=2, lr=0.1)
    assert [type(event) for event in events] == 2 * ([Step] * 4 + [Epoch])
    assert [event.violation for event in events] == [0.5, 1, 2, 3, 3, 4, 5, 6, 7, 7]


def test_the_seed_decides_every_bit() -> None:
    assert trained("regression", torch.optim.Adam, lr=0.1) == trained("regression", torch.optim.Adam, lr=0.1)


def test_random_numbers_outside_a_training_go_on_undisturbed() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with Torch().seeded(1):
        torch.rand(7)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("rate", [1e20, 1e38])
def test_a_training_that_diverges_stops_and_names_the_epoch(rate: float) -> None:
    with pytest.raises(
        Diverged, match=r"diverged in epoch \d+: .* no longer finite. A smaller learning_rate in \[train\]"
    ):
        trained("regression", torch.optim.SGD, lr=rate)


def test_a_violation_that_is_not_finite_is_a_divergence() -> None:
    rows = data("regression")
    network = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    with pytest.raises(Diverged, match="epoch 1"):
        list(train_epochs(training(network, optimizer, rows, lambda: {"a": 0.0, "b": float("nan")}), TrainTable()))


def test_a_weight_that_is_not_finite_is_a_divergence_though_no_answer_shows_it() -> None:
    rows = data("regression")
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    with torch.no_grad():
        network[0].bias.fill_(-float("inf"))
    optimizer = torch.optim.SGD(network[2].parameters(), lr=0.1)
    with pytest.raises(Diverged, match="epoch 1"):
        list(train_epochs(training(network, optimizer, rows), TrainTable()))


def test_epochs_that_are_finished_are_not_trained_again() -> None:
    network = torch.nn.Linear(3, 1)
    begun = training(network, torch.optim.SGD(network.parameters(), lr=0.1), data("regression"))
    events = train_epochs(begun, TrainTable(epochs=5), 3)
    assert [event.number for event in events if isinstance(event, Epoch)] == [4, 5]
    progress = Progress().after(Epoch(1, 0.5, 0.5, 0.25, 0.5), 2.0).after(Epoch(2, 0.25, 0.75, 0.125, 0.25), 1.0)
    assert (progress.epochs, progress.violation, progress.seconds, progress.measuring) == (2, 0.25, 3.0, 0.75)
    assert list(train_epochs(begun, TrainTable(epochs=5), 5)) == []


@pytest.mark.parametrize(("task", "score"), [("classification", 3 / 8), ("regression", 0.0)])
def test_the_trivial_score_is_that_of_the_most_frequent_class_or_of_the_mean(task: str, score: float) -> None:
    assert trivial_score(data(task)) == score


class Failing(torch.nn.Linear):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        raise ValueError("not today")


def test_a_network_that_raises_is_an_error_of_the_run() -> None:
    network = Failing(3, 1)
    rows = rows_for(network, data("regression"))
    with pytest.raises(RunError, match="the network failed on 4 rows with ValueError: not today"):
        take_step(network, torch.optim.SGD(network.parameters()), rows, torch.arange(4))


def test_rows_are_in_the_dtype_of_the_network() -> None:
    rows: Rows = rows_for(torch.nn.Linear(3, 2).double(), data("regression"))
    assert (rows.train_features.dtype, rows.train_targets.dtype) == (torch.float64, torch.float64)
    assert rows_for(torch.nn.Linear(3, 2), data("classification")).test_targets.dtype == torch.int64


def test_a_small_network_is_trained_by_one_thread_and_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    with suited_threads(1000):
        assert torch.get_num_threads() == 1
    with suited_threads(10**12):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
