"""Join the processes that `torchrun` started into one group, and end all of them where one fails."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.launch import Launch
from affinet.cli.trainings.processes import WRITER, AlreadyReported, LostProcess
from affinet.cli.trainings.torch.joined_processes import JoinedProcesses
from affinet.cli.trainings.torch.process_failures import Failures
from affinet.cli.words import one_paragraph
from affinet.errors import RunError

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others, at the start and in every exchange: longer than the writer takes to save a
checkpoint."""

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


@contextmanager
def joined(launch: Launch, job: JobFile, patience: timedelta = PATIENCE) -> Iterator[JoinedProcesses]:
    """Join the processes of a launch for the block.

    An error inside the block is written for the other processes, which then end with LostProcess. Raises
    AlreadyReported where process 0 fails alike, and RunError where the processes do not find each other.
    """
    device = _device_of(launch)
    store = _join(launch, device, patience)
    failures = Failures(_part_of(store, "affinet"), launch.rank)
    minutes = patience.total_seconds() / 60
    parallel, from_factory = job.job.train.parallel, job.job.model.factory is not None
    assert parallel is not None, "only a job for several processes joins them"
    processes = JoinedProcesses(
        launch.rank, launch.world, launch.command, parallel, from_factory, device, failures, minutes
    )
    handler = signal.signal(signal.SIGTERM, _stopped(processes))
    try:
        with processes.guarded():
            yield processes
            dist.barrier()
    except LostProcess:
        raise
    except Exception as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        failures.report(one_paragraph(error))
        if launch.rank != WRITER and failures.writer_failed():
            raise AlreadyReported from error
        raise
    else:
        signal.signal(signal.SIGTERM, handler)
        dist.destroy_process_group()


def _join(launch: Launch, device: torch.device, patience: timedelta) -> Any:
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=patience))  # type: ignore[attr-defined]
        dist.init_process_group(
            BACKENDS[device.type],
            store=_part_of(store, "default group"),
            rank=rank,
            world_size=world,
            timeout=patience,
            device_id=device if device.type == "cuda" else None,
        )
    except (ValueError, RuntimeError) as error:
        raise RunError(
            f"process {launch.rank} of {launch.world} does not reach the others: {one_paragraph(error):.300}. Start "
            f"all of them with torchrun, on machines that reach each other."
        ) from error
    return store


def _part_of(store: Any, name: str) -> Any:
    """The keys of a store that begin with a name."""
    return dist.PrefixStore(name, store)  # type: ignore[attr-defined]


def _device_of(launch: Launch) -> torch.device:
    """The graphics card of this process where every process of the machine has one; else the processor."""
    if torch.cuda.is_available() and launch.local_world <= torch.cuda.device_count():
        torch.cuda.set_device(launch.local_rank)
        return torch.device("cuda", launch.local_rank)
    return torch.device("cpu")


def _stopped(processes: JoinedProcesses) -> Callable[[int, FrameType | None], None]:
    """What a process does when it is told to end, as torchrun tells all processes when one has failed."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise processes.lost("since it was told to (SIGTERM), as torchrun tells all where one has ended")

    return stop
