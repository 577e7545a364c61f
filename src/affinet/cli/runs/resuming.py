"""`affinet train --resume`: going on with a run that was stopped, so that it ends as if it had not been."""

from __future__ import annotations

from pathlib import Path

import torch

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.runs.begun import Begun, job_of_run, read_begun, write_begun
from affinet.cli.runs.checkpoint import Checkpoint
from affinet.cli.runs.finished import read_summary
from affinet.cli.runs.identity import identity_of, refuse_other
from affinet.cli.runs.locking import locked
from affinet.cli.runs.runfolder import complete_beginning, last_checkpoint
from affinet.cli.runs.running import go_on
from affinet.cli.screen import Screen
from affinet.cli.summary import RunSummary
from affinet.cli.trainings.preparing import Prepared, prepare
from affinet.cli.watching import Terminal
from affinet.cli.words import counted
from affinet.errors import DataError, JobError, RunError
from affinet.language.malformed import Malformed


def resume(run: Path, given: Path | None, screen: Screen) -> None:
    """Finish the run in the folder `run`: its training under rules, and the comparison without.

    `given` is the same job where it lies elsewhere now. A finished run is told again, and nothing is trained. Raises
    RunError where there is no run, another process writes to it, it belongs to another job, other rules or other data,
    or no checkpoint can be read, and as `running.run`.
    """
    begun = read_begun(run)
    with locked(run):
        job = job_of_run(run, begun, given)
        summary = read_summary(run)
        if summary is None:
            summary = _finished(run, begun, _prepared(run, begun, job, given), screen)
        else:
            screen.say(f"The run in {run} is finished: {counted(job.job.train.epochs, 'epoch')}, and the comparison.")
        Terminal(screen, summary.score_name).compare(summary)


def _finished(run: Path, begun: Begun, prepared: Prepared, screen: Screen) -> RunSummary:
    checkpoint, wrong = last_checkpoint(run)
    for sentence in (wrong, _other_bits(begun), _where(run, checkpoint, prepared.job.job.train.epochs)):
        if sentence:
            screen.say(sentence)
    if checkpoint is not None and checkpoint.identity != begun.identity:
        raise RunError(
            f"the checkpoint in {run} is of a run with another job, other rules or other data. Put back its own, or "
            f"begin a new run with --out."
        )
    folder = complete_beginning(run, prepared.plan)
    try:
        return go_on(prepared, folder, checkpoint, Terminal(screen, prepared.data.score_name))
    except Malformed as error:
        raise RunError(f"the checkpoint of {run} holds no training: {error}. Train anew, with another --out.") from None


def _prepared(run: Path, begun: Begun, job: JobFile, given: Path | None) -> Prepared:
    """The job with its files as they are now; where it was `given`, that is kept for the next time.

    Raises RunError where the files are not those that the run was begun with.
    """
    try:
        prepared = prepare(job)
    except (DataError, JobError) as error:
        raise RunError(
            f"{error} {run} was begun with {begun.place}. Where the job and its files are elsewhere now, say so: "
            f"affinet train JOB.toml --resume {run}"
        ) from error
    refuse_other(run, begun.identity, identity_of(prepared))
    if given is not None:
        write_begun(run, begun.model_copy(update={"folder": str(given.resolve().parent), "name": given.name}))
    return prepared


def _where(run: Path, checkpoint: Checkpoint | None, epochs: int) -> str:
    if checkpoint is None:
        return f"No epoch of {run} was finished: beginning from the first."
    done = checkpoint.progress.epochs
    if done >= epochs:
        return f"The training under rules is finished, all {counted(epochs, 'epoch')} of it; the comparison is missing."
    return f"Going on after epoch {done} of {epochs}."


def _other_bits(begun: Begun) -> str:
    """A sentence where the same training may round otherwise than where it began."""
    was, now = (begun.torch, begun.threads), (torch.__version__, torch.get_num_threads())
    if was == now:
        return ""
    return (
        f"The run was begun with torch {was[0]} on {counted(was[1], 'thread')} and goes on with torch {now[0]} on "
        f"{counted(now[1], 'thread')}: the last digits of its weights may differ from those of a run in one go."
    )
