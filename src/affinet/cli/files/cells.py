"""Refuse cells of a table that are missing or not numbers, and name their column and line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl

from affinet.cli.files.separated import separator_of
from affinet.cli.words import counted
from affinet.errors import DataError
from affinet.system.malformed import LARGEST

MISSING_WORDS = ("nan", "-nan", "+nan", "na", "n/a", "#n/a", "null", "none", "nil", "missing", "?", "-")
"""Words that programs write for a missing number, in small letters; they count only among numbers or truth values."""

NEVER_A_CLASS = ("nan", "NaN", "NAN")
"""Words that mean a missing value in columns of text as well; `na` and `none` may be classes there."""
OR_IGNORE = " Or list the column in 'ignore' of [data]."


def refuse_gaps(path: Path, column: pl.Series, *, is_target: bool = False) -> None:
    """Raise DataError where a value of a column is missing, NaN, infinite, or beyond what can be squared."""
    missing = column.is_null()
    if column.dtype.is_float():
        missing = missing | ~column.is_finite().fill_null(False)
    if missing.any():
        raise missing_values_error(path, column, missing, is_target)
    if column.dtype.is_float() and (too_large := column.abs() > LARGEST).any():
        raise DataError(
            f"{path} has numbers beyond {LARGEST:g} in column {column.name!r}, the first in "
            f"{_place(path, column, too_large)}, whose squares leave the range of float64. Give them in other units."
        )


def refuse_stray_words(path: Path, column: pl.Series, *, is_target: bool = False, classes: bool = False) -> None:
    """Raise DataError where a few cells turn a column of numbers or truth values in a .csv file into text.

    Missing values are refused in every column; other words may appear among the numbers of a target that holds
    `classes`.
    """
    if column.dtype != pl.String or path.suffix.lower() != ".csv":
        return
    stripped = column.str.strip_chars()
    values, lowercase = stripped.cast(pl.Float64, strict=False), stripped.str.to_lowercase()
    is_number = values.is_finite().fill_null(False)
    is_typed = is_number if is_number.any() else lowercase.is_in(["true", "false"]).fill_null(False)
    is_missing = ~is_typed & (
        column.is_null() | values.is_not_null() | lowercase.is_in(list(MISSING_WORDS)).fill_null(False)
    )
    is_word = ~is_typed & ~is_missing
    if is_word.any() or (is_target and not is_typed.any()):
        is_missing = column.is_in(list(NEVER_A_CLASS)).fill_null(False) & is_target
    if is_missing.any():
        raise missing_values_error(path, column, is_missing, is_target)
    if is_word.any() and is_typed.any() and not classes:
        raise _stray_words_error(path, column, is_word, "a number" if is_number.any() else "true or false", is_target)
    if is_number.all() and not is_target:
        unusual = (stripped != column) | column.str.starts_with("+")
        raise DataError(
            f"{path} has numbers with spaces or a + around them in column {column.name!r}, the first in "
            f"{_place(path, column, unusual)}. Write plain numbers.{OR_IGNORE}"
        )


def missing_values_error(
    path: Path, column: pl.Series, missing: pl.Series, is_target: bool = False, *, way_out: str = ""
) -> DataError:
    """The error about the `missing` values of a column, with a further way out."""
    return DataError(
        f"{path} has {counted(int(missing.sum()), 'value')} missing, NaN or infinite in column {column.name!r}, "
        f"the first in {_place(path, column, missing)}. Fill them in or remove the rows.{way_out}"
        f"{'' if is_target else OR_IGNORE}"
    )


def ragged_line(path: Path) -> str:
    """The message about the first line of a .csv file with more fields than its header."""
    header, line, fields = 1, "a line", "more"
    with (
        suppress(OSError, csv.Error, StopIteration),
        path.open(encoding="utf-8-sig", errors="replace", newline="") as file,
    ):
        records = _records(file, separator_of(path))
        header = len(next(records)[1])
        number, record = next((number, record) for number, record in records if len(record) > header)
        line, fields = f"line {number}", f"{len(record):,}"
    return (
        f"{path} has {fields} fields in {line}, and its first line has {counted(header, 'name')} of columns. Correct "
        f"the line, put text with a separator in quotation marks, or remove a title, a comment or sep= above the names."
    )


def _stray_words_error(path: Path, column: pl.Series, is_word: pl.Series, kind: str, is_target: bool) -> DataError:
    count = int(is_word.sum())
    strays = f"{counted(count, 'value')} of {len(column):,} that {'is' if count == 1 else 'are'} not {kind}"
    way_out = f"Write {kind} there, or remove the rows."
    if not is_target:
        way_out += OR_IGNORE
    else:
        way_out += ' Where the words are classes, say task = "classification" in [data], or '
        way_out += "affinet init --task classification."
    return DataError(
        f"{path} has {strays} in column {column.name!r}, the first in {_place(path, column, is_word)}. {way_out}"
    )


def _place(path: Path, column: pl.Series, cells: pl.Series) -> str:
    """`line 3 ('foo')` of a .csv file, or `row 2` where lines cannot be known, of the first cell of `cells`."""
    row = int(cells.arg_true()[0])
    cell = column[row]
    shown = f" ({cell!r:.60})" if isinstance(cell, str) else ""
    line = _line_of(path, row, column) if path.suffix.lower() == ".csv" else None
    return f"line {line}{shown}" if line is not None else f"row {row + 1}{shown}, the header not counted"


def _line_of(path: Path, row: int, column: pl.Series) -> int | None:
    """The line in which a row of a .csv file begins, counted from one; a quoted cell may span several lines."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            records = _records(file, separator_of(path))
            next(records)
            for index, (line, record) in enumerate(records):
                if index == row:
                    cell = column[row]
                    return line if not isinstance(cell, str) or cell in record else None
    except (OSError, csv.Error, StopIteration):
        return None
    return None


def _records(lines: Iterator[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The records from the header on, each with its first line; the reader skips empty lines before the header."""
    reader, first_line, started = csv.reader(lines, delimiter=separator), 1, False
    for record in reader:
        started = started or bool(record)
        if started:
            yield first_line, record
        first_line = reader.line_num + 1
