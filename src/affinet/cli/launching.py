"""Find the processes that train a job: one alone, or those that `torchrun` started; refuse a job for others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.screen import Screen
from affinet.cli.trainings.launch import launch_of
from affinet.cli.trainings.processes import SINGLE, WRITER, AlreadyReported, Processes
from affinet.cli.words import shell_word
from affinet.errors import AffinetError, RunError


@contextmanager
def processes_for(job: JobFile, arguments: str = "", resumed: int | None = None) -> Iterator[Processes]:
    """The processes that train `job`, joined for the block.

    `arguments` stood behind `affinet train`, and a run that is resumed has had `resumed` processes so far.
    Raises JobError where a job for several processes was started by itself, or a job for one several times: processes
    that know nothing of each other would all write to one folder. Raises as `process_group.joined`.
    """
    launch, parallel = launch_of(), job.job.train.parallel
    arguments = arguments or shell_word(job.path.name)
    with report_once():
        if parallel is None and launch is not None and launch.world > 1:
            fact = f"torchrun started {launch.world} processes, and each of them would train this job by itself"
            if resumed is not None:
                raise job.mistake(("train",), f"{fact}. Resume it without torchrun: affinet train {arguments}")
            way_out = f'Say parallel = "ddp" in [train], or start it without torchrun: affinet train {arguments}'
            raise job.mistake(("train",), f"{fact}. {way_out}")
        if parallel is not None and launch is None:
            fact = f'parallel = "{parallel}" trains in processes that torchrun starts, and it did not start this one'
            start = f"torchrun --nproc-per-node {resumed or 2} -m affinet train {arguments}"
            if resumed is not None:
                raise job.mistake(("train", "parallel"), f"{fact}. Resume the run with: {start}")
            raise job.mistake(("train", "parallel"), f"{fact}. Start it with: {start} (or remove 'parallel').")
    if parallel is None or launch is None:
        yield SINGLE
        return
    from affinet.cli.trainings.torch.process_group import joined

    with joined(launch, job) as processes:
        yield processes


@contextmanager
def report_once() -> Iterator[None]:
    """Raise AlreadyReported for errors inside the block, but in the first process of a machine: all meet the same."""
    try:
        yield
    except AffinetError:
        launch = launch_of()
        if launch is not None and launch.local_rank > 0:
            raise AlreadyReported from None
        raise


def screen_of_process() -> Screen:
    """The screen of this process: of several, one shows a run, and the others show their own errors alone."""
    try:
        launch = launch_of()
    except RunError:
        return Screen()
    return Screen() if launch is None or launch.rank == WRITER else Screen.of_errors()
