from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from affinet import Plan, plan, weights
from affinet.cli.runs import checkpoint as checkpoint_file
from affinet.cli.runs import runfolder
from affinet.cli.runs.checkpoint import Checkpoint, write_checkpoint
from affinet.cli.runs.identity import Identity
from affinet.cli.runs.runfolder import (
    CHECKPOINT,
    METRICS,
    MODEL,
    NAMES,
    PREVIOUS,
    RunFolder,
    begin_run,
    complete_beginning,
    holds_run,
    last_checkpoint,
    make_folder,
    refuse_used,
    row,
)
from affinet.cli.runs.start_record import StartRecord
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.cli.trainings.torch.keeping import Learner
from affinet.cli.trainings.torch.tensor_snapshot import take
from affinet.cli.trainings.training import Epoch, Progress
from affinet.errors import RunError

STATE = {"a": torch.arange(4.0)}
WEIGHTS = weights({"a": (4,)})
RULE = WEIGHTS.a.sum() == 6
PLAN = plan(RULE)
RULES = PlannedRules((RULE,), PLAN.system, PLAN, WEIGHTS)
IDENTITY = Identity(job="1", plan="2", data="3")
START_RECORD = StartRecord(folder="/jobs", name="job.toml", identity=IDENTITY, torch="2", threads=1, stationarity=True)
FIRST, SECOND = Epoch(1, 0.5, 0.25, 0.0, stationarity=0.75), Epoch(2, 0.1, 1.0, 1e-7)
HEADER = "epoch,loss,accuracy,largest_violation,stationarity\n"


def begin(path: Path, job: str = "[data]\n") -> RunFolder:
    make_folder(path)
    return begin_run(path, START_RECORD, job, RULES, "accuracy")


def after(epoch: Epoch) -> Checkpoint:
    network = torch.nn.Linear(4, 2)
    learner = Learner(network, torch.optim.SGD(network.parameters()), 10)
    return Checkpoint(IDENTITY, Progress(epoch, epoch.violation, 1.0), take(learner, torch.Generator()))


def save(run: RunFolder, epoch: Epoch, state: Mapping[str, Tensor] = STATE) -> None:
    run.save(after(epoch), state)


def epoch_of(path: Path) -> int:
    checkpoint, _ = last_checkpoint(path)
    assert checkpoint is not None
    return checkpoint.progress.epochs


@pytest.fixture
def two(tmp_path: Path) -> RunFolder:
    """A run of two epochs."""
    run = begin(tmp_path / "run")
    save(run, FIRST)
    save(run, SECOND)
    return run


def test_a_run_holds_its_job_its_plan_and_the_last_epoch(tmp_path: Path) -> None:
    run = begin(tmp_path / "new" / "run")
    assert run.contents().startswith("No epoch was finished, so ")
    save(run, FIRST, {"a": torch.zeros(4)})
    save(run, SECOND)
    assert {path.name for path in run.path.iterdir()} == {*NAMES, ".begun.json"} - {
        "summary.json",
        "samples.safetensors",
        "scaling.json",
    }
    assert (run.path / "job.toml").read_text() == "[data]\n"
    assert (run.path / "plan.txt").read_text() == f"{PLAN}\n"
    assert str(Plan.load(run.path / "plan.safetensors")) == str(PLAN)
    assert (run.path / "metrics.csv").read_text() == f"{HEADER}1,0.5,0.25,0.0,0.75\n2,0.1,1.0,1e-07,\n"
    assert torch.equal(load_file(run.path / "model.safetensors")["a"], STATE["a"])
    assert run.contents() == f"{run.path} holds the weights and the metrics of epoch 2, the last one that was finished."


def test_tensors_that_share_memory_are_stored_under_each_name(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    save(begin(tmp_path / "run"), FIRST, {"a": whole, "b": whole, "c": whole.T})
    loaded = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(loaded[name], value) for name, value in {"a": whole, "b": whole, "c": whole.T}.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_holds_a_run_is_never_written_to(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert holds_run(tmp_path)
    with pytest.raises(RunError, match=r"already holds a run.*another folder with --out, or resume.*train --resume "):
        begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_with_other_files_is_fine_and_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    refuse_used(tmp_path)
    with pytest.raises(RunError, match="notes is a file, not a folder; name another place with --out"):
        refuse_used(tmp_path / "notes")
    with pytest.raises(RunError, match=r"cannot be written to: .*Name another folder with --out."):
        make_folder(tmp_path / "notes" / "run")
    (tmp_path / ".job.toml.unfinished").mkdir()
    with pytest.raises(RunError, match=r"cannot be written to: .*Name another folder with --out."):
        begin(tmp_path)


def refusing(code: int) -> Callable[..., None]:
    def write(*arguments: object, **keys: object) -> None:
        raise OSError(code, os.strerror(code))

    return write


def half_written(tensors: object, path: Path, metadata: object) -> None:
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("module", "name", "write"),
    [
        (runfolder, "save_arrays", half_written),
        (checkpoint_file, "save_arrays", half_written),
        (os, "fsync", refusing(errno.ENOSPC)),
        (os, "replace", refusing(errno.EIO)),
    ],
    ids=["weights", "checkpoint", "flush", "rename"],
)
def test_a_disk_that_refuses_leaves_the_epoch_before(
    two: RunFolder, monkeypatch: pytest.MonkeyPatch, module: object, name: str, write: Callable[..., None]
) -> None:
    before = {path.name: path.read_bytes() for path in two.path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(module, name, write)
        with pytest.raises(RunError, match=r"(No space left|Input/output error).*Make room .*train --resume "):
            save(two, Epoch(3, 0.0, 1.0, 0.0), {"a": torch.zeros(4)})
    assert {path.name: path.read_bytes() for path in two.path.iterdir()} == before
    assert "of epoch 2," in two.contents()
    save(two, Epoch(3, 0.0, 1.0, 0.0))
    assert epoch_of(two.path) == 3


def test_a_disk_that_is_full_leaves_the_epoch_before(two: RunFolder) -> None:
    before = {path.name: path.read_bytes() for path in two.path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))  # of one file; Python ignores the signal that comes with it
    try:
        with pytest.raises(RunError, match=r"cannot be written to: .*File too large.*train --resume "):
            save(two, Epoch(3, 0.0, 1.0, 0.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in two.path.iterdir()} == before


def test_metrics_that_somebody_took_away_stop_the_run(two: RunFolder) -> None:
    (two.path / METRICS).unlink()
    with pytest.raises(RunError, match=r"cannot be written to: .*metrics.csv"):
        save(two, Epoch(3, 0.0, 1.0, 0.0))
    assert epoch_of(two.path) == 2


def test_ctrl_c_while_saving_waits_until_weights_and_metrics_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path / "run")
    real = runfolder.save_arrays

    def interrupted(*arguments: object, **keys: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        real(*arguments, **keys)

    monkeypatch.setattr(runfolder, "save_arrays", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            save(run, FIRST)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "of epoch 1," in run.contents()
    assert (run.path / "model.safetensors").exists()


def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_never_takes_its_place(two: RunFolder) -> None:
    os.truncate(two.path / CHECKPOINT, 100)
    checkpoint, told = last_checkpoint(two.path)
    assert checkpoint is not None
    assert checkpoint.progress.last == FIRST
    assert "checkpoint.safetensors is not a readable checkpoint: " in told
    assert told.endswith("Resuming from the checkpoint before, of epoch 1.")
    assert not (two.path / PREVIOUS).exists()
    assert last_checkpoint(two.path)[1] == ""
    save(two, SECOND)
    os.truncate(two.path / CHECKPOINT, 100)
    assert epoch_of(two.path) == 1


def test_a_process_that_ended_between_two_renames_left_the_one_before(two: RunFolder) -> None:
    (two.path / CHECKPOINT).unlink()
    checkpoint, told = last_checkpoint(two.path)
    assert checkpoint is not None
    assert (checkpoint.progress.last, told) == (FIRST, "")


def test_a_run_without_a_checkpoint_that_can_be_read_is_refused(two: RunFolder) -> None:
    for name in (CHECKPOINT, PREVIOUS):
        os.truncate(two.path / name, 100)
    with pytest.raises(RunError, match=r"checkpoint.safetensors is not .*previous.*The run cannot be resumed: train"):
        last_checkpoint(two.path)
    for name in (CHECKPOINT, PREVIOUS):
        (two.path / name).unlink()
    with pytest.raises(RunError, match=r"holds weights but no checkpoint\. The run cannot be resumed"):
        last_checkpoint(two.path)
    (two.path / MODEL).unlink()
    assert last_checkpoint(two.path) == (None, "")


@pytest.mark.parametrize(
    ("metrics", "lost"),
    [
        ("1,0.5,0.25,0.0,0.75\n2,0.1,1.0,1e-07,\n", 0),
        ("1,0.5,0.25,0.0,0.75\n", 0),
        ("1,0.5,0.25,0.0,0.75\n2,0.1,1.0,1e-07,\n3,0.1,1", 0),
        ("1,0.5,0.25,0.0,0.75\n2,0.1,1.0,1e-07,\n3,0.1,1.0,1e-07,0.5\n", 0),
        ("1,0.5,0.25,0.0,0.75\n2,0.9,0.0,1e-07,0.5\n", 0),
        ("1,0.5,0.25,\n2,0.1,1.0,1e-07,\n", 1),
        ("1,0.5,0.25,0.0\n2,0.1,1.0,1e-07,\n", 1),
        ("1,0.5,,0.0,0.75\n2,0.1,1.0,1e-07,\n", 1),
        ("\x00\x00\x00", 1),
    ],
    ids=[
        "as it was",
        "a row late",
        "half a row",
        "a row ahead",
        "other values",
        "a bad row",
        "a row of an earlier version",
        "a row without a score",
        "nothing",
    ],
)
def test_metrics_and_weights_become_those_of_the_checkpoint(two: RunFolder, metrics: str, lost: int) -> None:
    (two.path / METRICS).write_text(HEADER + metrics)
    (two.path / MODEL).write_bytes(b"other")
    assert two.restore(SECOND, STATE) == lost
    assert (two.path / METRICS).read_text() == HEADER + ("" if lost else row(FIRST)) + row(SECOND)
    assert torch.equal(load_file(two.path / MODEL)["a"], STATE["a"])


def test_the_column_of_the_score_has_its_name_and_an_older_one_gets_it(two: RunFolder, tmp_path: Path) -> None:
    old = replace(two, stationarity=False)
    (two.path / METRICS).write_text("epoch,loss,score,largest_violation\n" + row(FIRST, stationarity=False))
    old.restore(SECOND, STATE)
    assert (two.path / METRICS).read_text().startswith("epoch,loss,accuracy,largest_violation\n1,0.5,0.25,0.0\n2,")
    (tmp_path / "other").mkdir()
    begin_run(tmp_path / "other", START_RECORD, "", RULES, "R²")
    assert (tmp_path / "other" / METRICS).read_text() == "epoch,loss,R2,largest_violation,stationarity\n"


def test_a_beginning_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    run = begin(tmp_path / "run").path
    for name in ("plan.txt", "plan.safetensors"):
        (run / name).unlink()
    left = [run / ".plan.safetensors.abcd.unfinished", run / ".model.safetensors.unfinished"]
    for path in left:
        path.write_text("half")
    (run / METRICS).write_text(f"{HEADER}1,0.5,0.25,0.0,\n")
    complete_beginning(run, RULES, "accuracy", stationarity=True)
    assert not any(path.exists() for path in left)
    assert (run / "plan.txt").read_text() == f"{PLAN}\n"
    assert str(Plan.load(run / "plan.safetensors")) == str(PLAN)
    assert (run / METRICS).read_text() == HEADER


def test_the_first_checkpoint_has_none_before_it(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / CHECKPOINT, after(FIRST), previous=tmp_path / PREVIOUS)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
