"""Plain sentences on the terminal; what users wrote is never read as markup."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from affinet.errors import visible


@dataclass(frozen=True)
class Screen:
    """Results go to the standard output, errors to the standard error, as both are when the command starts."""

    results: Console = field(default_factory=Console)
    errors: Console = field(default_factory=lambda: Console(stderr=True))

    def say(self, sentence: str) -> None:
        """Print plain text; the terminal breaks its lines."""
        self.results.print(Text(visible(sentence)), soft_wrap=True)

    def complain(self, sentence: str) -> None:
        """Print plain text on the standard error."""
        self.errors.print(Text(visible(sentence)), soft_wrap=True)
