from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affinet.cli.runs import running
from affinet.cli.trainings import planned_rules
from affinet.cli.trainings.training import Diverged, Epoch, Step
from affinet.errors import GradientError
from tests.cli.conftest import SMALL, Command
from tests.limits import limit_every_plan


def stop(monkeypatch: pytest.MonkeyPatch, error: BaseException, *, training: int, epochs: int) -> None:
    """Let the training of this number (1: with rules, 2: without) raise `error` after so many epochs."""
    real, begun = running.train_epochs, iter((1, 2))

    def stopping(*arguments: Any) -> Iterator[Step | Epoch]:
        stops = next(begun) == training
        for event in real(*arguments):
            if stops and isinstance(event, Step) and epochs == 0:
                raise error
            yield event
            if stops and isinstance(event, Epoch) and event.number == epochs:
                raise error

    monkeypatch.setattr(running, "train_epochs", stopping)


@pytest.fixture
def job(folder: Path) -> Path:
    (folder / "job.toml").write_text(SMALL)
    return folder / "job.toml"


@pytest.mark.parametrize(
    ("epochs", "told"),
    [
        (0, "No epoch was finished, so run holds the job and the plan, and no weights."),
        (2, "run holds the weights and the metrics of epoch 2, the last one that was finished."),
    ],
)
def test_what_a_stopped_run_left_on_disk_is_told(
    affinet: Command, job: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, told: str
) -> None:
    stop(monkeypatch, KeyboardInterrupt(), training=1, epochs=epochs)
    result = affinet("train", job, "--out", "run")
    assert (result.exit_code, result.stderr) == (130, f"Interrupted. {told} To resume: affinet train --resume run\n")
    assert len((job.parent / "run" / "metrics.csv").read_text().splitlines()) == 1 + epochs


@pytest.mark.parametrize("error", [Diverged("It diverged."), GradientError("A gradient is sparse.")])
def test_an_error_in_the_middle_of_a_run_says_what_is_on_disk(
    affinet: Command, job: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    stop(monkeypatch, error, training=1, epochs=1)
    result = affinet("train", job, "--out", "run")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {error} run holds the weights and the metrics of epoch 1, the last one")


def test_ctrl_c_during_the_comparison_leaves_a_finished_run(
    affinet: Command, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(monkeypatch, KeyboardInterrupt(), training=2, epochs=1)
    result = affinet("train", job, "--out", "run")
    assert result.exit_code == 130
    assert result.stderr == (
        "Interrupted while training without rules for comparison; "
        "the run with rules is finished, and everything is in run. To resume: affinet train --resume run\n"
    )
    assert len((job.parent / "run" / "metrics.csv").read_text().splitlines()) == 4


def test_a_comparison_that_diverges_fails_nothing(affinet: Command, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch, Diverged("the training diverged."), training=2, epochs=1)
    result = affinet("train", job, "--out", "run")
    assert result.exit_code == 0, result.output
    assert "Without the rules the training diverged." in result.stdout
    assert "nothing to compare the score with" in result.stdout


def test_an_augmented_lagrangian_ends_on_the_rules(affinet: Command, job: Path) -> None:
    job.write_text(SMALL.replace("batch_size", 'method = "lagrange"\nbatch_size'))
    result = affinet("train", job, "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert "An augmented Lagrangian approaches the rules: they were violated by up to" in result.output
    assert affinet("verify", "run/model.safetensors", "run/plan.safetensors").exit_code == 0
    summary = json.loads((job.parent / "run" / "summary.json").read_text())
    assert summary["with_rules"]["largest_violation"] < 1e-6


IMPOSSIBLE = """
[[rule]]
name = "orthogonal"
says = 'orthogonal(hidden1.weight, of="columns")'

[[rule]]
name = "sum"
says = "hidden1.weight.sum() == 99"
"""


SIGNED_ROWS = """
[[rule]]
name = "lengths"
says = "unit_norm(hidden1.weight, dim=1)"

[[rule]]
name = "signs"
says = "hidden1.weight >= 0"
"""
"""Nonlinear equations and inequalities on the same weights, which a plan without room for mixed sets cannot hold."""


def test_rules_without_a_plan_are_approached(affinet: Command, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_every_plan(monkeypatch, most_mixed=0)
    job.write_text(SMALL.replace("batch_size", 'method = "lagrange"\nbatch_size') + SIGNED_ROWS)
    checked = affinet("check", job)
    assert checked.exit_code == 0, checked.stderr
    assert "1 rule without a plan (the rules" in " ".join(checked.stdout.split())
    assert "Training approaches 'signs' alone, without a plan." in checked.stdout
    result = affinet("train", job, "--out", "run")
    assert result.exit_code == 0, result.stderr
    shown = " ".join(result.stdout.split())
    assert "At the end the weights were moved onto those that a plan holds" in shown
    violated = re.search(r'No plan holds "signs" \(violated by (.*?)\): training only approaches such rules', shown)
    assert violated is not None
    assert "affinet.lagrange" not in result.output
    summary = json.loads((job.parent / "run" / "summary.json").read_text())
    assert summary["with_rules"]["largest_violation"] == pytest.approx(float(violated[1]), rel=5e-3)
    # The file has both rules: the lengths hold to rounding, and the signs are told with their violation.
    verified = affinet("verify", "run/model.safetensors", "run/plan.safetensors")
    assert verified.exit_code == (1 if float(violated[1]) > 0 else 0)
    assert "signs" in verified.stdout
    assert "lengths" in verified.stdout
    assert "1 rule without a plan" in (job.parent / "run" / "plan.txt").read_text()


def test_rules_none_of_which_has_a_plan_are_approached(
    affinet: Command, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned_rules, "plan_of_largest_part", lambda rules: (None, "nothing can be planned"))
    job.write_text(SMALL.replace("batch_size", 'method = "lagrange"\nbatch_size') + SIGNED_ROWS)
    assert affinet("check", job).exit_code == 0
    result = affinet("train", job, "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert "3 rules without a plan (nothing can be planned)" in result.stdout
    assert affinet("train", "--resume", "run").exit_code == 0


def test_rules_that_no_plan_holds_are_refused_naming_the_method(
    affinet: Command, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_every_plan(monkeypatch, most_mixed=0)
    job.write_text(SMALL + SIGNED_ROWS)
    for command in (("check", job), ("train", job, "--out", "run")):
        result = affinet(*command)
        assert result.exit_code == 2
        assert 'In a job file: method = "lagrange".' in " ".join(result.stderr.split())


def test_weights_without_a_way_to_the_rules_are_saved(affinet: Command, job: Path) -> None:
    job.write_text(SMALL.replace("batch_size", 'method = "lagrange"\nbatch_size') + IMPOSSIBLE)
    result = affinet("train", job, "--out", "run")
    assert result.exit_code == 1, result.output
    assert "No weights that satisfy the rules were found from the first ones" in result.output
    assert "satisfy the rules already" not in result.output
    assert '"sum" (violated by ' in result.stderr
    assert "run holds the weights and the metrics of epoch 3, the last one that was finished." in result.stderr
    assert (job.parent / "run" / "model.safetensors").exists()
    resumed = affinet("train", "--resume", "run")
    assert resumed.exit_code == 1, resumed.output
    assert '"sum" (violated by ' in resumed.stderr


@pytest.mark.parametrize("method", ["project", "lagrange"])
def test_nonlinear_inequalities_hold_after_a_run(affinet: Command, job: Path, method: str) -> None:
    rules = """
[[rule]]
name = "short rows"
says = "(hidden1.weight**2).sum(dim=1) <= 0.5"

[[rule]]
name = "product"
says = "hidden1.weight[0, 0] * hidden1.weight[1, 1] >= 0.01"
"""
    job.write_text(SMALL.replace("batch_size", f'method = "{method}"\nbatch_size') + rules)
    assert affinet("check", job).exit_code == 0
    result = affinet("train", job, "--out", "run")
    assert result.exit_code == 0, result.output
    assert affinet("verify", "run/model.safetensors", "run/plan.safetensors").exit_code == 0
