"""How far a run has come is read from its files, at every moment of a training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from affinet.cli.live.run_position import LONGEST_ROW, read_position
from affinet.cli.runs.runfolder import header, row
from affinet.cli.trainings.training import Epoch

ROW = row(Epoch(2, 0.25, 0.5, 3e-7))
OBSERVED = row(Epoch(2, 0.25, 0.5, 3e-7, stationarity=0.125))
OLD = row(Epoch(2, 0.25, 0.5, 3e-7), stationarity=False)

PERFECT = "loss 0.1, accuracy 100.0%, largest violation 0."


def folder(path: Path, epochs: int | None = 3, metrics: str = "", score: str = "accuracy") -> Path:
    (path / "job.toml").write_text("[train]\n" if epochs is None else f"[train]\nepochs = {epochs}\n")
    (path / "metrics.csv").write_text(header(score) + metrics)
    return path


def test_a_folder_that_is_not_there_yet_has_a_position(tmp_path: Path) -> None:
    position = read_position(tmp_path / "run")
    assert (position.epoch, position.epochs, position.finished) == (0, 0, False)
    assert position.sentence == "Preparing the training: data, network and rules."


@pytest.mark.parametrize(
    ("metrics", "epoch", "sentence"),
    [
        ("", 0, "Epoch 1 of 3 is running."),
        (ROW, 2, "Epoch 2 of 3: loss 0.25, accuracy 50.0%, largest violation 3e-07."),
        (OBSERVED, 2, "Epoch 2 of 3: loss 0.25, accuracy 50.0%, largest violation 3e-07."),
        (OLD, 2, "Epoch 2 of 3: loss 0.25, accuracy 50.0%, largest violation 3e-07."),
        (ROW + "3,0.1", 2, "Epoch 2 of 3: loss 0.25, accuracy 50.0%, largest violation 3e-07."),
        (ROW + "3,0.1,x,y\n", 0, "Epoch 1 of 3 is running."),
        (
            row(Epoch(3, 0.1, 1.0, 0.0)),
            3,
            f"All 3 epochs under the rules: {PERFECT} The network now trains without rules for comparison.",
        ),
    ],
)
def test_the_last_complete_row_is_the_position(tmp_path: Path, metrics: str, epoch: int, sentence: str) -> None:
    position = read_position(folder(tmp_path, metrics=metrics))
    assert (position.epoch, position.epochs, position.sentence) == (epoch, 3, sentence)


def test_many_rows_are_not_all_read(tmp_path: Path) -> None:
    rows = "".join(row(Epoch(number, 0.5, 0.5, 1e-7)) for number in range(1, 2001))
    assert len(rows) > 20 * LONGEST_ROW
    assert read_position(folder(tmp_path, 4000, rows, "R²")).sentence == (
        "Epoch 2,000 of 4,000: loss 0.5, R² 0.500, largest violation 1e-07."
    )


def test_the_epochs_of_a_job_that_says_none_are_those_of_jobs(tmp_path: Path) -> None:
    assert read_position(folder(tmp_path, None)).epochs == 20


def test_a_finished_run_is_told_by_its_summary(tmp_path: Path) -> None:
    run = folder(tmp_path, 2, ROW)
    (run / "summary.json").write_text("{}")
    position = read_position(run)
    assert position.finished
    assert position.sentence == "The run is finished: loss 0.25, accuracy 50.0%, largest violation 3e-07."


@pytest.mark.parametrize("name", ["job.toml", "plan.txt", "metrics.csv", "model.safetensors", "summary.json"])
def test_each_file_that_changes_changes_the_mark(tmp_path: Path, name: str) -> None:
    run = folder(tmp_path)
    before = read_position(run).files
    (run / name).write_text("[train]\nepochs = 7\n")
    changed = read_position(run).files
    assert changed != before
    os.utime(run / name, ns=(1, 1))
    assert read_position(run).files != changed


def test_a_job_that_was_written_over_ends_nothing(tmp_path: Path) -> None:
    run = folder(tmp_path, 2, ROW)
    (run / "job.toml").write_text("[train\n")
    assert read_position(run).epochs == 0
