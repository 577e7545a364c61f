"""What was not looked at, and why: silence would read as "nothing found"."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.structure.lookup.naming import counted, quoted


@dataclass(frozen=True)
class Overlooked:
    """Rules among which something was not looked for; `reason` says what and why."""

    rules: tuple[str, ...]
    equations: int
    reason: str

    def __str__(self) -> str:
        one = len(self.rules) == 1
        return (
            f"not looked for: {self.reason} {'of' if one else 'among'} {quoted(self.rules, 3)} "
            f"({counted(self.equations, 'equation')}), which would take long. Nothing is wrong by that: the plan holds "
            f"as it is, and is only not checked for this. Plan fewer of them to see."
        )
