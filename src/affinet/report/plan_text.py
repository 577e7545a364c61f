"""Split the text of a plan into its table, its sentences and its findings."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.system.system import System

WORDS, FINDINGS = "In words:", "Findings:"


@dataclass(frozen=True)
class PlanText:
    """The parts of `str(plan)`; lists are empty where the text has none."""

    table: str
    sentences: tuple[str, ...]
    findings: tuple[str, ...]


def split_plan_text(text: str) -> PlanText:
    """The parts of a plan's text, which a file may have lost."""
    ends = [at for at in (text.find(f"\n{WORDS}\n"), text.find(f"\n{FINDINGS}\n")) if at >= 0]
    table = text[: min(ends, default=len(text))].rstrip()
    return PlanText(table, _items_below(text, WORDS), _items_below(text, FINDINGS))


def rules_without_plan(system: System) -> PlanText:
    """The rules as they were written, where no plan says what they amount to."""
    return PlanText("", tuple(f"“{rule.name}”: {rule.text}" for rule in system.every), ())


def _items_below(text: str, heading: str) -> tuple[str, ...]:
    """The items of the list below a heading."""
    _, separator, below = text.partition(f"\n{heading}\n")
    items = []
    for line in below.splitlines() if separator else ():
        if not line.startswith("  "):
            break
        items.append(line.strip().removeprefix("- "))
    return tuple(items)
