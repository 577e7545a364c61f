"""Read the data of a job, decide its task, and split and scale its rows for training and testing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from affinet.cli.files.table_files import Array, Examples, read_examples
from affinet.cli.jobs.job import READY_MADE, DataTable
from affinet.cli.trainings.encoding import Encoding, encoding_of
from affinet.cli.trainings.row_scaling import Scaling, scaling_of
from affinet.cli.words import alike_texts, counted
from affinet.errors import DataError

FEW = 20  # whole numbers with at most this many distinct values, in twice as many rows, are treated as classes
Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Lesson:
    """Examples and the targets to learn: a class number (int64) or a number per row.

    `outputs` is how many numbers a network returns per row. `decided` says in words which task it is and why.
    `encoding` has the features that the columns become, and `notices` are sentences about both that a user should read.
    """

    examples: Examples
    task: Task
    decided: str
    targets: Array
    outputs: int
    encoding: Encoding
    notices: tuple[str, ...]

    @property
    def inputs(self) -> int:
        """How many features a row has."""
        return len(self.encoding.names)


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows to test on: features (rows, inputs), scaled by the mean and spread of the train rows.

    Categories of text stay 0 and 1. Targets are class numbers (int64) for classification, and scaled like the features
    for regression; `scaling` has the means and spreads. `outputs` is how many numbers a network returns per row.
    `decided` says in words which task it is and why.
    """

    task: Task
    decided: str
    outputs: int
    train_features: Array
    train_targets: Array
    test_features: Array
    test_targets: Array
    scaling: Scaling
    notices: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """How many features a row has."""
        return int(self.train_features.shape[1])

    @property
    def score_name(self) -> str:
        """What the score is: the share of right answers, or R²."""
        return "accuracy" if self.task == "classification" else "R²"


def load_data(table: DataTable, folder: Path, seed: int) -> Data:
    """The data that `table` names, split by `seed`, each class in its share. Raises DataError as `read_lesson`."""
    lesson = read_lesson(table, folder, seed)
    x, x_test, y, y_test = _split(lesson.targets, lesson.task, table, seed, lesson.examples.features, lesson.targets)
    return _scaled(lesson, lesson.encoding.encode(x), lesson.encoding.encode(x_test), y, y_test)


def read_lesson(table: DataTable, folder: Path, seed: int) -> Lesson:
    """The examples that `table` names, with their task and targets; paths are relative to `folder`.

    `seed` decides the rows to train on, whose categories become features. Raises DataError where rows cannot be read,
    are too few, or their target cannot be learnt, and where features of two columns would have one name.
    """
    examples = _ready_made(table.source) if table.source.startswith(READY_MADE) else _from_file(table, folder)
    task, decided = _task(examples, table.task)
    if table.source.startswith(READY_MADE):
        decided = task
    if task == "classification":
        classes, targets = np.unique(examples.target, return_inverse=True)
        outputs = len(classes)
        decided = f"{decided}; {outputs} classes"
    else:
        targets, outputs = _numbers(examples), 1
    _refuse_constant(examples)
    _refuse_few(examples, targets, task, table.test_fraction)
    rows = np.arange(len(targets))
    train_rows = _split(targets, task, table, seed, rows)[0] if examples.categories else rows
    encoding = encoding_of(examples, train_rows)
    notices = (*_notices_of_classes(examples, task), *encoding.notices())
    return Lesson(examples, task, decided, targets, outputs, encoding, notices)


def _notices_of_classes(examples: Examples, task: Task) -> list[str]:
    """A sentence about classes that are probably one, and about a class of spaces."""
    if task != "classification" or examples.kind != "text":
        return []
    classes = np.unique(examples.target).tolist()
    alike = alike_texts(classes)
    notices = [f"The target has {alike}, and they are different classes."] if alike else []
    if blank := [each for each in classes if not each.strip()]:
        notices.append(f"The target has a class {blank[0]!r:.60}: where its values are missing, remove the rows.")
    return notices


def _split(targets: Array, task: Task, table: DataTable, seed: int, *arrays: Array) -> list[Array]:
    """Of each array the rows to train on, then those to test on."""
    from sklearn.model_selection import train_test_split

    classes = targets if task == "classification" else None
    parts: list[Array] = train_test_split(*arrays, test_size=table.test_fraction, random_state=seed, stratify=classes)
    return parts


def _ready_made(source: str) -> Examples:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{source.removeprefix(READY_MADE)}")()
    has_integers = bunch.target.dtype.kind in "iu"
    kind = "whole numbers" if has_integers else "decimal numbers"
    features = np.asarray(bunch.data, np.float64)
    return Examples(source, features, bunch.target, "target", kind, tuple(map(str, bunch.feature_names)))


def _from_file(table: DataTable, folder: Path) -> Examples:
    classes = table.task == "classification"
    encode = table.text == "encode"
    return read_examples(folder / table.source, str(table.target), ignore=table.ignore, classes=classes, encode=encode)


def _task(examples: Examples, task: Task | None) -> tuple[Task, str]:
    if task is not None:
        return task, f"{task}, as the job says"
    distinct_count = len(np.unique(examples.target))
    description = f"the target {examples.target_name!r} is {examples.kind}"
    if examples.kind in ("text", "truth values"):
        return "classification", f"classification, for {description}"
    if examples.kind == "whole numbers" and distinct_count <= min(FEW, len(examples.target) / 2):
        return "classification", f"classification, for {description} with {FEW} or fewer distinct values"
    return "regression", f"regression, for {description} with {distinct_count:,} distinct values"


def _numbers(examples: Examples) -> Array:
    if examples.kind in ("text", "truth values"):
        raise DataError(
            f"the target {examples.target_name!r} of {examples.source} is {examples.kind}, which regression cannot "
            f'predict; say task = "classification" in [data], or name a column of numbers.'
        )
    return examples.target.astype(np.float64)


def _refuse_constant(examples: Examples) -> None:
    if len(np.unique(examples.target)) == 1:
        raise DataError(
            f"the target {examples.target_name!r} of {examples.source} is {str(examples.target[0])!r} in every row; "
            f"there is nothing to learn. Name another column."
        )


def _refuse_few(examples: Examples, targets: Array, task: Task, test_fraction: float) -> None:
    rows = len(targets)
    test_rows = int(np.ceil(rows * test_fraction))
    least_rows = len(np.unique(targets)) if task == "classification" else 2
    split = f"{counted(rows - test_rows, 'row')} to train on and {test_rows:,} to test on"
    way_out = ', or say task = "regression" in [data] or affinet init --task regression'
    alternative = "" if task == "regression" or examples.kind in ("text", "truth values") else way_out
    described = f" The target is text, such as {str(examples.target[0])!r:.60}; regression needs plain numbers."
    text = described if task == "classification" and examples.kind == "text" else ""
    if min(test_rows, rows - test_rows) < least_rows:
        raise DataError(
            f"{examples.source} has {counted(rows, 'row')}, which test_fraction = {test_fraction} splits into {split}; "
            f"{task} needs at least {least_rows} in each. Add rows or change test_fraction in [data]"
            f"{alternative}.{text}"
        )
    if task == "classification":
        values, counts = np.unique(examples.target, return_counts=True)
        if counts.min() < 2:
            value = str(values[counts.argmin()])
            raise DataError(
                f"the class {value!r} of {examples.target_name!r} in {examples.source} has one row; each class needs "
                f"two, one to train on and one to test on. Add rows or remove that one{alternative}."
            )


def _scaled(lesson: Lesson, x: Array, x_test: Array, y: Array, y_test: Array) -> Data:
    examples, is_regression = lesson.examples, lesson.task == "regression"
    numbers, classes = (y, None) if is_regression else (None, np.unique(examples.target))
    scaling = scaling_of(x, lesson.encoding, examples.target_name, numbers, classes)
    if is_regression:
        y, y_test = ((each - scaling.target_mean) / scaling.target_spread for each in (y, y_test))
    x, x_test = ((each - scaling.means) / scaling.spreads for each in (x, x_test))
    return Data(lesson.task, lesson.decided, lesson.outputs, x, y, x_test, y_test, scaling, lesson.notices)
