"""Read .csv files whose fields are separated by commas, semicolons or tabs, and whose decimals are points or commas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from affinet.errors import DataError

SEPARATORS = ",;\t"
LONGEST_HEADER = 2**20
QUOTED = re.compile(r'"[^"]*"')
COMMA_NUMBER = r"^\s*[-+]?\d+,\d+\s*$"
SAVE_AS_UTF8 = " Save the table as UTF-8; spreadsheets call that CSV UTF-8."
POINT_NUMBER = r"^\s*[-+]?\d+\.\d+\s*$"


def read_separated(path: Path) -> pl.DataFrame:
    """The table in a .csv file. Raises DataError for a header that is not UTF-8, and for decimal commas beside points.

    Spreadsheets in languages that write `1,5` separate fields by semicolons. A point may then group thousands, so that
    one file has to write all its numbers alike.
    """
    options: dict[str, Any] = {"separator": separator_of(path), "infer_schema_length": None}
    options["glob"] = False  # or table[1].csv would be read as table1.csv
    frame = pl.read_csv(path, **options)
    if damaged := [name for name in frame.columns if "\N{REPLACEMENT CHARACTER}" in name]:
        raise DataError(f"the header of {path} is not UTF-8: {damaged[0]!r}.{SAVE_AS_UTF8}")
    if options["separator"] == "," or not _columns_with(frame, COMMA_NUMBER):
        return _with_plain_names(frame)
    frame = pl.read_csv(path, decimal_comma=True, **options)
    if pointed := _columns_with(frame, POINT_NUMBER):
        raise DataError(
            f"{path} has numbers with decimal commas, and with points in column {pointed[0]!r}. "
            f"Write all of them alike."
        )
    return _with_plain_names(frame)


def _with_plain_names(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with `"` in the names of columns where the file has `""`, which Polars keeps in a header."""
    return frame.rename({name: plain for name in frame.columns if (plain := name.replace('""', '"')) != name})


def separator_of(path: Path) -> str:
    """A comma, unless the header has no comma outside of quotes and has semicolons or tabs."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        beginning = QUOTED.sub("name", file.read(LONGEST_HEADER))
    header = next((line for line in beginning.splitlines() if line.strip()), "")
    return "," if "," in header else max(SEPARATORS, key=header.count)


def _columns_with(frame: pl.DataFrame, pattern: str) -> list[str]:
    """The names of the columns of text in which a value matches `pattern`."""
    text = [column for column in frame.iter_columns() if column.dtype == pl.String]
    return [column.name for column in text if column.str.contains(pattern).any()]
