"""Read tables from CSV and Parquet files: features and a target; errors name the column and the row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.exceptions import PanicException, PolarsError

from affinet.cli.files.cells import OR_IGNORE, ragged_line, refuse_gaps, refuse_stray_words
from affinet.cli.files.parquet import read_parquet
from affinet.cli.files.separated import SAVE_AS_UTF8, read_separated
from affinet.cli.files.text_columns import TEXT, categories_of, numbers_of_categories
from affinet.cli.words import did_you_mean, listed, one_paragraph
from affinet.errors import DataError
from affinet.system.files import MISSING, unreadable

Array = np.ndarray[Any, np.dtype[Any]]

NOT_IN_NUMPY = ("Int128", "UInt128")
"""Integers that NumPy does not have, by name, since older versions of Polars do not have them either."""
NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
"""A name that may be a number of the first row, in a file without a header."""


@dataclass(frozen=True)
class Examples:
    """Rows to learn from: `features` (rows, columns) in float64, one `target` per row, and the name of their source.

    `names` are those of the columns. A column of text has its `categories`, and their numbers in `features`. `kind` is
    the kind of the target's values: "text", "truth values", "whole numbers" or "decimal numbers".
    """

    source: str
    features: Array
    target: Array
    target_name: str
    kind: str
    names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_examples(
    path: Path, target: str, *, ignore: Sequence[str] = (), classes: bool = False, encode: bool = False
) -> Examples:
    """The examples in the table `path`, whose column `target` is to be predicted from all others but those to `ignore`.

    `classes` says that words in the target are classes even where its other values are numbers; `encode`, that columns
    of text are categories. Raises DataError: no such file, malformed, no rows, no such column, no features, text that
    is not to be encoded or cannot be, missing or infinite values, a word among the numbers of a column.
    """
    frame = _read(path)
    for name in (target, *ignore):
        _refuse_unknown(path, frame, name)
    features = frame.drop(target, *ignore)
    if features.width == 0:
        ignored = "" if not ignore else " and those to ignore"
        separators = " Commas, semicolons or tabs separate the fields of a .csv file." if frame.width == 1 else ""
        raise DataError(
            f"{path} has no column besides the target {target!r}{ignored}; add the features to predict it from."
            f"{separators}"
        )
    for name in features.columns:
        refuse_stray_words(path, features[name])
    refuse_stray_words(path, frame[target], is_target=True, classes=classes)
    text = [name for name, dtype in features.schema.items() if encode and dtype in TEXT]
    _refuse_other_types(path, features.drop(text))
    categories = {name: categories_of(path, features[name]) for name in text}
    features = features.with_columns(numbers_of_categories(features[name], categories[name]) for name in text)
    for name in features.columns:
        refuse_gaps(path, features[name])
    refuse_gaps(path, frame[target], is_target=True)
    column, kind = _target(path, frame[target])
    rows = features.cast(pl.Float64).to_numpy()
    return Examples(path.name, rows, column, target, kind, tuple(features.columns), categories)


@dataclass(frozen=True)
class Survey:
    """The columns of a table: those `unusable` as features, each with the reason, and those that are encoded `text`.

    `counting` are columns that number the rows 1, 2, 3, …, or from 0.
    """

    columns: tuple[str, ...]
    target: str
    unusable: Mapping[str, str]
    text: tuple[str, ...]
    counting: tuple[str, ...]


def survey(path: Path, target: str | None) -> Survey:
    """Look at the columns of the table `path`, of which the last with a name is the target where `target` is None.

    Text is usable as a feature for each of its categories. A column without a name holds the row numbers that pandas
    writes, from which nothing can be learnt, as from a column of one value. Raises DataError where the table cannot be
    read, or has no column `target`.
    """
    frame = _read(path)
    chosen = next(filter(None, reversed(frame.columns)), "") if target is None else target
    if not chosen:
        raise DataError(f"the target of {path} needs a name: write one above its column, in the first line.")
    _refuse_unknown(path, frame, chosen)
    features = frame.drop(chosen)
    unusable = {column.name: reason for column in features if (reason := _why_unusable(path, column))}
    text = tuple(column.name for column in features if column.dtype in TEXT and column.name not in unusable)
    counting = tuple(column.name for column in features if column.name not in unusable and _counts_rows(column))
    return Survey(tuple(frame.columns), chosen, unusable, text, counting)


def _counts_rows(column: pl.Series) -> bool:
    numbers = np.arange(len(column))
    return column.dtype.is_integer() and any(np.array_equal(column.to_numpy(), numbers + first) for first in (0, 1))


def _why_unusable(path: Path, column: pl.Series) -> str:
    if not column.name:
        return "it has no name, as row numbers that pandas wrote."
    try:
        refuse_stray_words(path, column)
        if column.dtype in TEXT:
            categories_of(path, column)
        refuse_gaps(path, column)
    except DataError as error:
        return str(error).removesuffix(OR_IGNORE).removeprefix(f"{path} has ")
    if column.dtype not in TEXT and not _is_of_numbers(column.dtype):
        return f"it is not numbers{_first_value(column)}."
    return f"it is {str(column[0])!r:.60} in every row." if column.n_unique() == 1 else ""


def _read(path: Path) -> pl.DataFrame:
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(
            f"{path} is not a table that affinet reads; it reads .csv and .parquet files, and sklearn:NAME."
        )
    if reason := unreadable(path):
        if reason == MISSING:
            raise DataError(f"there is no data file {path}. Paths in a job are relative to the folder of the job file.")
        raise DataError(f"{path} {reason}. Name a {path.suffix} file.")
    try:
        frame = read_separated(path) if path.suffix.lower() == ".csv" else read_parquet(path)
    except DataError:
        raise
    except (PolarsError, PanicException, OSError, ValueError) as error:  # a panic of Rust is not an Exception
        if "truncate_ragged_lines" in str(error):
            raise DataError(ragged_line(path)) from None
        way_out = SAVE_AS_UTF8 if "utf-8" in str(error) else ""
        raise DataError(f"{path} is not a readable {path.suffix} file: {one_paragraph(error)}.{way_out}") from None
    repeated_names = [name for name in frame.columns if re.search(r"_duplicated_\d+$", name)]
    if repeated_names:
        name = re.sub(r"_duplicated_\d+$", "", repeated_names[0])
        hint = " Its first line has to be the names of the columns." if NUMBER.fullmatch(name) else ""
        raise DataError(f"{path} has more than one column {name!r}; rename one of them.{hint}")
    if frame.height == 0:
        raise DataError(f"{path} has no rows below its header; affinet has nothing to learn from.")
    return frame


def _refuse_unknown(path: Path, frame: pl.DataFrame, name: str) -> None:
    if name not in frame.columns:
        hint = did_you_mean(name, frame.columns)
        raise DataError(f"{path} has no column {name!r}.{hint} It has: {listed(frame.columns)}.")


def _refuse_other_types(path: Path, features: pl.DataFrame) -> None:
    refused_names = [name for name, dtype in features.schema.items() if not _is_of_numbers(dtype)]
    if not refused_names:
        return
    name = refused_names[0]
    is_text = features[name].dtype in TEXT
    way_out = 'Say text = "encode" in [data], and each category is a feature.' if is_text else "Write numbers."
    raise DataError(
        f"{path} has features that are not numbers: {listed(refused_names)}; "
        f"{name!r} is {features[name].dtype}{_first_value(features[name])}. {way_out}{OR_IGNORE}"
    )


def _is_of_numbers(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean


def _first_value(column: pl.Series) -> str:
    examples = column.drop_nulls().head(1).to_list()
    return f" (such as {str(examples[0])!r})" if examples else ""


def _target(path: Path, column: pl.Series) -> tuple[Array, str]:
    if column.dtype in TEXT:
        return column.cast(pl.String).to_numpy().astype(str), "text"
    if column.dtype == pl.Boolean:
        return column.cast(pl.String).to_numpy().astype(str), "truth values"
    if column.dtype.is_integer() and str(column.dtype) not in NOT_IN_NUMPY:
        return column.to_numpy(), "whole numbers"
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).to_numpy(), "decimal numbers"
    name, dtype = column.name, column.dtype
    raise DataError(f"the target {name!r} of {path} is {dtype}; it must be numbers, text or truth values.")
