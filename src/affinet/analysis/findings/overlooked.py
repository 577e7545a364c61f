"""What was not looked at, and why: silence would read as "nothing found"."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.analysis.lookup.naming import counted, quoted


@dataclass(frozen=True)
class Overlooked:
    """Rules among which something was not looked for; `reason` says what and why."""

    rules: tuple[str, ...]
    equations: int
    reason: str

    def __str__(self) -> str:
        one = len(self.rules) == 1
        return (
            f"Not looked for, as it would take long: {self.reason} {'of' if one else 'among'} {quoted(self.rules, 3)} "
            f"({counted(self.equations, 'equation')}). The plan holds as it is; plan fewer of them to see."
        )
