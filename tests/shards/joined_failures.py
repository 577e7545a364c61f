"""A process of two that meets what ends one of them, again and again; prints the error of each meeting."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from affinet.cli.jobs.jobfile import parse_job
from affinet.cli.trainings.launch import launch_of
from affinet.cli.trainings.processes import Processes
from affinet.cli.trainings.torch.process_group import joined
from affinet.errors import DataError

JOB = '[data]\nsource = "sklearn:iris"\n[model]\nhidden = [5]\n[train]\nparallel = "ddp"\n'
PATIENCE = timedelta(seconds=6)
"""How long processes wait for one that hangs. They have met before, so that none waits for imports of the other."""


def all_fail(_processes: Processes) -> None:
    raise DataError("both fail")


def one_fails(processes: Processes) -> None:
    if not processes.writes:
        raise DataError("process 1 alone fails")
    processes.all_true(True)


def writer_fails(processes: Processes) -> None:
    if processes.writes:
        raise DataError("process 0 alone fails")
    processes.all_true(True)


def none_fails(processes: Processes) -> None:
    assert processes.all_true(True)
    assert processes.from_writer(lambda: "said") == "said"


def one_hangs(processes: Processes) -> None:
    if processes.writes:
        processes.all_true(True)
    time.sleep(2 * PATIENCE.total_seconds())


MEETINGS: list[Callable[[Processes], None]] = [all_fail, one_fails, writer_fails, none_fails, one_hangs]


def main(ports: list[str]) -> None:
    launch, job = launch_of(), parse_job(Path("job.toml"), JOB)
    assert launch is not None
    for meeting, port in zip(MEETINGS, ports, strict=True):
        os.environ["MASTER_PORT"] = port
        try:
            with joined(launch, job, PATIENCE if meeting is one_hangs else timedelta(minutes=5)) as processes:
                meeting(processes)
            error = "none"
        except Exception as failure:  # noqa: BLE001  (its name is what the test looks at)
            error = f"{type(failure).__name__}: {failure}"
        sys.stdout.write(json.dumps([meeting.__name__, error]) + "\n")
        if meeting is not one_hangs and dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
    # The group of the process that hung was not ended, and its threads may want the interpreter while that ends.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
