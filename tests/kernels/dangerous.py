"""What could hang, run in a process of its own that is ended when it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECONDS = 300
ROOT = Path(__file__).parents[2]


def ran(script: str, *arguments: str) -> str:
    """What the script printed. It is run as a file named `__main__`, with two threads of torch."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
