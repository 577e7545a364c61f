"""A few of the kills that `make kills` does a thousand of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import affinet

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked from a process that has imported everything")
@pytest.mark.parametrize(("kills", "processes"), [(20, 1), (3, 2)], ids=["one process", "two processes"])
def test_killed_runs_end_with_the_bits_of_a_run_in_one_go(kills: int, processes: int) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(affinet.__file__).resolve().parents[1])}
    words = [sys.executable, str(ROOT / "tools" / "kill_runs.py"), "--kills", str(kills), "--seed", "1"]
    words += ["--processes", str(processes)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{kills} kills: "), done.stdout
    assert "all of them bit-identical to the run in one go" in done.stdout
