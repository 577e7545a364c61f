"""Run a module in a process with one backend of Keras, and read what it prints: torch and TensorFlow crash in one.

TENSORFLOW_PYTHON names the Python of an environment with TensorFlow, Keras and no torch: `make integrations` makes it,
and then nothing is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[2]
BACKENDS = ("tensorflow", "jax", "torch")


@cache
def printed(module: str, backend: str, *arguments: str) -> Any:
    """What `python -m tests.integrations.MODULE` prints in its last line, as JSON."""
    python = python_of(backend)
    run = _run([python, "-m", f"tests.integrations.{module}", *arguments], backend)
    assert not run.returncode, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@cache
def python_of(backend: str) -> str:
    """The Python of a backend; a test that asks for it is skipped where there is none."""
    python = os.environ.get("TENSORFLOW_PYTHON", sys.executable) if backend == "tensorflow" else sys.executable
    needed = _run([python, "-c", "import keras"], backend)
    if needed.returncode and "TENSORFLOW_PYTHON" not in os.environ:
        pytest.skip(f"Keras or {backend} is not installed: `make integrations` brings them")
    assert not needed.returncode, needed.stderr
    return python


def _run(command: list[str], backend: str) -> subprocess.CompletedProcess[str]:
    settings = {
        **os.environ,
        "PYTHONPATH": f"{HERE / 'src'}{os.pathsep}{HERE}",
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE, env=settings)
