"""Write and read the folder of a run: at every moment it holds a finished epoch that the run can be resumed from."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from types import FrameType
from typing import Any

from safetensors import SafetensorError

from affinet.cli.run_summary import RunSummary
from affinet.cli.runs.checkpoint import Checkpoint, Damaged, read_checkpoint, write_checkpoint
from affinet.cli.runs.durable import flush, flush_folder, put_in_place, unfinished, write_neighbour, write_text
from affinet.cli.runs.finished import SUMMARY, digest_of_file, read_digests, write_summary
from affinet.cli.runs.start_record import JOB, START_RECORD, StartRecord, write_start_record
from affinet.cli.runs.weight_samples import SAMPLES, Samples, write_samples
from affinet.cli.trainings.array_files import save_arrays
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.cli.trainings.row_scaling import Scaling
from affinet.cli.trainings.training import Epoch
from affinet.cli.words import one_paragraph, shell_word
from affinet.errors import PlanFileError, RunError
from affinet.system.stored.digest import digest_of_rules
from affinet.system.stored.planfile import read_system, write_system

MODEL, METRICS = "model.safetensors", "metrics.csv"
PLAN, PLAN_TEXT, SCALING = "plan.safetensors", "plan.txt", "scaling.json"
CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
NAMES = (MODEL, METRICS, JOB, PLAN, PLAN_TEXT, SCALING, CHECKPOINT, PREVIOUS, SUMMARY, SAMPLES)
RESULTS = (MODEL, METRICS, PLAN, PLAN_TEXT, SCALING)
SCORES = {"accuracy": "accuracy", "R²": "R2"}
"""Score → its column in metrics.csv, in ASCII letters."""
STATIONARITY = "stationarity"
"""The last column of metrics.csv; runs that an earlier version began do not have it."""


@dataclass(frozen=True)
class RunFolder:
    """A run that is written to; `save` is called once per epoch. `score_name` is "accuracy" or "R²".

    With `stationarity` the metrics have its column; runs that an earlier version began do not. `command` is what calls
    affinet, in one process or in several.
    """

    path: Path
    score_name: str
    stationarity: bool
    command: str = "affinet"

    def save(self, checkpoint: Checkpoint, state: Mapping[str, Any]) -> None:
        """Replace the last epoch by a finished one: its checkpoint, its weights, its row of metrics; Ctrl-C waits.

        The checkpoint decides: until it is in place, everything that a resumed run reads is of the epoch before, and
        afterwards only renamings remain. Arrays of `state` that share memory are stored separately, so that each name
        can be loaded. Raises RunError where the disk refuses; the folder then holds the epoch before.
        """
        epoch = checkpoint.progress.last
        assert epoch is not None, "only a finished epoch is saved"
        with _postponed_interrupts(), self._disk_errors():
            with write_neighbour(self.path / MODEL) as neighbour:
                _save_weights(state, neighbour, epoch)
            with self._appended(row(epoch, stationarity=self.stationarity)):
                write_checkpoint(self.path / CHECKPOINT, checkpoint, previous=self.path / PREVIOUS)
            put_in_place(self.path / MODEL)
            flush_folder(self.path)

    def restore(self, epoch: Epoch, state: Mapping[str, Any]) -> int:
        """Reset weights and metrics to the epoch of a checkpoint; return how many earlier rows of metrics are lost.

        Rows of later epochs and an incomplete row are removed, since these epochs will be trained again.
        """
        with _postponed_interrupts(), self._disk_errors():
            with write_neighbour(self.path / MODEL) as neighbour:
                _save_weights(state, neighbour, epoch)
            rows = {number: line for number, line in self._rows() if number < epoch.number}
            first = header(self.score_name, stationarity=self.stationarity)
            last = row(epoch, stationarity=self.stationarity)
            write_text(self.path / METRICS, first + "".join(rows[number] for number in sorted(rows)) + last)
            put_in_place(self.path / MODEL)
            flush_folder(self.path)
        return epoch.number - 1 - len(rows)

    def finish(self, summary: RunSummary, samples: Samples) -> None:
        """Write the results of the run, and remove the previous checkpoint. Raises RunError where the disk refuses."""
        with self._disk_errors():
            flush(self.path / METRICS)
            write_samples(self.path, samples)
            write_summary(self.path, summary, _digests(self.path))
            (self.path / PREVIOUS).unlink(missing_ok=True)

    def contents(self) -> str:
        """The content of the folder, in one sentence."""
        epochs = max((number for number, _ in self._rows()), default=0)
        if epochs == 0:
            return f"No epoch was finished, so {self.path} holds the job and the plan, and no weights."
        return f"{self.path} holds the weights and the metrics of epoch {epochs}, the last one that was finished."

    def resume_hint(self) -> str:
        """The command that resumes the run, in one sentence."""
        return f"To resume: {self.command} train --resume {shell_word(self.path)}"

    def _rows(self) -> Iterator[tuple[int, str]]:
        """Epoch and line of every complete row of the metrics."""
        path = self.path / METRICS
        text = path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else ""
        for line in text.splitlines(keepends=True):
            cells = line.rstrip("\n").split(",")
            measured = [*cells[1:4], *(cell for cell in cells[4:] if cell)]  # stationarity is empty where it was not
            with suppress(ValueError):
                number, _ = int(cells[0]), [float(cell) for cell in measured]
                if len(cells) == 4 + self.stationarity and line.endswith("\n"):
                    yield number, line

    @contextmanager
    def _appended(self, line: str) -> Iterator[None]:
        """Append `line` to the metrics for the block, and remove it again where the block raises."""
        with (self.path / METRICS).open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            try:
                file.write(line.encode())
                file.flush()
                yield
            except BaseException:
                with suppress(OSError):
                    os.truncate(self.path / METRICS, size)
                raise

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                unfinished(self.path / MODEL).unlink(missing_ok=True)
            raise RunError(
                f"{self.path} cannot be written to: {one_paragraph(error)}. Make room for about two more copies of its "
                f"checkpoint, and resume with affinet train --resume {shell_word(self.path)}."
            ) from error


def holds_run(path: Path) -> bool:
    """Whether a run was ever started in `path`."""
    return any((path / name).exists() for name in NAMES)


def free_folder(folder: Path) -> Path:
    """A folder, or the first with -2, -3, … at the end of its name that holds no run."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    candidates = chain([folder], numbered)
    return next(each for each in candidates if not holds_run(each) and (each.is_dir() or not each.exists()))


def refuse_used(path: Path) -> None:
    """Raise RunError where `path` is a file or already holds a run, which must not be overwritten."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file, not a folder; name another place with --out.")
    if holds_run(path):
        raise RunError(
            f"{path} already holds a run, which would be overwritten; name another folder with --out, or resume "
            f"that run: affinet train --resume {shell_word(path)}"
        )


def make_folder(path: Path) -> None:
    """Make the folder of a run. Raises RunError where the disk refuses."""
    with _write_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def begin_run(path: Path, record: StartRecord, job: str, rules: PlannedRules, score_name: str) -> RunFolder:
    """Put the job and its plan (also as text) into an existing folder, and no epoch yet.

    The run can be resumed from the moment that the job is written. Raises RunError as `refuse_used`.
    """
    refuse_used(path)
    with _write_errors(path):
        write_start_record(path, record)
        write_text(path / JOB, job)
    return complete_beginning(path, rules, score_name, stationarity=record.stationarity)


def complete_beginning(path: Path, rules: PlannedRules, score_name: str, *, stationarity: bool) -> RunFolder:
    """Write the missing files of the start of a run, and remove files that were unfinished when its process ended.

    Raises RunError where the disk refuses.
    """
    with _write_errors(path):
        for name in (*NAMES, START_RECORD):
            unfinished(path / name).unlink(missing_ok=True)
        for unfinished_plan in path.glob(f".{PLAN}.*.unfinished"):
            unfinished_plan.unlink(missing_ok=True)
    complete_plan(path, rules)
    with _write_errors(path):
        if not (path / CHECKPOINT).exists() and not (path / PREVIOUS).exists():
            # The metrics may hold a row whose checkpoint was never finished.
            write_text(path / METRICS, header(score_name, stationarity=stationarity))
    return RunFolder(path, score_name, stationarity)


def complete_plan(path: Path, rules: PlannedRules) -> None:
    """Write the files of the plan that are missing, cannot be read, or hold another plan.

    The file has all rules, those without a plan too, so that all can be verified.

    Raises RunError where the disk refuses.
    """
    text = str(rules).rstrip("\n") + "\n"
    with _write_errors(path):
        if not _has_content(path / PLAN_TEXT, text):
            write_text(path / PLAN_TEXT, text)
        if not holds_plan(path / PLAN, digest_of_rules(rules.system)):
            write_system(rules.system, path / PLAN)


def complete_scaling(path: Path, scaling: Scaling) -> None:
    """Write the file of the scaling where it is missing or differs. Raises RunError where the disk refuses."""
    with _write_errors(path):
        if not _has_content(path / SCALING, scaling.text()):
            write_text(path / SCALING, scaling.text())


def holds_plan(path: Path, digest: str) -> bool:
    """Whether a plan can be read from `path`, and its rules are those of the digest."""
    try:
        return digest_of_rules(read_system(path)) == digest
    except PlanFileError:
        return False


def missing_results(path: Path) -> list[str]:
    """The names of result files of a finished run that do not exist any more; earlier versions wrote no scaling."""
    written = [name for name in RESULTS if name != SCALING or SCALING in read_digests(path)]
    return [name for name in written if not (path / name).exists()]


def changed_results(path: Path, plan: str) -> list[str]:
    """The names of result files that were changed after the run wrote them; `plan` is the digest of its rules.

    A run of an earlier version has no digests of its files: only its plan can be checked.
    """
    digests = read_digests(path)
    changed = {name for name in digests if name in RESULTS and digest_of_file(path / name) != digests[name]}
    if not holds_plan(path / PLAN, plan):
        changed.add(PLAN)
    return [name for name in RESULTS if name in changed and (path / name).exists()]


def write_digests(path: Path, summary: RunSummary) -> None:
    """Record the current files of a finished run. Raises RunError where the disk refuses."""
    with _write_errors(path):
        write_summary(path, summary, _digests(path))


def _digests(path: Path) -> dict[str, str]:
    """The digests of the result files."""
    return {name: digest_of_file(path / name) for name in RESULTS}


def _has_content(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def last_checkpoint(path: Path) -> tuple[Checkpoint | None, str]:
    """The newest readable checkpoint of a run, None where no epoch was finished; and a sentence about damage, or "".

    A damaged newest checkpoint is replaced by the one before. Raises RunError where both cannot be read, and where
    there are weights without a checkpoint.
    """
    reasons = []
    for name in (CHECKPOINT, PREVIOUS):
        if not (path / name).exists():
            continue
        try:
            checkpoint = read_checkpoint(path / name)
        except Damaged as error:
            reasons.append(str(error))
            continue
        if name == PREVIOUS:
            with _write_errors(path):
                (path / PREVIOUS).replace(path / CHECKPOINT)
        if reasons:
            last = checkpoint.progress.last
            reasons.append(f"Resuming from the checkpoint before, of epoch {last.number if last else 0}.")
        return checkpoint, " ".join(reasons)
    if reasons or (path / MODEL).exists():
        fact = " ".join(reasons) or f"{path} holds weights but no checkpoint."
        raise RunError(f"{fact} The run cannot be resumed: train anew, and name another folder with --out.")
    return None, ""


def header(score_name: str, *, stationarity: bool = True) -> str:
    """The first line of metrics.csv. An older affinet wrote `score`; resuming its run rewrites the line."""
    return f"epoch,loss,{SCORES[score_name]},largest_violation{f',{STATIONARITY}' if stationarity else ''}\n"


def row(epoch: Epoch, *, stationarity: bool = True) -> str:
    """The line of an epoch in metrics.csv; the last cell is empty where stationarity was not measured."""
    last = "" if epoch.stationarity is None else repr(epoch.stationarity)
    return f"{epoch.number},{epoch.loss!r},{epoch.score!r},{epoch.violation!r}{f',{last}' if stationarity else ''}\n"


def _save_weights(state: Mapping[str, Any], path: Path, epoch: Epoch) -> None:
    save_arrays(state, path, {"epoch": str(epoch.number)})


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, PlanFileError) as error:
        raise RunError(
            f"{path} cannot be written to: {one_paragraph(error)}. Name another folder with --out."
        ) from error


@contextmanager
def _postponed_interrupts() -> Iterator[None]:
    """Postpone Ctrl-C to the end of the block; signals reach only the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals: list[int] = []

    def postpone(number: int, frame: FrameType | None) -> None:
        del frame
        signals.append(number)

    handler = signal.signal(signal.SIGINT, postpone)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if signals:
        signal.raise_signal(signal.SIGINT)
