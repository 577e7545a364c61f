"""`affinet train --resume`: going on with a run that was stopped, so that it ends as if it had not been."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.runs.begun import Begun, job_of_run, read_begun, write_begun
from affinet.cli.runs.checkpoint import Checkpoint
from affinet.cli.runs.finished import read_summary
from affinet.cli.runs.identity import identity_of, refuse_other
from affinet.cli.runs.locking import locked
from affinet.cli.runs.runfolder import (
    METRICS,
    MODEL,
    RunFolder,
    changed_results,
    complete_beginning,
    complete_plan,
    keep_digests,
    last_checkpoint,
    missing_results,
)
from affinet.cli.runs.running import go_on, made_again
from affinet.cli.screen import Screen
from affinet.cli.summary import RunSummary
from affinet.cli.trainings.preparing import Prepared, prepare
from affinet.cli.watching import Terminal
from affinet.cli.words import counted, listed
from affinet.errors import DataError, JobError, RunError
from affinet.system.malformed import Malformed


def resume(run: Path, given: Path | None, screen: Screen) -> None:
    """Finish the run in the folder `run`: its training under rules, and the comparison without.

    `given` is the same job where it lies elsewhere now. A finished run is told again, and nothing is trained; what was
    taken away of its results is made again. Raises RunError where there is no run, another process writes to it, it
    belongs to another job, other rules or other data, or no checkpoint can be read, and as `running.run`.
    """
    begun = read_begun(run)
    with locked(run):
        job = job_of_run(run, begun, given)
        summary = read_summary(run)
        if summary is None:
            summary = _finished(run, begun, _prepared(run, begun, job, given), screen)
        else:
            screen.say(f"The run in {run} is finished: {counted(job.job.train.epochs, 'epoch')}, and the comparison.")
            missing, changed = missing_results(run), changed_results(run, begun.identity.plan)
            if missing or changed:
                screen.say(f"{_wrong(run, missing, changed)}: making that again from the job and the checkpoint.")
                _made_again(run, begun, _prepared(run, begun, job, given), (missing, changed), screen)
                keep_digests(run, summary)
        Terminal(screen, summary.score_name).compare(summary)


def _finished(run: Path, begun: Begun, prepared: Prepared, screen: Screen) -> RunSummary:
    checkpoint, wrong = last_checkpoint(run)
    for sentence in (wrong, _other_bits(begun), _where(run, checkpoint, prepared.job.job.train.epochs)):
        if sentence:
            screen.say(sentence)
    if checkpoint is not None:
        _refuse_another(run, begun, checkpoint)
    folder = complete_beginning(run, prepared.plan, prepared.data.score_name)
    with _training(run):
        return go_on(prepared, folder, checkpoint, Terminal(screen, prepared.data.score_name))


def _wrong(run: Path, missing: list[str], changed: list[str]) -> str:
    """What is wrong with the files of a finished run, as the beginning of a sentence."""
    verb = "is" if len(changed) == 1 else "are"
    facts = [f"{run} lacks {listed(missing)}"] if missing else []
    if changed:
        facts.append(f"{listed(changed)} in {run} {verb} not as the run wrote {'it' if len(changed) == 1 else 'them'}")
    return ", and ".join(facts)


def _made_again(
    run: Path, begun: Begun, prepared: Prepared, wrong: tuple[list[str], list[str]], screen: Screen
) -> None:
    """The plan follows from the rules; weights and metrics are those of the checkpoint of the last epoch."""
    missing, changed = wrong
    complete_plan(run, prepared.plan)
    if not {MODEL, METRICS} & {*missing, *changed}:
        return
    checkpoint, _ = last_checkpoint(run)
    if checkpoint is None or checkpoint.progress.epochs < prepared.job.job.train.epochs:
        raise RunError(
            f"{_wrong(run, missing, changed)}, and the checkpoint of the last epoch to make that from is not there. "
            f"Put one of them back, or train anew, with another --out."
        )
    _refuse_another(run, begun, checkpoint)
    with _training(run):
        score_name = prepared.data.score_name
        made_again(prepared, RunFolder(run, score_name), checkpoint, Terminal(screen, score_name))
    if METRICS in changed and METRICS in changed_results(run, begun.identity.plan):
        raise RunError(
            f"{run / METRICS} is not as the run wrote it, and only its last row can be made again from the checkpoint. "
            f"Put the file back, or remove it to go on without the rows of earlier epochs."
        )


def _refuse_another(run: Path, begun: Begun, checkpoint: Checkpoint) -> None:
    if checkpoint.identity != begun.identity:
        raise RunError(
            f"the checkpoint in {run} is of a run with another job, other rules or other data. Put back its own, or "
            f"begin a new run with --out."
        )


@contextmanager
def _training(run: Path) -> Iterator[None]:
    try:
        yield
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
