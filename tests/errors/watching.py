"""Watching a training: `handle.watch()`, its loggers and what it warns of."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn, optim

import affinet
from affinet.errors import (
    MultipliersDivergeWarning,
    NotFiniteWarning,
    StepUndoneWarning,
    WatchError,
    WeightsWrittenWarning,
)
from tests.errors.case import case

FIGURE = r"\d\.\d+(e[-+]\d+)?|\d+e[-+]\d+"


def watched(**options: Any) -> tuple[nn.Linear, optim.Optimizer, affinet.Handle]:
    model = nn.Linear(3, 2).double()
    optimizer = optim.SGD(model.parameters(), lr=1e-3)
    rules = [(affinet.weights(model).weight.sum(dim=1) == 1).named("rows sum to one")]
    handle = affinet.project(model, optimizer, rules)
    handle.watch(**options)
    return model, optimizer, handle


def step(model: nn.Linear, optimizer: optim.Optimizer, scale: float = 1.0) -> None:
    optimizer.zero_grad()
    (model(torch.ones(1, 3, dtype=torch.float64)).square().sum() * scale).backward()
    optimizer.step()


@case(WatchError, "A watch of rules that were removed.", "Watch before `handle.remove()`.")
def watching_what_was_removed() -> None:
    handle = watched()[2]
    handle.remove()
    handle.watch()


@case(WatchError, "`every` is not a number of steps.", "Write 1 or more.")
def watching_every_zero_steps() -> None:
    watched(every=0)


@case(WatchError, "A logger that cannot be called.", "Give a function, or one of affinet's logs.")
def a_logger_that_is_none() -> None:
    watched()[2].watch("log.csv")  # type: ignore[arg-type]


@case(WatchError, "TensorBoard is not installed.", "Install it, or write to CSV.")
def a_log_without_tensorboard(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tensorboard", "torch.utils.tensorboard", "torch.utils.tensorboard.writer"):
            patch.setitem(sys.modules, name, None)
        model, optimizer, handle = watched()
        handle.watch(affinet.TensorBoardLog(folder))
        step(model, optimizer)


@case(WatchError, "A log of another watch.", "Name another file.")
def a_log_of_another_watch(folder: Path) -> None:
    (folder / "log.csv").write_text("step,loss\n")
    model, optimizer, handle = watched()
    handle.watch(affinet.CsvLog(folder / "log.csv"))
    step(model, optimizer)


@case(WatchError, "The folder of the log does not exist.", "Make it first.")
def a_log_in_no_folder(folder: Path) -> None:
    affinet.CsvLog(folder / "nowhere" / "log.csv")


@case(WatchError, "The path of the log is a folder.", "Name a file.", foreign="(?<=CsvLog\\().*(?=\\))")
def a_log_that_is_a_folder(folder: Path) -> None:
    affinet.CsvLog(folder)


@case(WatchError, "The path of a log is not a path.", "Write the path as text.")
def a_log_at_no_path() -> None:
    affinet.CsvLog(3)  # type: ignore[arg-type]


@case(WatchError, "The disk refuses a row.", "Make room.", foreign="(?<=written to: ).*(?=\\. Make)")
def a_log_that_the_disk_refuses(folder: Path) -> None:
    model, optimizer, handle = watched()
    handle.watch(affinet.CsvLog(folder / "log.csv"))
    (folder / "log.csv").mkdir()
    step(model, optimizer)


@case(WatchError, "TensorBoard was given neither a folder nor a writer.", "Give the folder as text.")
def curves_of_no_folder() -> None:
    affinet.TensorBoardLog(3)  # type: ignore[arg-type]


@case(WatchError, "What was given is not a run of Weights & Biases.", "Give what wandb.init returns.")
def rows_of_no_run() -> None:
    affinet.WandbLog("project")


@case(WatchError, "What was given is not a run of MLflow.", "Give what mlflow.start_run returns.")
def metrics_of_no_run() -> None:
    affinet.MlflowLog(3)


@case(WatchError, "MLflow is not installed.", "Install it, or write to CSV.")
def a_log_without_mlflow() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", None)
        affinet.MlflowLog("0123456789abcdef")


@case(WatchError, "The folder for TensorBoard is a file.", "Name another.")
def curves_in_a_file(folder: Path) -> None:
    def refused(_: str) -> None:
        raise FileExistsError(errno.EEXIST, "File exists")

    writer = ModuleType("torch.utils.tensorboard.writer")
    vars(writer)["SummaryWriter"] = refused
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, writer.__name__, writer)
        affinet.TensorBoardLog(folder / "file")


@case(WeightsWrittenWarning, "Weights were written to between two steps.", "Let the code that writes keep the rule.")
def weights_that_were_written_to() -> None:
    model, optimizer, _ = watched()
    step(model, optimizer)
    with torch.no_grad():
        model.weight += 1.0
    step(model, optimizer)


@case(NotFiniteWarning, "The training diverged.", "Lower the learning rate, or use `check_finite=True`.")
def numbers_that_are_not_finite() -> None:
    model, optimizer, _ = watched()
    step(model, optimizer, float("nan"))


@case(StepUndoneWarning, "The optimizer works against the rules.", "Drop its weight decay there.", foreign=FIGURE)
def steps_that_are_undone() -> None:
    model = nn.Linear(3, 2).double()
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    w = affinet.weights(model)
    rules = [affinet.families.fix(w.weight, value=100.0).named("fixed"), (w.bias.sum() == 3).named("total")]
    kept = affinet.project(model, optimizer, rules)
    kept.watch()
    assert kept.plan.rows
    for _ in range(9):
        step(model, optimizer)


@case(MultipliersDivergeWarning, "The loss diverges, or two rules nearly contradict.", "Check both.", foreign=FIGURE)
def multipliers_that_diverge() -> None:
    model, optimizer, _ = watched(multipliers=True)
    for _ in range(40):
        step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.0
    for number in range(60):
        step(model, optimizer, 1.5**number)
