"""Read columns of text as categories: their different values, sorted, for columns that can become features."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from affinet.cli.files.cells import NEVER_A_CLASS, OR_IGNORE, missing_values_error
from affinet.errors import DataError

TEXT = (pl.String, pl.Categorical, pl.Enum)
MOST_CATEGORIES = 50
"""Most different values of a column whose categories become features, and they need twice as many rows."""
LONGEST_CATEGORY = 100
"""Most characters of a category, which is a part of a feature's name."""
DATE = re.compile(
    r"\s*(\d{4}[-/.年]\d{1,2}[-/.月]\d{1,2}日?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}\.? [^\W\d]{3,}\.? \d{4})"
    r"([T ,].*)?"
    r"|\s*\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( [ap]m)?\s*",
    re.IGNORECASE,
)
AMOUNT = re.compile(r"\s*[€$£¥₹]?\s*[-+]?\s*\d+([.,'’ \u00a0\u202f]\d{3})*([.,]\d+)?\s*(%|[€$£¥₹]|EUR|USD|GBP|CHF)?\s*")
"""A number with a currency, a percent sign, groups of thousands or a decimal comma, or without."""
PLAIN = re.compile(r"-?\d+(\.\d+)?")
FILL_IN = " A word of yours in their place, such as unknown, becomes a category."


def categories_of(path: Path, column: pl.Series) -> tuple[str, ...]:
    """The different values of a column of text, sorted by their characters.

    Raises DataError where they are dates, too many, too long or missing, and where two differ in spaces alone.
    """
    text = column.cast(pl.String)
    is_missing = text.is_null() | (text.str.strip_chars() == "") | text.is_in(list(NEVER_A_CLASS))
    is_missing = is_missing.fill_null(True)
    categories = text.filter(~is_missing).unique().sort().to_list()
    if categories:
        _refuse_dates(path, column, categories)
        _refuse_amounts(path, column, categories)
        _refuse_many(path, column, categories)
    if is_missing.any():
        raise missing_values_error(path, text, is_missing, way_out=FILL_IN)
    _refuse_spaces(path, column, categories)
    return tuple(categories)


def numbers_of_categories(column: pl.Series, categories: tuple[str, ...]) -> pl.Series:
    """The number of each row's category."""
    return column.cast(pl.String).cast(pl.Enum(categories)).to_physical()


def _refuse_dates(path: Path, column: pl.Series, categories: list[str]) -> None:
    if all(DATE.fullmatch(category) for category in categories):
        raise DataError(
            f"{path} has dates or times (such as {categories[0]!r:.60}) in column {column.name!r}. Write what matters "
            f"about them as numbers, such as the year, the month or the days since a first one.{OR_IGNORE}"
        )


def _refuse_amounts(path: Path, column: pl.Series, categories: list[str]) -> None:
    amounts = all(AMOUNT.fullmatch(category) for category in categories)
    if amounts and not all(PLAIN.fullmatch(category) for category in categories):
        raise DataError(
            f"{path} has amounts (such as {categories[0]!r:.60}) in column {column.name!r}. Write plain numbers, "
            f"without signs and groups of thousands.{OR_IGNORE}"
        )


def _refuse_many(path: Path, column: pl.Series, categories: list[str]) -> None:
    longest = max(categories, key=len)
    if len(longest) > LONGEST_CATEGORY:
        raise DataError(
            f"{path} has free text in column {column.name!r}: {longest!r:.40}… has {len(longest):,} characters, and a "
            f"category at most {LONGEST_CATEGORY}. Write shorter words.{OR_IGNORE}"
        )
    if len(categories) == len(column) > 1:
        raise DataError(
            f"{path} has another text (such as {categories[0]!r:.60}) in each row of column {column.name!r}, from "
            f"which nothing can be learnt. Write a column that groups them.{OR_IGNORE}"
        )
    if len(categories) > min(MOST_CATEGORIES, len(column) / 2):
        raise DataError(
            f"{path} has {len(categories):,} different texts (such as {categories[0]!r:.60}) in {len(column):,} rows "
            f"of column {column.name!r}, and at most {MOST_CATEGORIES}, in twice as many rows, become features. Write "
            f"a column that groups them.{OR_IGNORE}"
        )


def _refuse_spaces(path: Path, column: pl.Series, categories: list[str]) -> None:
    """Raise DataError where two categories differ in the spaces around them alone, which no reader sees."""
    first: dict[str, str] = {}
    for category in categories:
        other = first.setdefault(category.strip(), category)
        if other != category:
            raise DataError(
                f"{path} has {other!r:.60} and {category!r:.60} in column {column.name!r}, which differ in spaces "
                f"alone. Remove the spaces.{OR_IGNORE}"
            )
