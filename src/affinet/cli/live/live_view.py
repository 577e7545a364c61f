"""Start the process that serves the page of a run, print its address, and end it with the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from affinet.cli.screen import Screen
from affinet.errors import RunError

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from affinet.cli.live.page_process import serve; serve(sys.argv[1], sys.argv[2])"
)
"""The search path of modules is the parent's, without the current folder."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
PATIENCE = 10.0
"""Seconds that the process may take to end: it waits five for browsers, and may be building a page."""


@contextmanager
def live_page(screen: Screen, run: Path, port: int | None) -> Iterator[None]:
    """Serve the page of `run` for the block; do nothing where `port` is None.

    Law: it only reads the files of the run, in a process of its own, so that weights and metrics have the same bits
    with and without it. Raises RunError where the port is taken, which 0 never is.
    """
    if port is None:
        yield
        return
    process = _started(run, port)
    try:
        address = f"http://127.0.0.1:{_port_of(process, port)}/"
        screen.say(f"The live page of this run, until the command ends: {address}")
        screen.say("")
        yield
    finally:
        _end(process)


def _started(run: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _PROGRAM, str(run), str(port), *sys.path]
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # Ctrl-C in the terminal reaches the processes of its group.
    if os.name == "posix":
        options["start_new_session"] = True
    else:
        options["creationflags"] = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    return subprocess.Popen(command, env=os.environ | ONE_THREAD, **options)


def _port_of(process: subprocess.Popen[bytes], port: int) -> int:
    """The port that the process listens at. Raises RunError where it does not."""
    assert process.stdout is not None
    line = process.stdout.readline()
    answer = json.loads(line) if line else {"reason": "the process that serves it ended at its start"}
    if "port" not in answer:
        place = f" at port {port}" if port else ""
        way_out = "Name another one with --port, or leave --port out for any free one."
        raise RunError(f"the live page cannot be served{place}: {answer['reason']}. {way_out}")
    return int(answer["port"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the input of the process, by which it knows that the command ends, and wait for its end."""
    try:
        with suppress(OSError):
            process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
