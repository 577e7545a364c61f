"""Ctrl-C in a process of its own, as a person presses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import affinet
from tests.cli.conftest import changed

# A process started in the background may inherit an ignored SIGINT; one at a terminal has Python's own handler.
RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from affinet.cli.main import app; app()"


@pytest.mark.parametrize("method", ["project", "reparametrize"])
def test_ctrl_c_leaves_the_last_finished_epoch_and_status_130(folder: Path, method: str) -> None:
    (folder / "job.toml").write_text(changed(("epochs = 3", f'epochs = 1_000_000\nmethod = "{method}"')))
    words = [sys.executable, "-c", RUN, "train", "job.toml", "--out", "run"]
    environment = os.environ | {"PYTHONPATH": str(Path(affinet.__file__).resolve().parents[1])}
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)
    try:
        metrics = folder / "run" / "metrics.csv"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if metrics.exists() and metrics.read_text().count("\n") > 3:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    rows = metrics.read_text().splitlines()[1:]
    assert f"Interrupted. run holds the weights and the metrics of epoch {len(rows)}, the last one" in errors
    assert "Traceback" not in errors
    assert [row.split(",")[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert all(len(row.split(",")) == 5 for row in rows)
    assert set(load_file(folder / "run" / "model.safetensors")) == {
        "hidden1.weight", "hidden1.bias", "output.weight", "output.bias"
    }  # fmt: skip
    assert sorted(path.name for path in (folder / "run").iterdir()) == [
        ".begun.json", ".lock", "checkpoint.previous.safetensors", "checkpoint.safetensors", "job.toml", "metrics.csv",
        "model.safetensors", "plan.safetensors", "plan.txt", "scaling.json",
    ]  # fmt: skip
