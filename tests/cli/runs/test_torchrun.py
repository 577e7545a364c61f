"""Jobs that `torchrun` starts: one process fails, and the run is resumed; launches that do not fit are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import affinet as package
from tests.cli.conftest import SMALL, Command, changed

FAILING = """\
import os
import torch

class make(torch.nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.add_module("layer", torch.nn.Linear(inputs, outputs))
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps > 4 and os.environ["RANK"] == os.environ.get("FAILS"):
            raise ValueError("these rows are bad")
        return super().forward(x)
"""
RULE = ("hidden1.weight[0, 1] == hidden1.weight[2, 0]", "layer.weight[0, 1] == layer.weight[1, 0]")


def torchrun(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(Path(package.__file__).resolve().parents[1]), *sys.path])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "affinet"]
    return subprocess.run(
        [*command, *words],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_process_that_fails_ends_a_run_that_then_goes_on(affinet: Command, folder: Path) -> None:
    (folder / "failing.py").write_text(FAILING)
    text = changed(("hidden = [5]", 'factory = "failing:make"'), RULE, ("epochs = 3", 'epochs = 3\nparallel = "ddp"'))
    (folder / "job.toml").write_text(text)
    failed = torchrun(folder, "train", "job.toml", "--out", "run", FAILS="1")
    assert failed.returncode != 0
    assert "error: the network failed on 8 rows with ValueError: these rows are bad." in failed.stderr
    assert "error: process 0 of 2 stopped, since process 1 failed: the network failed on 8 rows" in failed.stderr
    assert "To resume: torchrun --nproc-per-node 2 -m affinet train --resume run" in failed.stderr
    refused = affinet("train", "--resume", "run")
    assert refused.exit_code == 2
    assert "processes that torchrun starts, and it did not start this one" in refused.stderr
    assert "Resume the run with: torchrun --nproc-per-node 2 -m affinet train --resume run\n" in refused.stderr
    resumed = torchrun(folder, "train", "--resume", "run", "--live")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("Resuming after epoch") == 1
    assert resumed.stdout.count("Everything is in run.") == 1
    assert resumed.stdout.count("The live page of this run, until the command ends: http://127.0.0.1:") == 1
    assert len((folder / "run" / "metrics.csv").read_text().splitlines()) == 4
    assert affinet("verify", "run/model.safetensors", "run/plan.safetensors").exit_code == 0


@pytest.mark.parametrize("local_rank", ["0", "1"])
def test_a_job_for_one_process_writes_no_run_in_several(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, local_rank: str
) -> None:
    (folder / "job.toml").write_text(SMALL)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, local_rank)
    result = affinet("train", "job.toml", "--out", "run")
    assert result.exit_code == 2
    assert ("torchrun started 2 processes" in result.stderr) == (local_rank == "0"), "the others print nothing"
    assert not (folder / "run").exists()


def test_a_job_for_several_processes_is_checked_by_one(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(changed(("epochs = 3", 'epochs = 3\nparallel = "fsdp"')))
    assert affinet("check", "job.toml").exit_code == 0


@pytest.mark.parametrize("way", ['parallel = "ddp"\nmethod = "reparametrize"', 'parallel = "fsdp"'])
def test_processes_measure_the_stationarity_of_all_rows(affinet: Command, folder: Path, way: str) -> None:
    """Rows are divided between processes, or free numbers know the gradients of their own process alone."""
    alone = way.replace('parallel = "ddp"\n', "").replace('parallel = "fsdp"', "")
    texts = {"run": way, "alone": alone}
    for name, lines in texts.items():
        text = changed(("[5]", '[5]\ndtype = "float64"'), ("epochs = 3", f"epochs = 3\n{lines}"))
        (folder / f"{name}.toml").write_text(text)
    launched = torchrun(folder, "train", "run.toml", "--out", "run")
    assert launched.returncode == 0, launched.stderr
    assert affinet("train", "alone.toml", "--out", "alone").exit_code == 0
    ours, theirs = (pl.read_csv(folder / name / "metrics.csv")["stationarity"].to_numpy() for name in texts)
    assert len(ours) == 3
    # Sums of float64 over 30 rows in another order, through three epochs of Adam.
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
