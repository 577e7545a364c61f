"""A finding that names a check that was skipped, and why: silence would read as "nothing found"."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.analysis.lookup.entry_names import counted, quoted


@dataclass(frozen=True)
class Overlooked:
    """Rules for which a check was skipped; `reason` names the check."""

    rules: tuple[str, ...]
    equations: int
    reason: str
    unit: str = "equation"

    def __str__(self) -> str:
        among = "of" if len(self.rules) == 1 else "among"
        return (
            f"Not looked for, as it would take long: {self.reason} {among} {quoted(self.rules, 3)} "
            f"({counted(self.equations, self.unit)}). The plan holds as it is; plan fewer of them to see."
        )
