"""Encode the columns of text of a table: a feature of zeros and ones for each category of the rows to train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from affinet.cli.files.table_files import Array, Examples
from affinet.cli.words import listed
from affinet.errors import DataError

MOST_NUMBERS = 2**29
"""Most numbers of a table whose text is encoded, 4 GiB, which a table of some MB could exceed."""


@dataclass(frozen=True)
class Encoding:
    """The features that the columns of a table become, in its order: numbers stay, and text becomes its categories.

    `categories` are those of the rows to train on, sorted, for each column of text. `numbers` are the numbers that the
    examples have for them, and `test_only` the categories that no row to train on has: zeros throughout.
    """

    columns: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, Array]
    test_only: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features: of a category `column=category`."""
        return tuple(chain.from_iterable(self.names_of(column) for column in self.columns))

    def names_of(self, column: str) -> tuple[str, ...]:
        """The names of the features of one column."""
        if column not in self.categories:
            return (column,)
        return tuple(f"{column}={category}" for category in self.categories[column])

    @property
    def of_text(self) -> Array:
        """Which features are categories of a column of text."""
        return np.array([column in self.categories for column in self.columns for _ in self.names_of(column)])

    def encode(self, rows: Array) -> Array:
        """The features of rows in which categories are numbers: (rows, features)."""
        if not self.categories:
            return rows
        parts = [
            rows[:, [k]] == self.numbers[name] if name in self.numbers else rows[:, [k]]
            for k, name in enumerate(self.columns)
        ]
        return np.hstack(parts).astype(rows.dtype)

    def notices(self) -> tuple[str, ...]:
        """A sentence for each column with categories that no row to train on has."""
        return tuple(
            f"No row to train on has {listed([f'{each!r:.60}' for each in test_only], 4)} in column {column!r:.60}: "
            f"rows to test on that do are of none of its categories."
            for column, test_only in self.test_only.items()
        )


def encoding_of(examples: Examples, train_rows: Array) -> Encoding:
    """The encoding by the rows to train on, given by their numbers. Raises DataError for two features of one name.

    It is raised for more numbers than a table may have, too.
    """
    categories: dict[str, tuple[str, ...]] = {}
    numbers: dict[str, Array] = {}
    test_only: dict[str, tuple[str, ...]] = {}
    for name, texts in examples.categories.items():
        column = examples.features[train_rows, examples.names.index(name)]
        numbers[name] = np.unique(column)
        categories[name] = tuple(texts[int(number)] for number in numbers[name])
        if missing := tuple(text for text in texts if text not in categories[name]):
            test_only[name] = missing
    encoding = Encoding(examples.names, categories, numbers, test_only)
    _refuse_equal_names(examples, encoding)
    _refuse_large(examples, encoding)
    return encoding


def _refuse_large(examples: Examples, encoding: Encoding) -> None:
    rows, features = len(examples.target), len(encoding.names)
    if encoding.categories and rows * features > MOST_NUMBERS:
        largest = max(encoding.categories, key=lambda name: len(encoding.categories[name]))
        raise DataError(
            f"{examples.source} has {rows:,} rows, and its columns become {features:,} features: more than the "
            f"{MOST_NUMBERS:,} numbers that are made of a table with text. List columns with many categories in "
            f"'ignore' of [data]; {largest!r:.60} has the most."
        )


def _refuse_equal_names(examples: Examples, encoding: Encoding) -> None:
    owners: dict[str, str] = {}
    for column in encoding.columns:
        for name in encoding.names_of(column):
            other = owners.setdefault(name, column)
            if other != column:
                raise DataError(
                    f"{examples.source} has two features {name!r:.80}, of the columns {other!r:.60} and "
                    f"{column!r:.60}: text becomes column=category. Rename one of the columns, or "
                    f"list it in 'ignore' of [data]."
                )
