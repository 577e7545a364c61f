from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affinet.cli.runs import running
from affinet.cli.runs.locking import locked
from affinet.cli.trainings.torch.optimizers import OPTIMIZERS
from affinet.cli.trainings.training import Epoch, Step
from affinet.kernels.torch import conjugate_gradients
from tests.cli.conftest import SMALL, Command, changed
from tests.limits import limit_every_plan

SUMS = '[[rule]]\nname = "sums"\nsays = "hidden1.weight.sum(dim=1) == 1"\n'
NOISY = """\
import torch

def make(inputs, outputs):
    network = torch.nn.Sequential()
    network.add_module("hidden1", torch.nn.Linear(inputs, 5))
    network.extend([torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.3), torch.nn.Linear(5, outputs)])
    return network
"""
SAME = ("model.safetensors", "metrics.csv")


def stop(monkeypatch: pytest.MonkeyPatch, *, training: int, epochs: int, steps: int = 0) -> None:
    """Press Ctrl-C in the training of this number (1: with rules, 2: without), so many steps after an epoch."""
    real, begun = running.train_epochs, iter((1, 2))

    def stopping(*arguments: Any) -> Iterator[Step | Epoch]:
        stops, left = next(begun) == training, None if epochs else steps
        for event in real(*arguments):
            if stops and left == 0:
                raise KeyboardInterrupt
            if left is not None:
                left -= 1
            yield event
            if isinstance(event, Epoch) and event.number == epochs:
                left = steps

    monkeypatch.setattr(running, "train_epochs", stopping)


def write(folder: Path, text: str = SMALL + SUMS) -> Path:
    (folder / "job.toml").write_text(text)
    return folder / "job.toml"


def stopped(affinet: Command, job: Path, *, training: int = 1, epochs: int = 2, steps: int = 1) -> None:
    """A run in the folder `run` that was stopped."""
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, training=training, epochs=epochs, steps=steps)
        result = affinet("train", job, "--out", "run")
    assert result.exit_code == 130, result.output
    assert "To resume: affinet train --resume run" in " ".join(result.stderr.split())


def refused(affinet: Command, *words: object) -> str:
    result = affinet("train", *words)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def assert_same_bits(one: Path, other: Path) -> None:
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def resumed_as_in_one_go(affinet: Command, folder: Path, text: str) -> None:
    job = write(folder, text)
    result = affinet("train", job, "--out", "whole")
    assert result.exit_code == 0, result.output
    stopped(affinet, job)
    result = affinet("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    assert "Resuming after epoch 2 of 4." in result.stdout
    assert "moved to the nearest" not in result.stdout
    assert_same_bits(folder / "run", folder / "whole")


FOUR = ("epochs = 3", "epochs = 4")
KINDS = [name for name in OPTIMIZERS if name not in ("SparseAdam", "Muon", "LBFGS")]


FEW = 'LBFGS"\noptions = { max_iter = 3, history_size = 4 }\n#'
MOMENTUM = 'SGD"\noptions = { momentum = 0.9, nesterov = true }\n#'


@pytest.mark.parametrize("kind", [*KINDS, FEW, MOMENTUM], ids=[*KINDS, "LBFGS", "momentum"])
def test_every_optimizer_goes_on_to_the_bits_of_a_run_in_one_go(affinet: Command, folder: Path, kind: str) -> None:
    resumed_as_in_one_go(affinet, folder, changed(('"Adam"', f'"{kind}"'), FOUR) + SUMS)


@pytest.mark.skipif("Muon" not in OPTIMIZERS, reason="this torch has no Muon")
def test_muon_goes_on_to_the_bits_of_a_run_in_one_go(affinet: Command, folder: Path) -> None:
    (folder / "only_matrices.py").write_text(
        "import torch\n"
        "def make(inputs, outputs):\n"
        "    network = torch.nn.Sequential()\n"
        "    network.add_module('hidden1', torch.nn.Linear(inputs, 5, bias=False))\n"
        "    network.extend([torch.nn.ReLU(), torch.nn.Linear(5, outputs, bias=False)])\n"
        "    return network\n"
    )
    model = ("hidden = [5]", 'factory = "only_matrices:make"')
    resumed_as_in_one_go(affinet, folder, changed(model, ('"Adam"', '"Muon"'), FOUR) + SUMS)


INEQUALITIES = {
    "simplex": "simplex(hidden1.weight, 1)",
    "bound on sums": "hidden1.weight.sum(dim=1) <= -0.5",
    "chain": "monotone(hidden1.weight, 0)",
    "ball": "l2_ball(hidden1.weight, 0.5, dim=1)",
    "polyhedron": "hidden1.weight[:, 0] + hidden1.weight[:, 1] >= 0.5 + hidden1.weight[:, 2].mean()",
    "box": "between(-0.1, hidden1.weight, 0.1)",
}


@pytest.mark.parametrize(
    ("rule", "kind"),
    [*((rule, "Adam") for rule in INEQUALITIES), ("box", FEW), ("chain", MOMENTUM)],
)
def test_what_was_learned_of_inequalities_goes_on_too(affinet: Command, folder: Path, rule: str, kind: str) -> None:
    text = changed(('"Adam"', f'"{kind}"'), ("0.01", "0.3"), FOUR)
    rules = f'[[rule]]\nname = "learned"\nsays = "{INEQUALITIES[rule]}"\n'
    resumed_as_in_one_go(affinet, folder, text[: text.index("[[rule]]")] + rules)


@pytest.mark.parametrize("kind", ["Adam", FEW], ids=["Adam", "LBFGS"])
def test_an_augmented_lagrangian_goes_on_too(affinet: Command, folder: Path, kind: str) -> None:
    changes = ("batch_size", 'method = "lagrange"\nbatch_size'), ('"Adam"', f'"{kind}"'), FOUR
    resumed_as_in_one_go(affinet, folder, changed(*changes) + SUMS)


def test_rules_without_a_plan_go_on_too(affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_every_plan(monkeypatch, most_mixed=0)
    text = changed(("batch_size", 'method = "lagrange"\nbatch_size'), FOUR)
    lengths = '[[rule]]\nname = "lengths"\nsays = "unit_norm(hidden1.weight, dim=1)"\n'
    signs = '[[rule]]\nname = "signs"\nsays = "hidden1.weight >= 0"\n'
    resumed_as_in_one_go(affinet, folder, text[: text.index("[[rule]]")] + lengths + signs)
    assert "1 rule without a plan" in (folder / "run" / "plan.txt").read_text()


@pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
@pytest.mark.parametrize("kind", ["Adam", FEW, MOMENTUM], ids=["Adam", "LBFGS", "momentum"])
def test_free_numbers_go_on_too(affinet: Command, folder: Path, basis: str, kind: str) -> None:
    method = f'method = "reparametrize"\nbasis = "{basis}"\nbatch_size'
    resumed_as_in_one_go(affinet, folder, changed(("batch_size", method), ('"Adam"', f'"{kind}"'), FOUR) + SUMS)


@pytest.mark.parametrize("method", ["project", "reparametrize"])
def test_dropout_and_running_means_go_on_too(affinet: Command, folder: Path, method: str) -> None:
    (folder / "noisy_factory.py").write_text(NOISY)
    changes = (
        ("hidden = [5]", 'factory = "noisy_factory:make"'),
        ("batch_size", f'method = "{method}"\nbatch_size'),
        FOUR,
    )
    resumed_as_in_one_go(affinet, folder, changed(*changes) + SUMS)


@pytest.mark.parametrize(
    "method", ['"project"', '"reparametrize"\nbasis = "projection"'], ids=["project", "projection"]
)
def test_conjugate_gradients_go_on_too(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    limit_every_plan(monkeypatch, dense_rows=2, largest_fill=0)
    monkeypatch.setattr(conjugate_gradients, "MARGIN", 2.0**12)  # solutions then differ by where they were begun
    random = np.random.default_rng(0)
    matrix = random.normal(size=(24, 60)) * (random.random((24, 60)) < 0.1)
    np.savetxt(folder / "A.csv", matrix, delimiter=",")
    changes = ("[5]", "[20]"), ("batch_size", f"method = {method}\nbatch_size"), FOUR
    text = changed(*changes)
    rule = '[[rule]]\nmatrix = "A.csv"\nweights = ["hidden1.weight"]\n'
    resumed_as_in_one_go(affinet, folder, text[: text.index("[[rule]]")] + rule)
    assert "(conjugate gradients)" in (folder / "run" / "plan.txt").read_text()


@pytest.mark.parametrize("steps", [0, 1])
def test_a_run_without_an_epoch_begins_from_the_first(affinet: Command, folder: Path, steps: int) -> None:
    job = write(folder)
    assert affinet("train", job, "--out", "whole").exit_code == 0
    stopped(affinet, job, epochs=0, steps=steps)
    result = affinet("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    assert "No epoch of run was finished: starting from the first." in result.stdout
    assert "The first weights were moved" in result.stdout
    assert_same_bits(folder / "run", folder / "whole")


def test_a_missing_comparison_is_all_that_is_made(affinet: Command, folder: Path) -> None:
    job = write(folder)
    whole = affinet("train", job, "--out", "whole")
    stopped(affinet, job, training=2, epochs=1)
    before = (folder / "run" / "metrics.csv").stat().st_size
    result = affinet("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    assert "The training under rules is finished, all 3 epochs of it; the comparison is missing." in result.stdout
    assert (folder / "run" / "metrics.csv").stat().st_size == before
    assert_same_bits(folder / "run", folder / "whole")
    assert _verdict(result.stdout) == _verdict(whole.stdout)


def _verdict(page: str) -> str:
    return page[page.index("With rules, trained") : page.index("Everything is in")]


def test_a_finished_run_is_told_again_and_nothing_is_trained(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = affinet("train", write(folder), "--out", "run")
    before = {path.name: path.read_bytes() for path in (folder / "run").iterdir()}
    monkeypatch.setattr(running, "train_epochs", None)
    (folder / "small.csv").unlink()
    result = affinet("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    assert "The run in run is finished: 3 epochs, and the comparison." in result.stdout
    assert _verdict(result.stdout) == _verdict(first.stdout)
    assert {path.name: path.read_bytes() for path in (folder / "run").iterdir()} == before


def test_what_was_taken_away_of_a_finished_run_is_made_again(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = affinet("train", write(folder), "--out", "run")
    names = ("model.safetensors", "plan.safetensors", "plan.txt")
    before = {path.name: path.read_bytes() for path in (folder / "run").iterdir()}
    monkeypatch.setattr(running, "train_epochs", None)
    for name in names:
        (folder / "run" / name).unlink()
    result = affinet("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    assert "run lacks model.safetensors, plan.safetensors" in " ".join(result.stdout.split())
    assert _verdict(result.stdout) == _verdict(first.stdout)
    assert {path.name: path.read_bytes() for path in (folder / "run").iterdir()} == before


RESULTS = ("model.safetensors", "metrics.csv", "plan.safetensors", "plan.txt", "scaling.json")
DAMAGE = {
    "cut short": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "a bit flipped at its end": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "other content": lambda content: b"no such thing\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", RESULTS)
def test_a_damaged_file_of_a_finished_run_is_made_again(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: Callable[[bytes], bytes]
) -> None:
    job = write(folder, changed(("epochs = 3", "epochs = 1")) + SUMS)
    first = affinet("train", job, "--out", "run")
    before = {path.name: path.read_bytes() for path in (folder / "run").iterdir()}
    monkeypatch.setattr(running, "train_epochs", None)
    (folder / "run" / name).write_bytes(damage(before[name]))
    result = affinet("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    assert f"{name} in run is not as the run wrote it: restoring" in " ".join(result.stdout.split())
    assert _verdict(result.stdout) == _verdict(first.stdout)
    assert {path.name: path.read_bytes() for path in (folder / "run").iterdir()} == before
    assert "restoring" not in affinet("train", "--resume", "run").stdout


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", RESULTS)
def test_a_damaged_file_of_a_stopped_run_is_made_again(
    affinet: Command, folder: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    job = write(folder, changed(("epochs = 3", "epochs = 2")) + SUMS)
    assert affinet("train", job, "--out", "whole").exit_code == 0
    stopped(affinet, job, epochs=1)
    path = folder / "run" / name
    path.write_bytes(damage(path.read_bytes()))
    assert affinet("train", "--resume", "run").exit_code == 0
    for each in RESULTS:
        assert (folder / "run" / each).read_bytes() == (folder / "whole" / each).read_bytes(), each


def test_a_finished_run_of_an_earlier_version_without_a_scaling_needs_no_data(affinet: Command, folder: Path) -> None:
    assert affinet("train", write(folder), "--out", "run").exit_code == 0
    summary = json.loads((folder / "run" / "summary.json").read_text())
    del summary["sha256"]["scaling.json"]
    (folder / "run" / "summary.json").write_text(json.dumps(summary))
    (folder / "run" / "scaling.json").unlink()
    (folder / "small.csv").unlink()
    result = affinet("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    assert "restoring" not in result.stdout


def test_the_plan_of_other_rules_is_replaced(affinet: Command, folder: Path) -> None:
    affinet("train", write(folder, SMALL), "--out", "other")
    affinet("train", write(folder), "--out", "run")
    right = (folder / "run" / "plan.safetensors").read_bytes()
    shutil.copy(folder / "other" / "plan.safetensors", folder / "run")
    summary = json.loads((folder / "run" / "summary.json").read_text())
    del summary["sha256"]  # as an earlier affinet wrote it
    (folder / "run" / "summary.json").write_text(json.dumps(summary))
    assert "plan.safetensors in run is not as the run wrote it" in affinet("train", "--resume", "run").stdout
    assert (folder / "run" / "plan.safetensors").read_bytes() == right


def test_rows_of_earlier_epochs_that_were_changed_are_not_made_up(affinet: Command, folder: Path) -> None:
    affinet("train", write(folder), "--out", "run")
    path = folder / "run" / "metrics.csv"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"\n1,0", b"\n1,1"))
    assert path.read_bytes() != before
    for _ in range(2):
        told = refused(affinet, "--resume", "run")
        assert "run/metrics.csv is not as the run wrote it, and the checkpoint can restore only its last row." in told
        assert told.endswith("Put the file back, or remove it to resume without the rows of earlier epochs.")
    path.unlink()
    assert "The rows of 2 earlier epochs are missing" in affinet("train", "--resume", "run").stdout
    path.write_bytes(before)


def test_weights_of_a_finished_run_that_nothing_holds_are_missed(affinet: Command, folder: Path) -> None:
    affinet("train", write(folder), "--out", "run")
    for name in ("model.safetensors", "checkpoint.safetensors"):
        (folder / "run" / name).unlink()
    metrics = (folder / "run" / "metrics.csv").read_bytes()
    assert "run lacks model.safetensors, and the checkpoint of the last epoch" in refused(affinet, "--resume", "run")
    assert (folder / "run" / "metrics.csv").read_bytes() == metrics


def test_a_damaged_checkpoint_costs_an_epoch_and_no_bit(affinet: Command, folder: Path) -> None:
    job = write(folder)
    assert affinet("train", job, "--out", "whole").exit_code == 0
    stopped(affinet, job)
    newest = folder / "run" / "checkpoint.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    result = affinet("train", "--resume", "run")
    assert "Resuming from the checkpoint before, of epoch 1. " in " ".join(result.stdout.split())
    assert_same_bits(folder / "run", folder / "whole")


def test_lost_rows_of_metrics_are_told(affinet: Command, folder: Path) -> None:
    stopped(affinet, write(folder))
    (folder / "run" / "metrics.csv").unlink()
    result = affinet("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    assert "The rows of 1 earlier epoch are missing in run/metrics.csv." in result.stdout


def test_a_run_that_diverges_keeps_its_last_finite_epoch(affinet: Command, folder: Path) -> None:
    job = write(folder, changed(('"Adam"', '"SGD"'), ("0.01", "0.1")) + SUMS)
    stopped(affinet, job)
    bad = OPTIMIZERS["SGD"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            bad, "step", lambda self, closure=None: self.param_groups[0]["params"][0].data.fill_(float("nan"))
        )
        told = refused(affinet, "--resume", "run")
    assert "diverged in epoch 3" in told
    assert "run holds the weights and the metrics of epoch 2, the last one that was finished." in told
    assert affinet("train", "--resume", "run").exit_code == 0


def test_another_job_is_refused(affinet: Command, folder: Path) -> None:
    stopped(affinet, write(folder))
    (folder / "run" / "job.toml").write_text(changed(("epochs = 3", "epochs = 5")) + SUMS)
    told = refused(affinet, "--resume", "run")
    assert re.search(
        r"run cannot be resumed: its job.toml changed since it was started \(SHA-256 \w{12}… then, \w{12}…", told
    )
    assert told.endswith("Restore the former content, or start a new run with --out.")


def test_other_data_is_refused(affinet: Command, folder: Path) -> None:
    stopped(affinet, write(folder))
    table = folder / "small.csv"
    table.write_text(table.read_text().replace("0.1", "0.2"))
    assert "run cannot be resumed: its data (a file, or how the" in refused(affinet, "--resume", "run")


def test_other_rules_are_refused(affinet: Command, folder: Path) -> None:
    (folder / "A.csv").write_text(",".join(["1"] * 15) + "\n")
    rule = '[[rule]]\nmatrix = "A.csv"\nweights = ["hidden1.weight"]\n'
    stopped(affinet, write(folder, SMALL + rule))
    (folder / "A.csv").write_text(",".join(["2"] * 15) + "\n")
    assert "run cannot be resumed: the content of its rules (a matrix" in refused(affinet, "--resume", "run")


def test_a_checkpoint_of_another_run_is_refused(affinet: Command, folder: Path) -> None:
    stopped(affinet, write(folder, changed(("epochs = 3", "epochs = 5")) + SUMS))
    (folder / "run").rename(folder / "other")
    stopped(affinet, write(folder))
    shutil.copy(folder / "other" / "checkpoint.safetensors", folder / "run")
    assert "the checkpoint in run is from a run with another job, other rules or other" in refused(
        affinet, "--resume", "run"
    )


def test_another_network_is_refused(affinet: Command, folder: Path) -> None:
    (folder / "growing.py").write_text(NOISY)
    stopped(affinet, write(folder, changed(("hidden = [5]", 'factory = "growing:make"')) + SUMS))
    with pytest.MonkeyPatch.context() as patch:
        import growing

        patch.setattr(growing, "make", lambda *sizes: _without_dropout(growing.torch, *sizes))
        told = refused(affinet, "--resume", "run")
    assert "the network is not the one that the run was started with: " in told
    assert told.count("differ in name, shape or dtype. Restore its factory") == 1


def _without_dropout(torch: Any, inputs: int, outputs: int) -> Any:
    network = torch.nn.Sequential()
    network.add_module("hidden1", torch.nn.Linear(inputs, 5))
    network.extend([torch.nn.BatchNorm1d(5), torch.nn.Linear(5, outputs)])
    return network


def test_a_job_beside_resume_is_the_same_or_refused(affinet: Command, folder: Path) -> None:
    stopped(affinet, write(folder))
    write(folder, changed(("epochs = 3", "epochs = 5")) + SUMS)
    told = refused(affinet, "job.toml", "--resume", "run")
    assert "job.toml is not the job of run: line 12 is 'epochs = 5', and was 'epochs = 3'. Leave it out." in told
    assert affinet("train", write(folder), "--resume", "run").exit_code == 0


def test_a_job_that_moved_is_said_once(affinet: Command, folder: Path) -> None:
    (folder / "there").mkdir()
    shutil.copy(folder / "small.csv", folder / "there")
    stopped(affinet, write(folder / "there"))
    (folder / "there").rename(folder / "here")
    (folder / "small.csv").unlink()
    told = refused(affinet, "--resume", "run")
    assert (
        "there/job.toml, and that folder does not exist any more. Name the new place of the job: affinet train JOB"
        in told
    )
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, training=2, epochs=1)
        assert affinet("train", "here/job.toml", "--resume", "run").exit_code == 130
    assert affinet("train", "--resume", "run").exit_code == 0


def test_data_that_moved_is_told_with_the_place(affinet: Command, folder: Path) -> None:
    stopped(affinet, write(folder))
    (folder / "small.csv").unlink()
    told = refused(affinet, "--resume", "run")
    assert "there is no data file" in told
    assert (
        f"run was started from {folder / 'job.toml'}. If the job and its files have moved, name the new place: " in told
    )


def test_a_folder_without_a_run(affinet: Command, folder: Path) -> None:
    told = refused(affinet, "--resume", "run")
    assert told == "error: run does not hold a run to resume. Start one: affinet train JOB.toml --out run"
    result = affinet("train", write(folder), "--resume", "run")
    assert result.exit_code == 0, result.output
    assert "There is no run in run yet: starting one." in result.stdout
    assert (folder / "run" / "summary.json").exists()


def test_a_run_that_was_begun_without_saying_where(affinet: Command, folder: Path) -> None:
    stopped(affinet, write(folder))
    (folder / "run" / ".begun.json").write_text("{")
    assert "run/.begun.json cannot be read: Invalid JSON" in refused(affinet, "--resume", "run")
    (folder / "run" / ".begun.json").unlink()
    told = refused(affinet, "--resume", "run")
    assert (
        "where it was started: an older affinet did not write .begun.json. Name another folder with --out and" in told
    )


def test_another_torch_or_other_threads_are_told(affinet: Command, folder: Path) -> None:
    stopped(affinet, write(folder))
    begun = folder / "run" / ".begun.json"
    begun.write_text(re.sub(r'"torch": "[^"]+"', '"torch": "1.0"', begun.read_text()))
    result = affinet("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    told = " ".join(result.stdout.split())
    assert "The run was started with torch 1.0 on " in told
    assert "the last digits of its weights may differ from those of an uninterrupted run." in told


def test_words_that_do_not_go_together(affinet: Command, folder: Path) -> None:
    told = refused(affinet, "--resume", "run", "--out", "other")
    assert told == "error: --out other starts a new run, and --resume run resumes an old one. Give one of them."
    assert refused(affinet) == ("error: there is no job to train. Name a job file, or a stopped run with --resume RUN.")


def test_one_process_writes_to_a_run(affinet: Command, folder: Path) -> None:
    job = write(folder)
    (folder / "run").mkdir()
    told = f"error: run is being written to by process {os.getpid()}. Wait until it has ended, or name another folder"
    with locked(folder / "run"):
        assert refused(affinet, job, "--out", "run").startswith(told)  # begun in the same moment
    assert not (folder / "run" / "job.toml").exists()
    stopped(affinet, job)
    with locked(folder / "run"):
        assert refused(affinet, "--resume", "run").startswith(told)
    assert affinet("train", "--resume", "run").exit_code == 0
