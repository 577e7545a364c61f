"""Plain sentences on the terminal; what users wrote is never read as markup."""

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

UNFOLDED = 100_000
"""Columns in which every table fits."""


@dataclass(frozen=True)
class Screen:
    """Results go to the standard output, errors to the standard error, as both are when the command starts."""

    results: Console = field(default_factory=Console)
    errors: Console = field(default_factory=lambda: Console(stderr=True))

    def say(self, sentence: str) -> None:
        """Print plain text; the terminal breaks its lines."""
        self.results.print(Text(visible(sentence)), soft_wrap=True)

    def say_plan(self, plan: str) -> None:
        """Print a plan: on a terminal the lines of its table are cut at the width, and those below end with a word."""
        if not self.results.is_terminal:
            self.say(plan)
            return
        table, gap, rest = plan.partition("\n\n")
        for line in table.splitlines():
            self.results.print(Text(visible(line)), no_wrap=True, overflow="ellipsis")
        self.results.print(Text(visible(gap[:1] + rest)))

    def complain(self, sentence: str) -> None:
        """Print plain text on the standard error."""
        self.errors.print(Text(visible(sentence)), soft_wrap=True)

    @contextmanager
    def warnings(self) -> Iterator[None]:
        """Print the warnings of libraries on the standard error, each text once, without the place in their code."""
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
            if text not in shown:
                shown.add(text)
                self.complain(f"warning: {text}")

        with warnings.catch_warnings():
            warnings.showwarning = show
            yield

    def show(self, table: Table) -> None:
        """Print a table: as wide as the terminal (or COLUMNS) at most; where neither says a width, as wide as it is.

        What another program reads is not to be folded at the 80 columns that rich assumes of a pipe.
        """
        width = self.results.width
        if not self.results.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
            self.results.width = UNFOLDED
        try:
            self.results.print(table)
        finally:
            self.results.width = width
