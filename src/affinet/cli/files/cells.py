"""Refuse the cells of a table that are missing or no numbers, each named by its column and its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from affinet.cli.words import counted
from affinet.errors import DataError
from affinet.system.malformed import LARGEST

MISSING_WORDS = ("nan", "-nan", "+nan", "na", "n/a", "#n/a", "null", "none", "nil", "missing", "?", "-")
"""What programs write where a number is missing, in small letters; it is that only among numbers or truth values."""

NEVER_A_CLASS = ("nan", "NaN", "NAN")
"""Words that are missing values among text, too: `na` and `none` may be classes there."""


def refuse_gaps(path: Path, column: pl.Series) -> None:
    """Raise DataError where a value of a column is missing, NaN, infinite, or beyond what can be squared."""
    bad = column.is_null()
    if column.dtype.is_float():
        bad = bad | ~column.is_finite().fill_null(False)
    if bad.any():
        raise _gaps(path, column, bad)
    if column.dtype.is_float() and (large := column.abs() > LARGEST).any():
        raise DataError(
            f"{path} has numbers beyond {LARGEST:g} in column {column.name!r}, the first in "
            f"{_place(path, column, large)}, whose squares leave the range of float64. Give them in other units."
        )


def refuse_stray_words(path: Path, column: pl.Series, *, is_target: bool = False, classes: bool = False) -> None:
    """Raise DataError where a text column of a .csv file holds numbers or truth values, but for a few cells.

    One such cell makes text of the whole column. Missing values are refused whatever the column is for; other words
    may stand among the numbers of a target that holds `classes`.
    """
    if column.dtype != pl.String or path.suffix.lower() != ".csv":
        return
    stripped = column.str.strip_chars()
    values, small = stripped.cast(pl.Float64, strict=False), stripped.str.to_lowercase()
    number = values.is_finite().fill_null(False)
    typed = number if number.any() else small.is_in(["true", "false"]).fill_null(False)
    gap = ~typed & (column.is_null() | values.is_not_null() | small.is_in(list(MISSING_WORDS)).fill_null(False))
    word = ~typed & ~gap
    if word.any() or (is_target and not typed.any()):
        gap = column.is_in(list(NEVER_A_CLASS)).fill_null(False) & is_target
    if gap.any():
        raise _gaps(path, column, gap)
    if word.any() and typed.any() and not classes:
        raise _stray(path, column, word, "a number" if number.any() else "true or false", is_target)
    if number.all() and not is_target:
        unlike = (stripped != column) | column.str.starts_with("+")
        raise DataError(
            f"{path} has numbers with spaces or a + around them in column {column.name!r}, the first in "
            f"{_place(path, column, unlike)}. Write plain numbers."
        )


def _gaps(path: Path, column: pl.Series, bad: pl.Series) -> DataError:
    return DataError(
        f"{path} has {counted(int(bad.sum()), 'value')} missing, NaN or infinite in column {column.name!r}, the first "
        f"in {_place(path, column, bad)}. Fill them in or remove the rows."
    )


def _stray(path: Path, column: pl.Series, word: pl.Series, kind: str, is_target: bool) -> DataError:
    strays = (
        f"{counted(int(word.sum()), 'value')} of {len(column):,} that {'is' if word.sum() == 1 else 'are'} not {kind}"
    )
    way_out = f"Write {kind} there, or remove the rows."
    if is_target:
        way_out += ' Where the words are classes, say task = "classification" in [data].'
    return DataError(
        f"{path} has {strays} in column {column.name!r}, the first in {_place(path, column, word)}. {way_out}"
    )


def _place(path: Path, column: pl.Series, bad: pl.Series) -> str:
    """`line 3 ('foo')` of a .csv file, or `row 2` where lines cannot be known, of the first cell of `bad`."""
    row = int(bad.arg_true()[0])
    cell = column[row]
    shown = f" ({cell!r:.60})" if isinstance(cell, str) else ""
    line = _line_of(path, row, column) if path.suffix.lower() == ".csv" else None
    return f"line {line}{shown}" if line is not None else f"row {row + 1}{shown}, the header not counted"


def _line_of(path: Path, row: int, column: pl.Series) -> int | None:
    """The line in which a row of a .csv file begins, counted from one; a cell in quotes may go over several lines."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            records = _records(file)
            next(records)
            for number, (line, record) in enumerate(records):
                if number == row:
                    cell = column[row]
                    return line if not isinstance(cell, str) or cell in record else None
    except (OSError, csv.Error, StopIteration):
        return None
    return None


def _records(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """The records from the header on, each with the line that it begins in; the reader skips empty lines before it."""
    reader, begins, begun = csv.reader(lines), 1, False
    for record in reader:
        begun = begun or bool(record)
        if begun:
            yield begins, record
        begins = reader.line_num + 1
