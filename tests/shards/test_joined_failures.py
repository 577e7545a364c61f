"""A process that fails or hangs ends the others, and one message says why."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from tests.shards.joined_failures import MEETINGS

ROOT = Path(__file__).parents[2]
SECONDS = 300
"""After which processes that have not ended hang."""

ERRORS = {
    "all_fail": ("DataError: both fail", "AlreadyReported: "),
    "one_fails": (
        "LostProcess: process 0 of 2 stopped, since process 1 failed: process 1 alone fails",
        "DataError: process 1 alone fails",
    ),
    "writer_fails": (
        "DataError: process 0 alone fails",
        "LostProcess: process 1 of 2 stopped, since process 0 failed: process 0 alone fails",
    ),
    "none_fails": ("none", "none"),
    "one_hangs": (
        r"LostProcess: process 0 of 2 stopped, since another one ended .* or did not answer for 0.1 minutes \(.*\)\.",
        "LostProcess: process 1 of 2 stopped, since ",
    ),
}


def test_one_message_says_why_processes_end() -> None:
    ports = []
    with_sockets = [socket.socket() for _ in MEETINGS]
    for place in with_sockets:
        place.bind(("127.0.0.1", 0))
        ports.append(str(place.getsockname()[1]))
    for place in with_sockets:
        place.close()
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "shards" / "joined_failures.py"), *ports],
            env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    for rank, output in enumerate(outputs):
        outcomes = dict(json.loads(line) for line in output.splitlines())
        assert outcomes.keys() == ERRORS.keys()
        for name, error in outcomes.items():
            assert re.match(ERRORS[name][rank], error), f"process {rank}, {name}: {error}"
