"""Jobs in several processes: `torchrun -m affinet train`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from affinet.cli.launching import processes_for
from affinet.cli.runs.running import run
from affinet.cli.trainings.launch import launch_of
from affinet.cli.trainings.preparation import prepare
from affinet.cli.trainings.processes import AlreadyReported, LostProcess
from affinet.cli.trainings.snapshot import Packed
from affinet.cli.trainings.torch import joined_processes
from affinet.cli.trainings.torch.checkpoint_packing import unpack
from affinet.cli.trainings.torch.joined_processes import JoinedProcesses
from affinet.cli.trainings.torch.process_failures import Failures
from affinet.cli.trainings.torch.process_group import _stopped
from affinet.cli.trainings.torch.torch_framework import _refuse_means_over_rows
from affinet.cli.trainings.training import Epoch
from affinet.errors import JobError, RunError
from affinet.system.malformed import Malformed
from tests.errors.case import case
from tests.errors.job_files import job

TOGETHER = ("epochs = 3", 'epochs = 3\nparallel = "ddp"')
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """The variables of `torchrun`, and no others of its."""
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def joined(folder: Path, *changes: tuple[str, str], **variables: str) -> None:
    with environment(**variables), processes_for(job(folder, *changes)):
        pass


@case(JobError, "A job for several processes, started as one.", "Start it with torchrun.")
def a_job_for_several_processes_in_one(folder: Path) -> None:
    joined(folder, TOGETHER)


@case(JobError, "torchrun starts a job for one process several times.", "Say `parallel`, or leave torchrun out.")
def a_job_for_one_process_in_several(folder: Path) -> None:
    joined(folder, RANK="0", WORLD_SIZE="2")


@case(JobError, "A run of several processes is resumed by one.", "Resume with torchrun.", fragment="-node 4 -m")
def a_run_of_several_processes_resumed_in_one(folder: Path) -> None:
    with environment(), processes_for(job(folder, TOGETHER), "--resume run", 4):
        pass


@case(JobError, "torchrun resumes a run of one process.", "Resume it without torchrun.", fragment="Resume it without")
def a_run_of_one_process_resumed_in_several(folder: Path) -> None:
    with environment(RANK="0", WORLD_SIZE="2"), processes_for(job(folder), "--resume run", 1):
        pass


@case(AlreadyReported, "The same in another process of the machine, which prints nothing.", "The first one prints it.")
def a_mistake_that_another_process_reports(folder: Path) -> None:
    joined(folder, RANK="1", WORLD_SIZE="2")


@case(RunError, "Variables that torchrun would not set.", "Start the job with torchrun.")
def a_launch_that_is_none() -> None:
    launch_of({"RANK": "2", "WORLD_SIZE": "2"})


@case(
    RunError,
    "The variables say nothing of a machine to meet at.",
    "Start the job with torchrun.",
    foreign="(?<=others: ).*(?= Start all)",
)
def processes_that_do_not_meet(folder: Path) -> None:
    joined(folder, TOGETHER, RANK="0", WORLD_SIZE="2")


@case(JobError, "BatchNorm, which each process computes from its own rows.", "Take LayerNorm.")
def means_over_the_rows_of_a_process(folder: Path) -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    _refuse_means_over_rows(job(folder, TOGETHER, ("hidden = [5]", 'factory = "network:make"')), network)


def of_two(**more: Any) -> JoinedProcesses:
    return JoinedProcesses(0, 2, "torchrun", "ddp", False, torch.device("cpu"), Failures(None, 0), 10, **more)


@case(LostProcess, "Another process was killed.", "Look for its end in the system's log; resume.")
def a_process_that_is_gone() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joined_processes.signal, "signal", lambda *_: None)
        with of_two().guarded():
            raise RuntimeError("[gloo/pair.cc:561] Connection closed by peer. This is typically caused by a crash.")


@case(LostProcess, "torchrun ends all processes when one has ended.", "Resume.")
def a_process_that_is_told_to_end() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joined_processes.signal, "signal", lambda *_: None)
        _stopped(of_two())(signal.SIGTERM, None)


@case(
    RunError,
    "An older torch, which cannot split weights.",
    "Update torch, or say ddp.",
    foreign="(?<=this is ).*(?= Say)",
)
def weights_that_this_torch_cannot_split() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("torch.distributed.fsdp.fully_shard")
        joined_processes._shard(torch.nn.Linear(2, 2), torch.device("cpu"), 2)


class Losing:
    """Watches a run, and loses another process in the training with this title."""

    def __init__(self, title: str) -> None:
        self.title = title

    def say(self, sentence: str) -> None: ...

    @contextmanager
    def training(self, title: str, epochs: int, steps: int, steps_done: int) -> Iterator[Any]:
        def see(event: object) -> None:
            if title == self.title and isinstance(event, Epoch):
                raise LostProcess("process 0 of 2 stopped, since another one ended.")

        yield see


@case(LostProcess, "Another process ends while training under the rules.", "Resume.", fragment="To resume")
def a_process_lost_in_training(folder: Path) -> None:
    run(prepare(job(folder)), folder / "run", Losing("with rules"))


@case(LostProcess, "Another process ends while training without rules.", "Resume.", fragment="for comparison")
def a_process_lost_in_the_comparison(folder: Path) -> None:
    run(prepare(job(folder)), folder / "run", Losing("without rules"))


@case(Malformed, "A checkpoint that was written otherwise than affinet writes it.", "Train anew.")
def a_split_tensor_without_a_parameter() -> None:
    content = {"state": {"0": {"m": {"tensor": 0, "split": True}}}, "settings": []}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))])
    unpack(Packed(content, [torch.zeros(3)]), optimizer)
