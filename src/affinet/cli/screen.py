"""Print plain sentences and tables on the terminal; text of users is never read as markup."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.text import Text

from affinet.errors import visible

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 100_000
"""A width in columns that every table fits into."""


@dataclass(frozen=True)
class Screen:
    """Results go to the standard output, errors to the standard error, as both are when the command starts."""

    results: Console = field(default_factory=Console)
    errors: Console = field(default_factory=lambda: Console(stderr=True))

    def say(self, sentence: str) -> None:
        """Print plain text; the terminal breaks its lines."""
        self.results.print(Text(visible(sentence)), soft_wrap=True)

    def say_plan(self, plan: str) -> None:
        """Print a plan: a terminal cuts the lines of its table at the width, and wraps the lines below it at words."""
        if not self.results.is_terminal:
            self.say(plan)
            return
        table, separator, notes = plan.partition("\n\n")
        for line in table.splitlines():
            self.results.print(Text(visible(line)), no_wrap=True, overflow="ellipsis")
        self.results.print(Text(visible(separator[:1] + notes)))

    def complain(self, sentence: str) -> None:
        """Print plain text on the standard error."""
        self.errors.print(Text(visible(sentence)), soft_wrap=True)

    @staticmethod
    def of_errors() -> Screen:
        """A screen for errors alone: another process shows everything else."""
        return Screen(Console(quiet=True))

    @contextmanager
    def warnings(self) -> Iterator[None]:
        """Print the warnings of libraries on the standard error, each text once, without the place in their code.

        They are results in that a screen for errors alone does not show them.
        """
        shown: set[str] = set()

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            text = " ".join(str(message).split())
            if text not in shown and not self.results.quiet:
                shown.add(text)
                self.complain(f"warning: {text}")

        with warnings.catch_warnings():
            warnings.showwarning = show
            yield

    def show(self, table: Table) -> None:
        """Print a table, at most as wide as the terminal or COLUMNS; without either, at its full width.

        A table that another program reads must not be folded at the 80 columns that rich assumes for a pipe.
        """
        width = self.results.width
        if not self.results.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
            self.results.width = WIDE
        try:
            self.results.print(table)
        finally:
            self.results.width = width
