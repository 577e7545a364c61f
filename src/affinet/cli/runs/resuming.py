"""Run `affinet train --resume`: finish a stopped run with the result of an uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.run_summary import RunSummary
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
    complete_scaling,
    last_checkpoint,
    missing_results,
    write_digests,
)
from affinet.cli.runs.running import finish_run, new_start_record, restore_results
from affinet.cli.runs.start_record import StartRecord, job_of_run, read_start_record, write_start_record
from affinet.cli.screen import Screen
from affinet.cli.trainings.preparation import Prepared, prepare
from affinet.cli.trainings.processes import SINGLE, Processes
from affinet.cli.watch_lines import Terminal
from affinet.cli.words import counted, listed, shell_word
from affinet.errors import DataError, JobError, RunError
from affinet.system.malformed import Malformed


def resume(run: Path, new_path: Path | None, screen: Screen, processes: Processes = SINGLE) -> None:
    """Finish the run in the folder `run`: its training under rules, and the comparison without.

    Of several processes the writer calls this, and the others `following.follow` with what it announces. `new_path` is
    the same job where it has moved. The results of a finished run are shown again without training, and missing result
    files are restored. Raises RunError where there is no run, another process writes to it, it belongs to another job,
    other rules or other data, or no checkpoint can be read, and as `running.run`.
    """
    record = read_start_record(run)
    with locked(run):
        job = job_of_run(run, record, new_path)
        summary = read_summary(run)
        if summary is None:
            processes.from_writer(lambda: "finish")
            summary = _finish(run, record, _prepare_again(run, record, job, new_path, processes), screen)
        else:
            screen.say(f"The run in {run} is finished: {counted(job.job.train.epochs, 'epoch')}, and the comparison.")
            missing, changed = missing_results(run), changed_results(run, record.identity.plan)
            processes.from_writer(lambda: _part_of_others(missing, changed))
            if missing or changed:
                screen.say(f"{_damage_clause(run, missing, changed)}: restoring from the job and the checkpoint.")
                prepared = _prepare_again(run, record, job, new_path, processes)
                _restore_files(run, record, prepared, (missing, changed), screen)
                write_digests(run, summary)
        Terminal(screen, summary.score_name).compare(summary)


def _part_of_others(missing: list[str], changed: list[str]) -> str:
    """What processes that do not write a finished run do when these files of it are restored."""
    if {MODEL, METRICS} & {*missing, *changed}:
        return "restore"
    return "prepare" if missing or changed else "nothing"


def _finish(run: Path, record: StartRecord, prepared: Prepared, screen: Screen) -> RunSummary:
    checkpoint, damage = last_checkpoint(run)
    for sentence in (
        damage,
        _rounding_notice(record, new_start_record(prepared)),
        _position_sentence(run, checkpoint, prepared.job.job.train.epochs),
    ):
        if sentence:
            screen.say(sentence)
    if checkpoint is not None:
        _refuse_other_run(run, record, checkpoint)
    score_name, stationarity = prepared.data.score_name, record.stationarity
    folder = complete_beginning(run, prepared.rules, score_name, stationarity=stationarity)
    complete_scaling(run, prepared.data.scaling)
    folder = replace(folder, command=prepared.processes.command)
    with _malformed_errors(run):
        return finish_run(prepared, folder, checkpoint, Terminal(screen, score_name))


def _damage_clause(run: Path, missing: list[str], changed: list[str]) -> str:
    """Which files of a finished run are missing or changed, as the beginning of a sentence."""
    verb = "is" if len(changed) == 1 else "are"
    clauses = [f"{run} lacks {listed(missing)}"] if missing else []
    if changed:
        clauses.append(
            f"{listed(changed)} in {run} {verb} not as the run wrote {'it' if len(changed) == 1 else 'them'}"
        )
    return ", and ".join(clauses)


def _restore_files(
    run: Path, record: StartRecord, prepared: Prepared, files: tuple[list[str], list[str]], screen: Screen
) -> None:
    """Write the plan from the rules, the scaling from the data, and the rest from the last checkpoint."""
    missing, changed = files
    complete_plan(run, prepared.rules)
    complete_scaling(run, prepared.data.scaling)
    if not {MODEL, METRICS} & {*missing, *changed}:
        return
    checkpoint, _ = last_checkpoint(run)
    if checkpoint is None or checkpoint.progress.epochs < prepared.job.job.train.epochs:
        raise RunError(
            f"{_damage_clause(run, missing, changed)}, and the checkpoint of the last epoch, needed to "
            f"repair that, is missing. Put the files or the checkpoint back, or train anew, with another --out."
        )
    _refuse_other_run(run, record, checkpoint)
    with _malformed_errors(run):
        folder = RunFolder(run, prepared.data.score_name, record.stationarity)
        restore_results(prepared, folder, checkpoint, Terminal(screen, folder.score_name))
    if METRICS in changed and METRICS in changed_results(run, record.identity.plan):
        raise RunError(
            f"{run / METRICS} is not as the run wrote it, and the checkpoint can restore only its last row. "
            f"Put the file back, or remove it to resume without the rows of earlier epochs."
        )


def _refuse_other_run(run: Path, record: StartRecord, checkpoint: Checkpoint) -> None:
    if checkpoint.identity != record.identity:
        raise RunError(
            f"the checkpoint in {run} is from a run with another job, other rules or other data. Restore the run's "
            f"checkpoint, or start a new run with --out."
        )


@contextmanager
def _malformed_errors(run: Path) -> Iterator[None]:
    try:
        yield
    except Malformed as error:
        raise RunError(
            f"the checkpoint of {run} is not that of a training: {error}. Train anew, with another --out."
        ) from None


def _prepare_again(
    run: Path, record: StartRecord, job: JobFile, new_path: Path | None, processes: Processes
) -> Prepared:
    """The job with its current files; `new_path`, where it is not None, is recorded for the next resume.

    Raises RunError where the files are not those that the run was started with.
    """
    try:
        prepared = prepare(job, processes)
    except (DataError, JobError) as error:
        raise RunError(
            f"{error} {run} was started from {record.place}. If the job and its files have moved, name the new place: "
            f"affinet train JOB.toml --resume {shell_word(run)}"
        ) from error
    refuse_other(run, record.identity, identity_of(prepared))
    if new_path is not None:
        write_start_record(
            run, record.model_copy(update={"folder": str(new_path.resolve().parent), "name": new_path.name})
        )
    return prepared


def _position_sentence(run: Path, checkpoint: Checkpoint | None, epochs: int) -> str:
    if checkpoint is None:
        return f"No epoch of {run} was finished: starting from the first."
    finished = checkpoint.progress.epochs
    if finished >= epochs:
        return f"The training under rules is finished, all {counted(epochs, 'epoch')} of it; the comparison is missing."
    return f"Resuming after epoch {finished} of {epochs}."


def _rounding_notice(record: StartRecord, current: StartRecord) -> str:
    """A warning where the resumed training may round differently from its start; else an empty text."""
    if _environment(record) == _environment(current):
        return ""
    return (
        f"The run was started with {_environment(record)} and is resumed with {_environment(current)}: the last digits "
        f"of its weights may differ from those of an uninterrupted run."
    )


def _environment(record: StartRecord) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    processes = "" if record.processes == 1 else f" in each of {record.processes} processes"
    return f"{libraries} on {counted(record.threads, 'thread')}{processes}"
