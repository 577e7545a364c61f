from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from affinet import Plan, plan, weights
from affinet.cli import runfolder
from affinet.cli.runfolder import begin_run, holds_run, refuse_used
from affinet.cli.training import Epoch
from affinet.errors import RunError

STATE = {"a": torch.arange(4.0)}
PLAN = plan(weights({"a": (4,)}).a.sum() == 6)


def test_a_run_holds_its_job_its_plan_and_the_last_epoch(tmp_path: Path) -> None:
    run = begin_run(tmp_path / "new" / "run", "[data]\n", PLAN)
    assert run.contents().startswith("No epoch was finished, so ")
    run.save(Epoch(1, 0.5, 0.25, 0.0), {"a": torch.zeros(4)})
    run.save(Epoch(2, 0.1, 1.0, 1e-7), STATE)
    assert sorted(path.name for path in run.path.iterdir()) == [
        "job.toml",
        "metrics.csv",
        "model.safetensors",
        "plan.safetensors",
        "plan.txt",
    ]
    assert (run.path / "job.toml").read_text() == "[data]\n"
    assert (run.path / "plan.txt").read_text() == f"{PLAN}\n"
    assert str(Plan.load(run.path / "plan.safetensors")) == str(PLAN)
    assert (
        run.path / "metrics.csv"
    ).read_text() == "epoch,loss,score,largest_violation\n1,0.5,0.25,0.0\n2,0.1,1.0,1e-07\n"
    assert torch.equal(load_file(run.path / "model.safetensors")["a"], STATE["a"])
    assert run.contents() == f"{run.path} holds the weights and the metrics of epoch 2, the last one that was finished."


def test_tensors_that_share_memory_are_stored_under_each_name(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    begin_run(tmp_path / "run", "", PLAN).save(Epoch(1, 0, 0, 0), {"a": whole, "b": whole, "c": whole.T})
    loaded = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(loaded[name], value) for name, value in {"a": whole, "b": whole, "c": whole.T}.items())


@pytest.mark.parametrize("name", ["model.safetensors", "metrics.csv", "job.toml", "plan.safetensors", "plan.txt"])
def test_a_folder_that_holds_a_run_is_never_written_to(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert holds_run(tmp_path)
    with pytest.raises(
        RunError, match="already holds a run, which would be overwritten; name another folder with --out"
    ):
        begin_run(tmp_path, "", PLAN)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_with_other_files_is_fine_and_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    refuse_used(tmp_path)
    with pytest.raises(RunError, match="notes is a file, not a folder; name another place with --out"):
        refuse_used(tmp_path / "notes")
    with pytest.raises(RunError, match=r"cannot be written to: .*Name another folder with --out."):
        begin_run(tmp_path / "notes" / "run", "", PLAN)


def test_a_disk_that_refuses_is_an_error_of_the_run(tmp_path: Path) -> None:
    run = begin_run(tmp_path / "run", "", PLAN)
    (run.path / ".model.safetensors.unfinished").mkdir()
    with pytest.raises(RunError, match="cannot be written to: "):
        run.save(Epoch(1, 0, 0, 0), STATE)


def test_ctrl_c_while_saving_waits_until_weights_and_metrics_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin_run(tmp_path / "run", "", PLAN)
    real = runfolder.save_file

    def interrupted(*arguments: object, **keys: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        real(*arguments, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(runfolder, "save_file", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run.save(Epoch(1, 0, 0, 0), STATE)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "of epoch 1," in run.contents()
    assert (run.path / "model.safetensors").exists()
