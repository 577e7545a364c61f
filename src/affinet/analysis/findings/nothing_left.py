"""Find weights without a free number: the rules determine all of their entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from affinet.analysis.determined import determined
from affinet.analysis.findings.looking import Look
from affinet.analysis.lookup.entry_names import by_rules


@dataclass(frozen=True)
class NothingLeft:
    """A weight without a free number, though no rule fixes it outright."""

    weight: str
    entries: int
    rules: tuple[str, ...]

    def __str__(self) -> str:
        says = "determines" if len(self.rules) == 1 else "determine"
        entries = "its one entry" if self.entries == 1 else f"all of its {self.entries:,} entries"
        return (
            f"nothing is left to train in {self.weight}: {by_rules(self.rules)} {says} {entries}. "
            f"Loosen a rule, or say what is meant with families.fix."
        )


def nothing_left(look: Look) -> Iterator[NothingLeft]:
    """The weights that `NothingToTrainWarning` is about."""
    for weight, entries, rules in determined(look.system, look.blocks):
        yield NothingLeft(weight, entries, tuple(rule.name for rule in rules))
