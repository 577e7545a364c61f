"""Run `affinet init`: write a first job for a table, and the schema of jobs for editors; overwrite nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affinet.cli.editor_schema import schema_text
from affinet.cli.files.table_files import survey
from affinet.cli.initial_text import HIDDEN, SCHEMA, job_text
from affinet.cli.jobs.conflicts import conflicts
from affinet.cli.jobs.job import READY_MADE, DataTable, Job, ModelTable, TrainTable
from affinet.cli.trainings.data import Lesson, Task, read_lesson
from affinet.cli.words import alike_texts, counted, did_you_mean, listed
from affinet.errors import DataError, JobError
from affinet.system.files import MISSING, unreadable

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class InitialJob:
    """A job that was written to `path`, a phrase about its data, and sentences about what was chosen for the user."""

    path: Path
    described: str
    choices: tuple[str, ...]


def write_initial_job(source: str, target: str | None, out: Path | None, *, task: Task | None = None) -> InitialJob:
    """Write a job that predicts the column `target` of `source` to `out`, or to `job.toml` beside the table.

    The last column is the target where `target` is None, and the target decides the task where `task` is None. Columns
    that cannot be features are listed as ignored. All rows are read: only they show the classes and the gaps. Raises
    DataError and JobError as a training of these data would, and JobError where `out` exists or cannot be written.
    """
    ready_made = source.startswith(READY_MADE)
    path = out or (Path() if ready_made else Path(source).parent) / "job.toml"
    _refuse_place(path)
    choices: tuple[str, ...] = ()
    if ready_made:
        made = _ready_made_table(source, target)
    else:
        made, choices = _table_of_file(Path(source), target, path.parent)
    table = made.model_copy(update={"task": task})
    _refuse_conflicts(table)
    lesson = _lesson(table, path.parent, named=ready_made or target is not None)
    _write(path, job_text(path.name, table, lesson))
    if not os.path.lexists(path.with_name(SCHEMA)):
        _write(path.with_name(SCHEMA), schema_text())
    features = counted(lesson.inputs, "feature")
    choices = (*choices, *_encoded(lesson), *lesson.notices)
    return InitialJob(path, f"{counted(len(lesson.targets), 'row')}, {features}; {lesson.decided}", choices)


def _encoded(lesson: Lesson) -> list[str]:
    """A sentence for each column of text."""
    sentences = []
    for column in lesson.encoding.categories:
        names = lesson.encoding.names_of(column)
        shown = listed([f"{name!r:.80}" for name in names], 6)
        features = "1 feature" if len(names) == 1 else f"{len(names)} features"
        sentence = f"Column {column!r} is text, which becomes {features} of zeros and ones: {shown}."
        if alike := alike_texts(lesson.encoding.categories[column]):
            sentence += f" Among them are {alike}."
        sentences.append(sentence)
    return sentences


def _lesson(table: DataTable, folder: Path, *, named: bool) -> Lesson:
    """What the table teaches. Raises DataError as `read_lesson`, with the way out where the user named no target."""
    try:
        return read_lesson(table, folder, TrainTable().seed)
    except DataError as error:
        if named:
            raise
        raise DataError(f"{error} {table.target!r} was taken as the last column; name another with --target.") from None


def _refuse_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise JobError(f"there is no folder {path.parent} to write {path.name} to. Make it, or name another place.")
    if path.is_dir():
        raise JobError(f"{path} is a folder; name a file in it: --out {path / 'job.toml'}")
    if os.path.lexists(path):
        raise JobError(f"{path} already exists and would be overwritten; name another file with --out.")


def _ready_made_table(source: str, target: str | None) -> DataTable:
    if target is not None:
        raise JobError(f"{source} brings its own target; leave out --target.")
    return DataTable.model_construct(source=source)  # `_refuse_conflicts` knows all that there are


def _refuse_conflicts(table: DataTable) -> None:
    """Raise JobError for a data set that is not built in, and for a task where the data set has its own."""
    for mistake in conflicts(Job(data=table, model=ModelTable(hidden=HIDDEN))):
        raise JobError(mistake.fact)


def _table_of_file(path: Path, target: str | None, folder: Path) -> tuple[DataTable, tuple[str, ...]]:
    """The table [data] of a job in `folder`, and sentences about the columns that the user did not choose.

    Raises DataError where there is no file, and where no column can be a feature.
    """
    if path.suffix.lower() in SUFFIXES and unreadable(path) == MISSING:
        tables = [each.name for suffix in SUFFIXES for each in path.parent.glob(f"*{suffix}")]
        raise DataError(f"there is no data file {path}.{did_you_mean(path.name, tables)}")
    relative = _relative(path, folder)
    for name in (relative, target or ""):
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(f"{name!r} is not UTF-8, and a job file is. Rename the file, folder or column.") from None
    table = survey(path, target)
    unusable = table.unusable
    if unusable and len(unusable) == len(table.columns) - 1:
        reasons = " ".join(f"{name!r}: {reason}" for name, reason in unusable.items())
        raise DataError(f"no column of {path} can be a feature. {reasons}")
    choices = [f"Column {name!r} is left out: {reason}" for name, reason in unusable.items()]
    advice = "If it means nothing else, list it in 'ignore' of [data]."
    choices += [f"Column {name!r} counts the rows. {advice}" for name in table.counting]
    if target is None:
        advice = _other_targets(path, [name for name in table.columns if name not in ("", table.target)])
        choices.insert(0, f"The target is the last column, {table.target!r}. {advice}".rstrip())
    text: dict[str, Any] = {"text": "encode"} if table.text else {}
    return DataTable(source=relative, target=table.target, ignore=tuple(unusable), **text), tuple(choices)


def _other_targets(path: Path, names: Sequence[str]) -> str:
    command = f"affinet init {shlex.quote(str(path))} --target COLUMN --out other.toml"
    return f"To predict {listed([repr(name) for name in names])}: {command}" if names else ""


def _relative(path: Path, folder: Path) -> str:
    """The path as a job in `folder` writes it; a link to the table stays a link."""
    place = path.parent.resolve() / path.name
    try:
        relative = Path(os.path.relpath(place, folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return place.as_posix()
    return f"./{relative}" if relative.startswith(READY_MADE) else relative


def _write(path: Path, text: str) -> None:
    """Write a new file; a part of it never stays. Raises JobError where it exists or the disk refuses."""
    made = False
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            made = True
            file.write(text)
    except OSError as error:
        if made:
            path.unlink(missing_ok=True)
        raise JobError(f"{path} cannot be written: {error.strerror}. Name another place with --out.") from None
